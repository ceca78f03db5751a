"""The live judge: what is looked at is scored once, what grows is scored as it grows, and its troubles stay its own."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from transformers import AutoTokenizer  # noqa: E402

from judge.scoring import Scorer  # noqa: E402
from studio import actions, api, cli, judgescreen, teaching, views  # noqa: E402
from studio.actions import Studio  # noqa: E402
from studio.config import Config  # noqa: E402
from studio.tree import Part  # noqa: E402
from tests import teach, tiny  # noqa: E402
from tests.conftest import BROKEN, ECHO, SLOW, how, plant, settle, wait  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

LEARNED = {"L4": 60, "overall": 40}
LOADS_S = 180  # what starting a process may take on a machine that is busy with other tests


def with_judges(studio: Studio, base: Path) -> Studio:
    """The same studio with the untrained judges 'one' and 'two'; none is live."""
    teach.untrained(studio.store, "one", str(base), LEARNED)
    teach.untrained(studio.store, "two", str(base), {"L1": 50, "overall": 40}, seed=1)
    return studio


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Studio]:
    """A studio whose judge 'one' is loaded: starting its process costs seconds, so the tests share it."""
    home = tmp_path_factory.mktemp("live") / "home"
    studio = with_judges(Studio.open(Config(home, annotator="ann", models=(ECHO, SLOW, BROKEN))), base)
    yield studio
    studio.close()


@pytest.fixture
def judged(opened: Studio) -> Studio:
    """That studio with 'one' live and at rest, whatever a test before did; with dialogues of other tests."""
    if opened.judge.name != "one" or opened.judge.state["state"] == "failed":
        opened.judge.promote("one")
    until = time.monotonic() + LOADS_S
    while opened.judge.state["state"] in ("loading", "scoring backlog") and time.monotonic() < until:
        time.sleep(0.05)
    assert opened.judge.state["state"] == "ready", opened.judge.state
    return opened


@pytest.fixture
def asleep(studio: Studio, base: Path) -> Studio:
    """A studio of the test's own; its judge 'one' is live and was not needed yet."""
    with_judges(studio, base).judge.choice.choose("one")
    return studio


def looked_at(studio: Studio, tree: str) -> dict[str, Any]:
    """Open a tree, wait until it is scored, and open it again: the view with its scores."""
    views.opened(studio, tree)
    assert studio.judge.settle(LOADS_S), studio.judge.note
    return views.opened(studio, tree)


def rows(studio: Studio, tree: str) -> list[dict[str, Any]]:
    return studio.store.rows(
        "SELECT * FROM judge_scores WHERE node_id IN (SELECT id FROM nodes WHERE tree_id = ?) "
        "ORDER BY judge, node_id, dimension",
        [tree],
    )


def branchy(studio: Studio, replies: int = 5) -> str:
    """A tree of one question, some replies, and a second turn under the first."""
    asked, first = plant(studio, "What is an owl?", "A bird of the night")
    tree = studio.store.node(asked).tree_id
    for i in range(replies - 1):
        studio.store.add_node(tree, asked, "assistant", [Part("text", f"Reply {i} says more " * (i + 1))])
    again = studio.store.add_node(tree, first, "user", [Part("text", "And a hedgehog?")])
    studio.store.add_node(tree, again, "assistant", [Part("text", "A small one with spines")])
    return tree


