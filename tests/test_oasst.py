"""OpenAssistant's trees and messages: ranks as comparisons, labels where asked, and everything odd counted or named."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judge import rubric
from studio import StudioError, exchange
from studio.actions import Studio
from studio.cli import main
from studio.exchange import json_lines

STATE = "ready_for_export"


@pytest.fixture(autouse=True)
def the_nine_alone() -> Iterator[None]:
    """Dimensions that a test adds are gone after it."""
    yield
    rubric.load_own(None)


def said(name: str, role: str = "assistant", *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A message with those below it."""
    return {"message_id": name, "text": f"text of {name}", "role": role, "lang": "en", "replies": list(replies)} | more


def tree(name: str, *replies: dict[str, Any], state: str = STATE, **more: Any) -> dict[str, Any]:
    return {"message_tree_id": name, "tree_state": state, "prompt": said(name, "prompter", *replies, **more)}


def flat(*trees: dict[str, Any]) -> list[dict[str, Any]]:
    """The message form of whole trees."""
    rows = []
    for t in trees:
        pending = [(t["prompt"], None)]
        while pending:
            m, parent = pending.pop(0)
            head = {"message_tree_id": t["message_tree_id"], "tree_state": t["tree_state"], "parent_id": parent}
            rows.append(head | {k: v for k, v in m.items() if k != "replies"})
            pending += [(r, m["message_id"]) for r in m["replies"]]
    return rows


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def take(studio: Studio, path: Path, **more: Any) -> exchange.Report:
    return exchange.import_path(studio.store, studio.media, path, **more)


def pairs(studio: Studio) -> set[tuple[str, str, str]]:
    """(better, worse, "better") or (one, other, "tie") of each current comparison, by message ids at the source."""
    name = {
        r["id"]: r["source_id"].removeprefix("oasst:") for r in studio.store.rows("SELECT id, source_id FROM nodes")
    }
    rows = studio.store.rows("SELECT * FROM current_comparisons")
    assert {(r["level"], r["dimension"], r["annotator"]) for r in rows} <= {("local", "overall", "oasst")}
    sides = {(name[r["left_node"]], name[r["right_node"]], r["outcome"]) for r in rows}
    return {
        (*sorted((a, b)), "tie") if o == "tie" else (a, b, "better") if o == "left" else (b, a, "better")
        for a, b, o in sides
    }


FAMILY = (
    said("a", rank=1),
    said("b", "assistant", said("b1", "prompter", said("c", rank=3), said("d", rank=0), said("e", rank=3)), rank=0),
    said("x"),
)
BETTER = {("b", "a", "better"), ("d", "c", "better"), ("d", "e", "better"), ("c", "e", "tie")}


@pytest.mark.parametrize("form", ["trees", "messages", "gzip", "mixed up"])
def test_ranks_become_comparisons_of_siblings_alone(studio: Studio, tmp_path: Path, form: str) -> None:
    whole = [tree("t", *FAMILY), tree("u", said("v", rank=2), said("w", rank=5))]
    rows = flat(*whole) if form in ("messages", "mixed up") else whole
    if form == "mixed up":  # rows of two trees in turn, replies before their questions
        rows = list(itertools.chain(*itertools.zip_longest(rows[:8][::-1], rows[8:][::-1])))
        rows = [r for r in rows if r]
    path = write(tmp_path / "no-name-of-theirs.txt", *rows)
    if form == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    report = take(studio, path)
    assert (report.trees, report.nodes, report.comparisons) == (2, 11, 5)
    assert pairs(studio) == BETTER | {("v", "w", "better")}
    again = take(studio, path)
    assert (again.trees, again.nodes, again.comparisons, again.known) == (0, 0, 0, 11)
    assert len(studio.store.rows("SELECT 1 FROM comparisons")) == 5
    sentence = report.sentence()
    assert "pairs of siblings that are ranked: 5; ties among them: 1" in sentence
    assert "groups of siblings with gaps in their ranks: 2" in sentence
    [t] = [t for t in studio.store.trees() if t.title == "text of t"]
    kept = studio.store.tree(t.id)
    assert [(n.text[8:], n.role) for n in kept.walk()] == [
        ("t", "user"), ("a", "assistant"), ("b", "assistant"), ("b1", "user"), ("c", "assistant"), ("d", "assistant"),
        ("e", "assistant"), ("x", "assistant")] or form == "mixed up"  # fmt: skip


