"""Judges side by side: trained ones and chat models, what they say, what they may claim, and what happens when one fails."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from sklearn.metrics import accuracy_score  # noqa: E402

from backends import ModelSpec  # noqa: E402
from judge.scoring import Scorer  # noqa: E402
from studio import StudioError, annotating, api, panel, panelwork, teaching  # noqa: E402
from studio.actions import Studio  # noqa: E402
from studio.tree import Part  # noqa: E402
from tests import servers, teach  # noqa: E402
from tests.conftest import ECHO, plant, wait  # noqa: E402
from tests.test_annotating import queue  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

LEARNED = {"L4": 60, "overall": 40}
GOOD = '```json\n{"overall": 2, "L1": 3, "L2": 1, "L3": 2, "L4": 0, "G1": 3, "G5": -1}\n```'


def judge(
    studio: Studio, name: str, base: Path, seed: int, train: list[str], validation: list[str] | None = None
) -> None:
    """A judge whose card says which trees it learned from."""
    folder = teach.untrained(studio.store, name, str(base), LEARNED, seed=seed)
    card = json.loads((folder / "card.json").read_text())
    split = {"train": train, "validation": validation or [], "test": [], "seed": 0}
    (folder / "card.json").write_text(json.dumps(card | {"split": split}))


@pytest.fixture
def rated(studio: Studio, base: Path) -> tuple[Studio, list[str]]:
    """Twenty rated trees; 'one' learned from the first four and chose by the fifth, 'two' learned from the last two."""
    trees = teach.rate(studio.store, 20)
    judge(studio, "one", base, 0, trees[:4], trees[4:5])
    judge(studio, "two", base, 1, trees[-2:])
    return studio, trees


def says(*texts: str) -> list[servers.Answer]:
    return [servers.events(servers.piece(t), servers.piece(finish="stop")) for t in texts]


def asking(studio: Studio, url: str, name: str = "Clever") -> str:
    """Put a chat model on a server into the list; returns its name as a judge."""
    spec = ModelSpec(name, "openai", {"model": "m", "base_url": url, "timeout_s": 5})
    studio.config = replace(studio.config, models=(spec, ECHO))
    return panelwork.row_name(spec)


def call(studio: Studio, name: str, **data: Any) -> dict[str, Any]:
    return api.handle(studio, name, data)


def over(studio: Studio) -> list[dict[str, Any]]:
    """Wait until no task is at work; returns them."""
    wait(lambda: all(t.over for t in panelwork.background(studio).tasks()), 180, "the end of all tasks")
    return call(studio, "panel")["tasks"]


def done(studio: Studio, name: str, **data: Any) -> list[dict[str, Any]]:
    answer = call(studio, name, **data)
    assert "error" not in answer, answer
    return over(studio)


# ---- columns


def test_two_trained_judges_score_a_dialogue_as_the_command_does(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    tree = trees[0]
    before = call(studio, "panel", chosen=["one", "two"], tree=tree)
    assert [j["name"] for j in before["judges"]][:2] == ["two", "one"]
    assert before["shown"]["missing"] == {"one": 2, "two": 2}
    tasks = done(studio, "panel_start", chosen=["one", "two"], tree=tree)
    assert [(t["state"], t["done"], t["total"], t["error"]) for t in tasks] == [("done", 2, 2, "")] * 2
    after = call(studio, "panel", chosen=["one", "two"], tree=tree)
    assert after["shown"]["missing"] == {"one": 0, "two": 0}
    (example,) = teaching.examples(studio.store, studio.media, [tree])
    for name in ("one", "two"):
        read = Scorer.load(studio.store.home / "judges" / name, studio.store.home / "backbones").tree(example)
        for row in after["shown"]["rows"]:
            kept, shown = studio.store.judge_scores(tree, name)[row["id"]], row["said"][name]
            assert {d: one.logit for d, one in kept.items()} == pytest.approx(
                {d: read[row["id"]].logits[d] for d in LEARNED}, abs=1e-4
            )
            assert shown["L4"]["value"] == pytest.approx(read[row["id"]].expected["L4"], abs=1e-4)
            assert "value" not in shown["overall"]  # it learned from comparisons: a rank, and how surely
        assert {row["said"][name]["overall"]["rank"] for row in after["shown"]["rows"]} == {1, 2}
    assert (
        call(studio, "panel_start", chosen=["one", "two"], tree=tree)["error"]
        == "The chosen judges have scored all of this already."
    )


def test_where_they_part_the_largest_difference_first(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    a, b = (r["id"] for r in call(studio, "panel", tree=trees[0])["shown"]["rows"])
    said = {
        "one": {a: {"L4": 2.0, "overall": 1.0}, b: {"L4": 3.0}},
        "two": {a: {"L4": 1.5, "overall": 2.5}, b: {"L4": 0.5}},
    }
    for name, by in said.items():
        studio.store.save_judge_scores(name, [(n, d, v, 0.1) for n, s in by.items() for d, v in s.items()])
    apart = call(studio, "panel", chosen=["one", "two"], tree=trees[0])["shown"]["apart"]
    assert [(p["id"], p["dimension"]) for p in apart] == [(b, "L4"), (a, "L4")]
    assert [p["gap"] for p in apart] == pytest.approx([2.5 / 3, 0.5 / 3])  # of the scale
    assert {name: one["value"] for name, one in apart[0]["said"].items()} == {"one": 3.0, "two": 0.5}
    assert call(studio, "panel", chosen=["one"], tree=trees[0])["shown"]["apart"] == []


def test_the_path_that_is_open_comes_first_and_pruned_replies_do_not(studio: Studio) -> None:
    q, a, q2, a2 = plant(studio, "q", "a", "more?", "a2")
    tree = studio.store.node(q).tree_id
    b, c = (studio.store.add_node(tree, q, "assistant", [Part("text", t)]) for t in "bc")
    rows = call(studio, "panel", tree=tree, leaf=b)["shown"]["rows"]
    assert [(r["id"], r["turn"], r["path"], r["end"]) for r in rows] == [
        (b, 1, True, True), (a, 1, False, False), (c, 1, False, True), (a2, 2, False, True)]  # fmt: skip
    studio.store.prune(q2)
    rows = call(studio, "panel", tree=tree, leaf="gone")["shown"]["rows"]
    assert [(r["id"], r["end"]) for r in rows] == [(a, True), (b, True), (c, True)]
    assert call(studio, "panel", tree="no such tree")["shown"] is None


def test_blind_keeps_all_of_it_on_the_server_until_the_vote(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    _, b, *_ = plant(studio, "q", "r")
    tree = studio.store.node(b).tree_id
    for name, value in (("one", 3.0), ("two", 0.0)):
        studio.store.save_judge_scores(name, [(b, d, value, 0.1) for d in ("L1", "L4", "overall", "G1")])

    def shown() -> tuple[dict[str, Any], bool, list[Any]]:
        found = call(studio, "panel", chosen=["one", "two"], tree=tree, blind=True)["shown"]
        return found["rows"][0]["said"], found["rows"][0]["waits"], found["apart"]

    assert shown() == ({"one": {}, "two": {}}, True, [])
    for dimension in ("L1", "L2", "L3"):
        studio.store.rate(b, dimension, 1, "ann")
    assert shown()[0] == {"one": {}, "two": {}}
    studio.store.rate(b, "L4", 1, "ann")
    said, waits, apart = shown()
    assert set(said["one"]) == {"L1", "L4", "overall"}  # what they say of the dialogue waits on
    assert waits
    assert len(apart) == 1
    for dimension in ("G1", "G2", "G3", "G4", "G5"):
        studio.store.rate(b, dimension, 1, "ann")
    assert set(shown()[0]["one"]) == {"L1", "L4", "overall", "G1"}


def test_at_most_three_and_only_known_ones(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    assert "choose at most 3" in call(studio, "panel", chosen=["a", "b", "c", "d"])["error"]
    assert call(studio, "panel", chosen=["one", "nobody"], tree=trees[0])["chosen"] == ["one"]
    assert (
        call(studio, "panel_start", chosen=["nobody"], tree=None)["error"] == "No judge is chosen. Choose two or three."
    )


# ---- what may be claimed


def test_agreement_is_measured_on_unseen_trees_only(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    first = call(studio, "panel_agreement", chosen=["one", "two"])["judges"]
    assert [(j["name"], j["left_out"], j["trees"], j["missing"], j["rows"]) for j in first] == [("one", 5, 15, 30, []), ("two", 2, 18, 36, [])]  # fmt: skip
    done(studio, "panel_start", chosen=["one", "two"], tree=None)
    studio.store.save_judge_scores(
        "one", [(n, "L4", 3.0, 0.0) for t in trees[:5] for n in replies(studio, t)]
    )  # never counted
    for found, unseen in zip(
        call(studio, "panel_agreement", chosen=["one", "two"])["judges"], (trees[5:], trees[:-2]), strict=True
    ):
        assert found["missing"] == 0
        rows = {r["dimension"]: r for r in found["rows"]}
        nodes = [n for t in unseen for n in replies(studio, t)]
        human = [v["L4"] for v in studio.store.scores(nodes, "ann").values()]
        said = {n: s for t in unseen for n, s in studio.store.judge_scores(t, found["name"]).items()}
        by_judge = [round(said[n]["L4"][0]) for n in studio.store.scores(nodes, "ann")]
        assert rows["L4"]["scores"]["n"] == 2 * len(unseen)
        assert rows["L4"]["scores"]["agreement"]["value"] == pytest.approx(accuracy_score(human, by_judge))
        assert rows["L4"]["scores"]["constant"] == {"says": 3, "value": 0.5, "interval": [0.5, 0.5]}
        preferred = [said[a]["overall"][0] > said[b]["overall"][0] for a, b in (replies(studio, t) for t in unseen)]
        assert rows["overall"]["pairs"]["accuracy"] == pytest.approx(sum(preferred) / len(unseen))
        assert rows["overall"]["pairs"]["interval"] is not None


def replies(studio: Studio, tree: str) -> list[str]:
    """The better reply of a tree, and the worse one."""
    return [r["id"] for r in studio.store.outline(tree) if r["role"] == "assistant"]


def test_other_peoples_labels_are_not_yours(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    _, b = plant(studio, "q", "r")
    studio.store.rate(b, "L4", 2, "bob")
    studio.store.rate(b, "L4", 2, "ann", 2)
    studio.store.save_judge_scores("one", [(b, "L4", 2.0, 0.0)])
    [found] = call(studio, "panel_agreement", chosen=["one"])["judges"]
    assert (found["trees"], found["rows"]) == (15, [])


def test_a_correction_of_yours_is_what_a_judge_is_held_against(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    _, b = plant(studio, "q", "r")
    studio.store.rate(b, "L4", 0, "ann")
    studio.store.rate(b, "L4", 2, "ann", 2)
    studio.store.save_judge_scores("one", [(b, "L4", 2.0, 0.0)])
    [found] = call(studio, "panel_agreement", chosen=["one"])["judges"]
    [row] = [row for row in found["rows"] if row["dimension"] == "L4"]
    assert (row["scores"]["n"], row["scores"]["agreement"]["value"]) == (1, 1.0)


def picture(studio: Studio, side: int) -> Part:
    """Always the same motif, in another size."""
    out, rng = io.BytesIO(), random.Random(0)
    motif = Image.frombytes("L", (8, 8), rng.randbytes(64)).resize((side, side), Image.Resampling.BICUBIC)
    motif.save(out, "PNG")
    kept = studio.media.add(out.getvalue())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "import")
    return Part("image", "motif.png", kept.sha256, "a motif")


@pytest.mark.parametrize("shared", ["question", "picture"])
def test_what_a_judge_learned_from_somebody_else_is_not_unseen(studio: Studio, base: Path, shared: str) -> None:
    def dialogue(question: str, side: int, who: str) -> str:
        tree = studio.store.create_tree(question)
        parts = [Part("text", question), *([picture(studio, side)] if side else [])]
        asked = studio.store.add_node(tree, None, "user", parts)
        studio.store.rate(studio.store.add_node(tree, asked, "assistant", [Part("text", "r")]), "L4", 2, who)
        return tree

    alike = shared == "question"
    theirs = dialogue("What is an owl?", 0 if alike else 64, "bob")
    mine = dialogue("What is an owl?" if alike else "Who is that?", 0 if alike else 96, "ann")
    other = dialogue("Where do hedgehogs live?", 0, "ann")
    judge(studio, "one", base, 0, [theirs])
    judge(studio, "two", base, 0, [other])
    one, two = call(studio, "panel_agreement", chosen=["one", "two"])["judges"]
    assert (one["trees"], one["left_out"]) == (1, 1)
    assert (two["trees"], two["left_out"]) == (1, 1)
    left = panel._left(studio, panelwork.judges(studio)["one"], None)
    assert set(left) == {other}
    assert mine not in left


def test_a_judge_that_does_not_say_what_it_learned_from_claims_nothing(
    rated: tuple[Studio, list[str]], base: Path
) -> None:
    studio, _ = rated
    teach.untrained(studio.store, "old", str(base), LEARNED)
    [found] = call(studio, "panel_agreement", chosen=["old"])["judges"]
    assert (found["trees"], found["left_out"], found["rows"]) == (0, 20, [])
    assert "does not say which dialogues it learned from" in found["why"]
    (studio.store.home / "judges" / "old" / "card.json").write_text("{")
    assert "The card of the judge old cannot be read" in call(studio, "panel_agreement", chosen=["old"])["error"]


def test_two_versions_on_what_neither_has_seen(rated: tuple[Studio, list[str]], base: Path) -> None:
    studio, trees = rated
    before = call(studio, "panel_versions", a="one", b="two")
    assert (before["trees"], before["left_out"], before["missing"], before["nothing"], before["rows"]) == (
        13,
        7,
        52,
        "",
        [],
    )
    done(studio, "panel_score_versions", a="one", b="two")
    after = call(studio, "panel_versions", a="one", b="two")
    rows = {r["dimension"]: r for r in after["rows"]}
    assert after["missing"] == 0
    # they were compared: their scores make no pair of their own
    assert (rows["L4"]["pairs"]["n"], rows["L4"]["error"]["n"], rows["overall"]["pairs"]["n"]) == (0, 26, 13)
    right = {}
    for name in ("one", "two"):
        said = {n: s for t in trees[5:-2] for n, s in studio.store.judge_scores(t, name).items()}
        right[name] = sum(said[a]["overall"][0] > said[b]["overall"][0] for a, b in (replies(studio, t) for t in trees[5:-2])) / 13  # fmt: skip
    assert rows["overall"]["pairs"]["difference"] == pytest.approx(right["one"] - right["two"])
    judge(studio, "all", base, 2, trees)
    assert (
        "no dialogue that you rated and neither of them learned from: all 20"
        in call(studio, "panel_versions", a="one", b="all")["nothing"]
    )
    for a, b in (("one", "one"), ("one", "nobody"), ("one", panelwork.row_name(ECHO))):
        assert "Choose two different trained judges" in call(studio, "panel_versions", a=a, b=b)["error"]


def test_nothing_rated_yet_is_said(studio: Studio, base: Path) -> None:
    for i, name in enumerate(("one", "two")):
        judge(studio, name, base, i, [])
    assert "You have rated nothing yet" in call(studio, "panel_versions", a="one", b="two")["nothing"]


# ---- a chat model as a judge


def test_a_chat_model_answers_and_its_scores_are_rows_that_stay(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    with servers.scripted(*says(GOOD)) as server:
        name = asking(studio, server.base_url)
        [task] = done(studio, "panel_start", chosen=[name], tree=trees[0])
        assert (task["state"], task["done"], task["error"], task["note"]) == ("done", 2, "", "")
        [sent, _] = server.requests
    assert [m["role"] for m in sent.body["messages"]] == ["system", "user"]
    assert sent.body["temperature"] == 0.0
    assert "[L4" not in name
    [row] = studio.store.judges("zero-shot")
    assert (row["name"], row["base"], row["config"]["kind"], row["config"]["prompt"], row["metrics"]) == (
        name,
        "Clever",
        "zero-shot",
        1,
        {},
    )
    assert "zero-shot" in row["name"]
    assert name not in {
        j["name"] for j in studio.store.judges()
    }  # it is no version: it cannot be promoted, tested or removed
    assert server.base_url not in json.dumps(row)
    rows = call(studio, "panel", chosen=[name], tree=trees[0])["shown"]["rows"]
    shown = rows[0]["said"][name]
    assert {d: (one["value"], one["spread"], one["low"]) for d, one in shown.items()} == {
        "overall": (2.0, None, 0), "L1": (3.0, None, 0), "L2": (1.0, None, 0), "L3": (2.0, None, 0), "L4": (0.0, None, 0),
        "G1": (3.0, None, 0), "G5": (-1.0, None, -1)}  # fmt: skip
    [found] = call(studio, "panel_agreement", chosen=[name])["judges"]
    assert (found["left_out"], found["trees"], found["missing"]) == (0, 20, 38)
    assert {r["dimension"]: (r["scores"] or {}).get("n") for r in found["rows"]} == {"overall": None, "L4": 2}
    studio.config = replace(studio.config, models=(ECHO,))
    [gone] = [j for j in call(studio, "panel", chosen=[name])["judges"] if j["name"] == name]
    assert (gone["label"], gone["can"]) == ("Clever", False)
    assert "is not among the models any more" in call(studio, "panel_start", chosen=[name], tree=trees[1])["error"]


def test_a_local_reply_is_not_asked_about_the_dialogue(studio: Studio) -> None:
    _, a, _, b = plant(studio, "q", "a", "more?", "b")
    with servers.scripted(*says(GOOD)) as server:
        name = asking(studio, server.base_url)
        done(studio, "panel_start", chosen=[name], tree=studio.store.node(a).tree_id)
        asked = [json.dumps(r.body["messages"]) for r in server.requests]
    assert ['"G1' in a or "G1 (" in a for a in asked] == [False, True]
    said = studio.store.judge_scores(studio.store.node(a).tree_id, name)
    assert "G1" not in said[a]
    assert said[b]["G1"][:2] == (3.0, None)


def test_rubbish_and_half_answers_give_no_score_and_are_told(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    with servers.scripted(
        *says("I think it is <b>lovely</b>!", '{"L1": 3, "L4": 2', GOOD, '{"L1": 9, "L4": 1}')
    ) as server:
        name = asking(studio, server.base_url)
        for tree in trees[:2]:
            tasks = done(studio, "panel_start", chosen=[name], tree=tree)
            if tree == trees[0]:
                assert tasks[0]["note"] == '2 of 2 answers gave no score, the last one: “{"L1": 3, "L4": 2”'
                assert studio.store.judge_scores(tree, name) == {}
        said = studio.store.judge_scores(trees[1], name)
        assert sorted(map(len, said.values())) == [1, 7]
    assert call(studio, "panel", chosen=[name], tree=trees[0])["shown"]["missing"] == {name: 2}  # it can be asked again


@pytest.mark.parametrize("broken", [lambda: servers.status(500, {"error": {"message": "out of\nmemory"}}), None])
def test_a_dead_server_is_one_clear_line(
    rated: tuple[Studio, list[str]], broken: Callable[[], servers.Answer] | None
) -> None:
    studio, _ = rated
    if broken:
        with servers.scripted(broken()) as server:
            name = asking(studio, server.base_url)
            [task] = done(studio, "panel_start", chosen=[name], tree=None)
            assert len(server.requests) == 2  # it is not asked forty times
    else:
        name = asking(studio, f"http://127.0.0.1:{servers.free_port()}/v1")
        [task] = done(studio, "panel_start", chosen=[name], tree=None)
        assert "Cannot reach" in task["error"]
    assert task["state"] == "failed"
    assert task["error"]
    assert "\n" not in task["error"]
    call(studio, "panel_cancel", key=task["key"])
    assert call(studio, "panel")["tasks"] == []


def test_one_failure_among_many_is_passed_over(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    tree = studio.store.node(plant(studio, "q", "a", "b?", "b", "c?", "c")[0]).tree_id
    good = says(GOOD)[0]
    with servers.scripted(good, servers.status(500, {"error": {"message": "broken"}}), good) as server:
        name = asking(studio, server.base_url)
        [task] = done(studio, "panel_start", chosen=[name], tree=tree)
    assert (task["state"], task["done"]) == ("done", 3)
    assert task["note"].startswith("One reply was not judged:")
    assert call(studio, "panel", chosen=[name], tree=tree)["shown"]["missing"] == {name: 1}


def test_asking_can_be_cancelled_and_what_was_judged_stays(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    slow = servers.events(
        servers.piece(GOOD), *[servers.piece(" ") for _ in range(200)], servers.piece(finish="stop"), pause_s=0.05
    )
    with servers.scripted(says(GOOD)[0], slow) as server:
        name = asking(studio, server.base_url)
        call(studio, "panel_start", chosen=[name], tree=None)
        wait(lambda: len(server.requests) == 2, 20, "the second request")
        assert "is under way already" in call(studio, "panel_start", chosen=[name], tree=None)["error"]
        call(studio, "panel_cancel", key=f"score {name}")
        [task] = over(studio)
    assert (task["state"], task["done"], task["total"], task["error"]) == ("cancelled", 1, 40, "")
    assert len(studio.store.rows("SELECT DISTINCT node_id FROM judge_scores WHERE judge = ?", [name])) == 1


def test_the_echo_is_no_judge_and_says_so(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    name = panelwork.row_name(ECHO)
    [task] = done(studio, "panel_start", chosen=[name], tree=trees[0])
    assert task["note"].startswith("2 of 2 answers gave no score, the last one: “**This is an echo")


def test_other_settings_or_another_rubric_are_another_judge() -> None:
    spec = ModelSpec("Größe/7b", "openai", {"model": "m", "base_url": "http://127.0.0.1:1/v1"})
    name = panelwork.row_name(spec)
    assert name == panelwork.row_name(replace(spec, settings=dict(spec.settings)))
    assert name != panelwork.row_name(replace(spec, settings=spec.settings | {"model": "n"}))
    assert panelwork.row_name(ModelSpec("你好" * 50, "echo")).startswith("zero-shot-model-")


def test_a_zero_shot_judge_never_decides_what_a_queue_asks(rated: tuple[Studio, list[str]]) -> None:
    studio, trees = rated
    a, b = replies(studio, trees[0])
    studio.store.save_judge_scores("two", [(a, "L4", 1.0, 0.1), (b, "L4", 1.0, 0.9)])
    studio.store.add_judge("zero-shot-x-1", "x", {"kind": "zero-shot"}, "", {}, "")
    studio.store.save_judge_scores("zero-shot-x-1", [(a, "L4", 3.0, 5.0)])
    studio.store.rate(a, "L4", 2, "ann")
    apart = {c.id: c.apart for c in studio.store.candidates("ann", 1, "local", [trees[0]])}
    assert apart == {a: 1.0, b: 0.0}  # as the trained judge has it
    annotating.plan(studio, "rate", "unsure", 10, [trees[0]])
    assert queue(studio) == [(b,), (a,)]


# ---- export


def test_a_merged_export_is_whole_and_tells_where_it_is(rated: tuple[Studio, list[str]]) -> None:
    from transformers import AutoModel

    studio, _ = rated
    [task] = done(studio, "panel_export", judge="one")
    folder = studio.store.home / "exports" / "one-merged"
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert (task["state"], task["note"]) == ("done", f"It is in {folder}: {size / 1e6:.1f} MB.")
    assert AutoModel.from_pretrained(folder).config.hidden_size == 48
    assert (folder / "score_head.safetensors").is_file()
    [again] = done(studio, "panel_export", judge="one")  # a judge never changes: nothing is written twice
    assert again["note"] == task["note"]
    for name in ("nobody", "../one", panelwork.row_name(ECHO)):
        assert "There is no trained judge" in call(studio, "panel_export", judge=name)["error"]


def test_an_export_that_cannot_be_written_is_one_line(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    (studio.store.home / "exports").write_text("in the way")
    [task] = done(studio, "panel_export", judge="one")
    assert task["state"] == "failed"
    assert "exports" in task["error"]
    assert "\n" not in task["error"]


def test_work_ends_with_the_studio(rated: tuple[Studio, list[str]]) -> None:
    studio, _ = rated
    with servers.scripted(servers.silence) as server:
        name = asking(studio, server.base_url)
        call(studio, "panel_start", chosen=[name], tree=None)
        wait(lambda: server.requests, 20, "the first request")
        panelwork.background(studio).close()
        [task] = panelwork.background(studio).tasks()
    assert task.state == "cancelled"
    with pytest.raises(StudioError, match="There is no trained judge"):
        panel.export_merged(studio, "nobody")


def test_a_stale_score_is_nobodys_opinion_of_what_stands_there_now() -> None:
    row = {"judge": "one", "dimension": "L4", "value": 2.0, "spread": 0.1, "logit": 1.0, "stale_at": None}
    said = panel._by_judge([row | {"node_id": "a"}, row | {"node_id": "b", "stale_at": "2026-01-01"}])
    assert set(said["one"]) == {"a"}