def test_opening_a_tree_scores_every_reply_once(judged: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    tree = branchy(judged)
    view = looked_at(judged, tree)
    first = rows(judged, tree)
    assert len(first) == 6 * len(LEARNED)  # only what the judge has learned
    assert {r["dimension"] for r in first} == set(LEARNED)
    (example,) = teaching.examples(judged.store, judged.media, [tree])
    home = judged.store.home
    read = Scorer.load(home / "judges" / "one", home / "backbones").tree(example)
    for r in first:
        assert r["value"] == pytest.approx(read[r["node_id"]].expected[r["dimension"]], abs=1e-4)
        assert r["spread"] == pytest.approx(read[r["node_id"]].spread[r["dimension"]], abs=1e-4)
    looked_at(judged, tree)
    assert rows(judged, tree) == first  # created_at too: nothing was scored again

    replies = [c for c in view["shared"] if c["role"] == "assistant"]
    assert replies
    assert all(set(c["judge"]) == set(LEARNED) for c in replies)
    assert all(c["judge"] is None for c in view["shared"] if c["role"] == "user")
    assert (view["judge"], view["trained"]) == ("one", LEARNED)
    assert all(n["judge"] for n in views.outline(judged, tree)["nodes"] if n["role"] == "assistant")

    assert cli.main(["score", "--judge", "one", "--tree", tree, "--home", str(home), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)["scores"]
    for r in first:
        assert r["value"] == pytest.approx(scored[r["node_id"]][r["dimension"]]["value"], abs=1e-4)


def test_a_growing_reply_is_scored_while_it_grows_and_soon_after(judged: Studio) -> None:
    question = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    looked_at(judged, branchy(judged, 1))  # it is loaded
    (reply,) = actions.ask(judged, [], question, [], how(SLOW.name))
    tree = judged.store.node(reply).tree_id
    early: list[dict[str, dict[str, Any]]] = []
    for runs in judged.live.follow(tree):  # as the page does
        judged.judge.look(tree)
        if not runs[0].over and (said := views.growing(judged, runs[0])["judge"]):
            early.append(said)
    assert early
    assert set(early[0]) == set(LEARNED)
    assert len({said["L4"]["value"] for said in early}) > 1  # it changes as the reply grows
    assert judged.judge.settle(20)
    stored = judged.store.judge_scores(tree, "one")[reply]
    home = judged.store.home
    alone = Scorer.load(home / "judges" / "one", home / "backbones").reply(judged.store.path(reply))
    assert stored["L4"][:2] == pytest.approx((alone.expected["L4"], alone.spread["L4"]), abs=1e-4)
    assert stored["L4"].logit == pytest.approx(alone.logits["L4"], abs=1e-4)
    assert stored["L4"].heads == pytest.approx(alone.heads["L4"], abs=1e-4)
    assert not judged.judge.growing


def test_a_reply_that_nobody_watches_to_its_end_is_scored(judged: Studio) -> None:
    (reply,) = actions.ask(judged, [], "one two three four five six seven eight nine ten", [], how(SLOW.name))
    tree = judged.store.node(reply).tree_id
    judged.judge.look(tree)
    wait(lambda: judged.judge.growing.get(reply), 30, "a score while it grows")
    settle(judged)
    wait(lambda: judged.store.judge_scores(tree, "one"), 30, "the score of the whole reply")


def test_a_reply_that_ends_while_it_is_read_is_scored(judged: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    process = judged.judge.process
    assert process
    read = process.reply

    def slowly(*args: Any, growing: bool = False) -> Any:
        found = read(*args, growing=growing)
        if growing:
            settle(judged)
        return found

    monkeypatch.setattr(process, "reply", slowly)
    (reply,) = actions.ask(judged, [], "one two three four five six", [], how(SLOW.name))
    tree = judged.store.node(reply).tree_id
    judged.judge.look(tree)
    settle(judged)  # nobody looks from here on
    wait(lambda: judged.store.judge_scores(tree, "one"), 15, "the score of the whole reply")  # well before IDLE_S


def test_a_reply_that_outgrows_the_judge_shows_no_score_of_its_beginning(judged: Studio) -> None:
    process = judged.judge.process
    assert process
    most = process.loaded.max_path
    question = " ".join(["x" * (most // 25)] * 60)  # the echo of it is twice as long as what the judge reads
    (reply,) = actions.ask(judged, [], question, [], how(SLOW.name))
    tree = judged.store.node(reply).tree_id
    said: list[tuple[int, bool]] = []
    for runs in judged.live.follow(tree):
        judged.judge.look(tree)
        if not runs[0].over and reply in judged.judge.growing:
            said.append((len(runs[0].text), bool(views.growing(judged, runs[0])["judge"])))
    assert any(scored for _, scored in said)
    longest, scored = said[-1]
    assert longest > 1.5 * most
    assert not scored
    assert "longer than" in judged.judge.unread(tree)[reply]
    assert judged.judge.settle(20)
    assert reply not in judged.store.judge_scores(tree, "one")


def test_replies_that_grow_are_not_kept_waiting_by_a_large_tree(judged: Studio) -> None:
    asked, _ = plant(judged, "q", "r")
    tree = judged.store.node(asked).tree_id
    with judged.store.write():
        for i in range(400):
            judged.store.add_node(tree, asked, "assistant", [Part("text", f"{i} " + "many words " * 20)])
    judged.judge.look(tree)
    wait(lambda: judged.store.judge_scores(tree, "one"), 60, "the first scores of the large tree")
    (reply,) = actions.ask(judged, [], "word " * 60, [], how(SLOW.name))
    judged.judge.look()
    wait(lambda: judged.judge.growing.get(reply), 30, "a score of the growing reply")
    assert len(judged.store.judge_scores(tree, "one")) < 401
    actions.stop(judged, [reply])
    assert judged.judge.settle(120)
    assert len(judged.store.judge_scores(tree, "one")) == 401


def test_a_new_judge_scores_anew_and_the_old_rows_stay(judged: Studio) -> None:
    tree = branchy(judged)
    looked_at(judged, tree)
    old = rows(judged, tree)
    judged.judge.promote("two")
    view = looked_at(judged, tree)
    assert [r for r in rows(judged, tree) if r["judge"] == "one"] == old
    assert {r["dimension"] for r in rows(judged, tree) if r["judge"] == "two"} == {"L1", "overall"}
    assert view["trained"] == {"L1": 50, "overall": 40}
    assert all(set(c["judge"]) == {"L1", "overall"} for c in view["shared"] if c["role"] == "assistant")


def test_a_picture_that_comes_later_scores_anew_what_stands_below_it(judged: Studio) -> None:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(data, "PNG")
    kept = judged.media.add(data.getvalue())
    judged.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "import")
    tree = judged.store.create_tree("t")
    asked = judged.store.add_node(tree, None, "user", [Part("text", "Look")])
    above = judged.store.add_node(tree, asked, "assistant", [Part("text", "At what?")])
    missing = judged.store.add_node(tree, above, "user", [Part("image", "owl.png", None, "an owl")])
    below = judged.store.add_node(tree, missing, "assistant", [Part("text", "An owl.")])
    looked_at(judged, tree)
    assert judged.store.unjudged(tree, "one") == []
    judged.store.fill_image(missing, 0, kept.sha256)  # nobody wakes the judge
    assert judged.store.unjudged(tree, "one") == [below]  # and not what stands above
    told = judged.store.judge_scores(tree, "one")
    assert {n: s["L4"].stale for n, s in told.items()} == {above: False, below: True}
    looked_at(judged, tree)
    assert judged.store.unjudged(tree, "one") == []


def test_the_path_on_the_screen_is_read_ahead(judged: Studio) -> None:
    tree = branchy(judged)
    looked_at(judged, tree)
    process = judged.judge.process
    assert process

    def kept() -> int:  # asked between the thread's own questions
        wait(
            lambda: judged.judge._leaf is None and not judged.judge._busy and judged.judge.progress is None, 60, "rest"
        )
        time.sleep(0.5)  # what was begun when it came to rest
        return process.memory().kept

    first, before = kept(), rows(judged, tree)
    last = judged.store.path(max(judged.store.tree(tree).dialogues()))
    question = judged.store.add_node(tree, last[-1].id, "user", [Part("text", "Which of them is the older one?")])
    views.opened(judged, tree, question)
    assert judged.judge.settle(60)
    assert kept() >= first + 1
    assert rows(judged, tree) == before  # it is no score


def test_ratings_newer_than_the_judge_are_told(asleep: Studio) -> None:
    tree = branchy(asleep)
    asleep.store.rate(asleep.store.tree(tree).dialogues()[0], "L1", 2, "ann")
    assert {v["name"]: v["since"] for v in judgescreen.state(asleep)["judges"]} == {"one": 1, "two": 1}
    assert api.handle(asleep, "judge_about", {"dimension": "L1"})["since"] == 1


def test_switching_off_clears(judged: Studio) -> None:
    tree = branchy(judged)
    looked_at(judged, tree)
    judged.judge.promote(None)
    wait(lambda: judged.judge.process is None, what="the memory of the judge")
    view = views.opened(judged, tree)
    assert (view["judge"], view["trained"]) == (None, {})
    assert all(c["judge"] is None for c in view["shared"])
    assert judged.judge.settle(0)
    judged.judge.promote("one")  # and on again, from what is stored
    assert all(c["judge"] for c in looked_at(judged, tree)["shared"] if c["role"] == "assistant")


def test_a_broken_judge_tells_it_and_chatting_goes_on(judged: Studio) -> None:
    tree = branchy(judged)
    judged.judge.promote(None)
    wait(lambda: judged.judge._current is None, what="the judge's end")
    weights = judged.store.home / "judges" / "one" / "judge.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    judged.judge.promote("one")
    views.opened(judged, tree)
    note = wait(lambda: "Cannot read the weights" in judged.judge.note and judged.judge.note, 60, "the note")
    assert "\n" not in note
    (reply,) = actions.ask(judged, [], "hello", [], how())
    settle(judged)
    assert judged.store.node(reply).status == "done"
    for _ in range(3):  # nor is it loaded again and again
        views.opened(judged, tree)
        assert judged.judge.settle(1)
    wait(lambda: not judged.judge._thread.is_alive(), what="the thread's end")
    assert judged.judge.note == note
    weights.write_bytes(whole)
    judged.judge.promote("one")
    assert "Cannot" not in judged.judge.note
    looked_at(judged, tree)
    assert len(judged.store.judge_scores(tree, "one")) == 6


@pytest.mark.parametrize("others", [1, 8])
def test_a_reply_that_is_too_long_is_told_and_the_others_are_scored(judged: Studio, others: int) -> None:
    tree = branchy(judged, others)
    root = next(r["id"] for r in judged.store.outline(tree) if r["parent_id"] is None)
    long = judged.store.add_node(tree, root, "assistant", [Part("text", "x" * 5000)])
    looked_at(judged, tree)
    assert len(judged.store.judge_scores(tree, "one")) == others + 1
    assert long not in judged.store.judge_scores(tree, "one")
    note = judged.judge.state["text"]
    assert "could not be scored: A " in note
    assert "longer than" in note
    assert "this judge reads" in note
    assert set(judged.judge.unread(tree)) == {long}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A backbone whose tokenizer knows a sign that its weights do not: reading it fails as nobody foresaw."""
    folder = tiny.llama(tmp_path / "odd", hidden=24, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens(["☃"]) == 1
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("others", [1, 6], ids=["alone", "among others that are read together"])
def test_a_reply_that_fails_oddly_is_named_and_the_others_are_scored(studio: Studio, odd: Path, others: int) -> None:
    teach.untrained(studio.store, "one", str(odd), LEARNED)
    studio.judge.promote("one")
    tree = branchy(studio, others)
    root = next(r["id"] for r in studio.store.outline(tree) if r["parent_id"] is None)
    fails = studio.store.add_node(tree, root, "assistant", [Part("text", "A ☃")])
    looked_at(studio, tree)
    assert studio.judge.state["state"] != "failed"
    assert studio.judge.process
    assert studio.judge.process.restarts == 0
    scored = studio.store.judge_scores(tree, "one")
    assert len(scored) == others + 1
    assert fails not in scored
    assert set(studio.judge.unread(tree)) == {fails}
    assert "The judge failed on this (IndexError: index out of range" in studio.judge.unread(tree)[fails]
    assert "1 of " in studio.judge.state["text"]