def test_the_better_reply_does_not_always_stand_left(studio: Studio, tmp_path: Path) -> None:
    take(studio, write(tmp_path / "f", tree("t", *(said(f"{n * 7 % 10}", rank=n) for n in range(10)))))
    outcomes = [r["outcome"] for r in studio.store.rows("SELECT outcome FROM comparisons")]
    assert len(outcomes) == 45
    assert 10 < outcomes.count("left") < 35


def test_another_rank_for_the_same_pair_supersedes_the_old(studio: Studio, tmp_path: Path) -> None:
    first = write(tmp_path / "1", tree("t", said("a", rank=0), said("b", rank=1)))
    take(studio, first)
    take(studio, write(tmp_path / "2", tree("t", said("a", rank=1), said("b", rank=0))))
    assert pairs(studio) == {("b", "a", "better")}
    assert len(studio.store.rows("SELECT 1 FROM comparisons")) == 2


def test_what_is_odd_is_counted(studio: Studio, tmp_path: Path) -> None:
    path = write(
        tmp_path / "f",
        tree("t", said("a", rank=4, deleted=True, model_name="null"), said("b", synthetic=True, model_name="chip")),
        tree("u", said("c", review_result=False, lang="es"), rank=1),
        tree("g", said("h"), state="growing"),
        tree("i", state="aborted_low_grade"),
    )
    report = take(studio, path)
    assert (report.trees, report.nodes, report.comparisons) == (2, 5, 0)
    assert report.notes == [
        "ranks that stand alone and compare nothing: 1",
        "ranks of questions, not kept: 1",
        "deleted messages, pruned with what answers them: 1",
        "messages that review rejected, kept: 1",
        "synthetic messages: 1",
        "languages: 4 en, 1 es",
        "trees left out by their state: 1 growing, 1 aborted_low_grade (to import them: --states all)",
    ]
    rows = studio.store.rows(
        "SELECT source_id, model, pruned_at IS NOT NULL AS pruned FROM nodes WHERE role = 'assistant'"
    )
    assert {r["source_id"][6:]: (r["model"], r["pruned"]) for r in rows} == {
        "a": (None, 1), "b": ("chip", 0), "c": (None, 0)}  # fmt: skip
    assert take(studio, path, states=["growing"]).trees == 1
    assert take(studio, path, states=["all"]).trees == 1


def test_no_user_is_kept(studio: Studio, tmp_path: Path) -> None:
    take(studio, write(tmp_path / "f", tree("t", said("a", user_id="9f-secret"), user_id="9f-secret")))
    studio.store.rows("SELECT 1")
    assert b"9f-secret" not in studio.store.file.read_bytes()


def test_a_missing_question_is_an_empty_one_until_it_comes(studio: Studio, tmp_path: Path) -> None:
    whole = tree("t", said("a", rank=0), said("b", "assistant", said("q", "prompter"), rank=1))
    rows = flat(whole)
    report = take(studio, write(tmp_path / "1", *rows[1:]))
    assert (report.trees, report.nodes, report.comparisons) == (1, 4, 1)
    assert "messages whose parent is missing: 2" in report.sentence()
    [found] = studio.store.rows("SELECT id, role FROM nodes WHERE parent_id IS NULL")
    assert found["role"] == "user"
    assert studio.store.node(found["id"]).text == ""
    assert pairs(studio) == {("a", "b", "better")}
    take(studio, write(tmp_path / "2", *rows))
    assert studio.store.node(found["id"]).text == "text of t"
    assert studio.store.counts()["nodes"] == 4


def test_a_reply_that_begins_a_tree_gets_a_question(studio: Studio, tmp_path: Path) -> None:
    take(studio, write(tmp_path / "f", {"message_tree_id": "t", "tree_state": STATE, "prompt": said("a")}))
    rows = studio.store.rows("SELECT role FROM nodes ORDER BY id")
    assert [r["role"] for r in rows] == ["user", "assistant"]


BAD = {
    "rank": ([tree("t", said("a", rank="first"))], "line 1: message a: rank is 'first'"),
    "no rank": ([tree("t", said("a", rank=True))], "line 1: message a: rank is True"),
    "role": ([tree("t", said("a", "bot"))], "line 1: message a: role is 'bot'"),
    "text": ([tree("t", said("a", text=None))], "line 1: message a: text is None"),
    "deleted": ([tree("t", said("a", deleted="no"))], "line 1: message a: deleted is 'no'"),
    "twice": ([tree("t", said("a"), said("a"))], "line 1: the message a is there twice"),
    "twice, messages": ([*flat(tree("t", said("a"))), *flat(tree("t", said("a")))[1:]], "line 3: the message a is there twice"),
    "in two trees": ([tree("t", said("a")), tree("u", said("a"))], "line 2: the message a is in another tree"),
    "two voices": ([tree("t", said("a", "assistant", said("b")))], "line 1: the message b answers one of the same role"),
    "other parent": ([tree("t", said("a", parent_id="z"))], "line 1: the message a names another parent"),
    "a list": ([tree("t"), ["x"]], "line 2: it is no tree and no message"),
    "no id": ([tree("t"), {"prompt": {}}], "line 2: message_tree_id is None"),
    "cycle": (
        [*flat(tree("t")), *({"message_tree_id": "t", "tree_state": STATE, "message_id": m, "parent_id": p, "text": "", "role": r}
                             for m, p, r in (("a", "b", "assistant"), ("b", "a", "prompter")))],
        "line 2: the message a is among its own ancestors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_and_can_be_skipped(studio: Studio, tmp_path: Path, name: str) -> None:
    rows, says = BAD[name]
    good = tree("good", said("better", rank=0), said("worse", rank=1))
    path = write(tmp_path / "file", *rows, *(flat(good) if "parent_id" in rows[0] else [good]))
    with pytest.raises(StudioError) as caught:
        take(studio, path)
    assert f"file {says}" in str(caught.value)
    assert "\n" not in str(caught.value)
    report = take(studio, path, skip_bad=True)
    assert [says in line for line in report.skipped] == [True]
    assert pairs(studio) == {("better", "worse", "better")}


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_was_cut_short(studio: Studio, tmp_path: Path, packed: bool) -> None:
    path = write(tmp_path / "cut", tree("t", said("a")), tree("u", said("b")))
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole)[:-20] if packed else whole[:-20])
    with pytest.raises(StudioError, match="cut short") as caught:
        take(studio, path, format="oasst")
    assert "\n" not in str(caught.value)
    if not packed:
        assert "cut line 2" in str(caught.value)
        report = take(studio, path, skip_bad=True)
        assert (report.trees, len(report.skipped)) == (1, 1)


def test_five_thousand_replies_below_each_other(studio: Studio, tmp_path: Path) -> None:
    depth = 5000
    text = '{"message_tree_id": "0", "tree_state": "ready_for_export", "prompt": '
    for i in range(depth):
        text += f'{{"message_id": "{i}", "text": "{i}", "role": "{("prompter", "assistant")[i % 2]}", "replies": ['
    path = tmp_path / "deep"
    path.write_text(text + "]}" * depth + "}\n")
    report = take(studio, path)
    assert (report.trees, report.nodes) == (1, depth)
    [leaf] = studio.store.tree(studio.store.tree_ids()[0]).dialogues()
    assert len(studio.store.path(leaf)) == depth


def test_deep_json_is_read_as_the_library_reads_it() -> None:
    for text in ('{"a": [1, {"b": null, "c": [[], {}, "x\\"y"]}, -2.5e3], "": true}', " [ ] ", "3", "[[1],[2 , 3]]"):
        assert json_lines._loads_deep(text) == json.loads(text)
    for text in ("[1 2]", "[1,]", '{"a" 1}', '{"a": 1,}', "[", '{"a": ', "[1]]", "{1: 2}", ""):
        with pytest.raises(json.JSONDecodeError):
            json_lines._loads_deep(text)


LABELS = {
    "quality": {"value": 0.625, "count": 4},
    "helpfulness": {"value": 1.0, "count": 1},
    "spam": {"value": 0, "count": 3},
}


@pytest.mark.parametrize("parallel", [False, True])
def test_label_averages_are_scores_where_asked(studio: Studio, tmp_path: Path, parallel: bool) -> None:
    labels: Any = LABELS
    if parallel:
        labels = {"name": list(LABELS), "value": [v["value"] for v in LABELS.values()], "count": [1, 1, 1]}
    path = write(tmp_path / "f", tree("t", said("a", labels=labels), labels=labels))
    assert take(studio, path).scores == 0
    report = take(studio, path, labels=["quality", "helpfulness"])
    assert report.scores == 2  # of the reply; a question has none
    rows = studio.store.rows("SELECT dimension, value, annotator FROM current_scores ORDER BY dimension")
    assert [tuple(r.values()) for r in rows] == [("oa_helpful", 4, "oasst"), ("oa_quality", 3, "oasst")]
    assert "label averages rounded to five steps: 1" in report.sentence()
    assert "2 dimensions were added" in report.sentence()
    assert rubric.dimensions()["oa_quality"].values == (0, 1, 2, 3, 4)
    assert take(studio, path, labels=["quality", "helpfulness"]).scores == 0
    assert take(studio, path, labels=["all"]).scores == 1
    own = json.loads((studio.config.home / "rubric.json").read_text())["dimensions"]
    assert len(own) == len({d["code"] for d in own}) == 13


def test_a_dimension_with_another_meaning_is_not_touched(studio: Studio, tmp_path: Path) -> None:
    mine = {"code": "oa_quality", "key": "mine", "name": "Mine", "level": "local", "values": [0, 1], "asks": "?",
            "levels": {"0": "no", "1": "yes"}}  # fmt: skip
    file = studio.config.home / "rubric.json"
    file.write_text(json.dumps({"dimensions": [mine]}))
    before = file.read_bytes()
    path = write(tmp_path / "f", tree("t", said("a", labels=LABELS)))
    with pytest.raises(StudioError, match=r"oa_quality with another meaning.*without --labels"):
        take(studio, path, labels=["quality"])
    assert (file.read_bytes(), studio.store.counts()["nodes"]) == (before, 0)
    assert take(studio, path, labels=["helpfulness"]).scores == 1
    assert json.loads(file.read_text())["dimensions"][0] == mine
    with pytest.raises(StudioError, match="no label 'charm'"):
        take(studio, path, labels=["charm"])


@pytest.mark.parametrize("value", [1.5, -0.1, "0.5", None, True, float("nan"), 1e308])
def test_an_average_that_is_none_is_named(studio: Studio, tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "f", tree("t", said("a", labels={"quality": {"value": value, "count": 1}})))
    with pytest.raises(StudioError, match="f line 1: message a: its label 'quality' is"):
        take(studio, path, labels=["quality"])
    assert take(studio, path).trees == 1  # nobody asked for it


def test_progress_counts_trees_in_one_unit(studio: Studio, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None, str]] = []
    take(studio, write(tmp_path / "f", tree("t", said("a")), tree("u")), progress=lambda *step: steps.append(step))
    assert steps == [(1, 2, "trees"), (2, 2, "trees")]  # a unit that changes is a new bar on the screen


def test_the_command_line(own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "f", tree("t", *FAMILY), tree("u", said("v", labels=LABELS), state="growing"))
    assert main(["import", str(path), "--states", f"{STATE},growing", "--labels", "quality,spam", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trees"], told["comparisons"], told["scores"]) == (2, 4, 2)
    assert (own_home / "rubric.json").is_file()


def test_the_real_trees(studio: Studio, shared: Path) -> None:
    file = shared / "oasst_trees.jsonl"
    if not file.is_file():
        pytest.skip(f"no OpenAssistant trees at {file}: this test needs them")
    expected = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        pending = [json.loads(line)["prompt"]]
        while pending:
            ranked = sorted((m["rank"], m["message_id"]) for m in pending[-1]["replies"] if m.get("rank") is not None)
            pending += pending.pop()["replies"]
            expected |= {(a, b, "better") for (_, a), (_, b) in itertools.combinations(ranked, 2)}
    report = take(studio, file)
    assert (report.trees, report.nodes, report.comparisons) == (221, 2404, 1323)
    assert pairs(studio) == expected
    assert "1 growing" in report.sentence()
    rest = take(studio, file, states=["all"])
    assert (rest.trees, rest.nodes, rest.comparisons, rest.known) == (1, 1, 0, 2404)
    messages = shared / "formats" / "misc" / "oasst_messages.jsonl"
    rows = [json.loads(line) for line in messages.read_text(encoding="utf-8").splitlines()]
    report = take(studio, messages)
    assert report.known + report.nodes == len(rows)
    assert not report.skipped
