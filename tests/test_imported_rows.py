"""Judgements of a file are checked before they come in: what says something impossible is named, or left out one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio import StudioError, exchange
from studio.actions import Studio
from studio.tree import Part
from tests.test_exchange import bench, other_studio, turn

Dump = dict[str, Any]


@pytest.fixture
def lines(studio: Studio, tmp_path: Path) -> list[Dump]:
    """A file of one tree as rows: two replies to one question, the second with a reply further down; all is judged."""
    store = studio.store
    tree = store.create_tree("t", id="tree")
    store.add_node(tree, None, "user", [Part("text", "q")], id="q")
    for name in ("a", "b"):
        store.add_node(tree, "q", "assistant", [Part("text", name)], id=name)
    store.add_node(tree, "b", "user", [Part("text", "more")], id="more")
    store.add_node(tree, "more", "assistant", [Part("text", "c")], id="c")
    store.rate("a", "L1", 2, "ann")
    store.rate("b", "tone", 9, "ann")  # an own dimension that is unknown elsewhere
    store.rate("c", "G5", -1, "ann")
    store.compare("local", "L4", "a", "b", "left", "ann")
    store.compare("global", "overall", "a", "c", "tie", "ann")
    with pytest.raises(StudioError, match="its own beginning"):
        store.compare("global", "overall", "c", "b", "left", "ann")
    store.say("a", "local", "critique", "short", "ann")
    store.mark_step("c", "b", "why", "ann")
    store.add_judge("one", "tiny", {}, "h", {}, "judges/one")
    store.rows("SELECT 1")
    with store.write() as db:
        db.execute("INSERT INTO judge_scores (judge, node_id, dimension, value, spread, logit, heads, created_at) "
                   "VALUES ('one', 'a', 'L1', 1.5, 0.2, 0.4, '[1.4, 1.6]', '2026')")  # fmt: skip
    exchange.export_studio(store, studio.media, tmp_path / "out")
    return [json.loads(line) for line in (tmp_path / "out" / "studio.jsonl").read_text().splitlines()]


def change(table: str, which: int = 0, **values: Any) -> Callable[[Dump], Any]:
    return lambda dump: dump[table][which].update(values)


BAD: dict[str, tuple[Callable[[Dump], Any], str]] = {
    "7": (change("scores", value=7), "scores of a: L1 is 7, which is no score of it: one of 0, 1, 2, 3"),
    "huge": (change("scores", value=1e308), "scores of a: L1 is 1e+308"),
    "huge whole": (change("scores", value=10**400), "scores of a: L1 is 1000"),
    "nan": (change("scores", value=float("nan")), "scores of a: L1 is nan"),
    "text": (change("scores", value="3"), "scores of a: L1 is '3'"),
    "half": (change("scores", value=2.5), "scores of a: L1 is 2.5"),
    "null": (change("scores", value=None), "scores of a: L1 is None"),
    "bool": (change("scores", value=True), "scores of a: L1 is True"),
    "-1": (change("scores", value=-1), "scores of a: L1 is -1"),
    "unknown 10": (change("scores", 1, value=10), "scores of b: tone is 10, which is no score of it: a whole number from -1 to 9"),
    "unknown -2": (change("scores", 1, value=-2), "scores of b: tone is -2"),
    "no dimension": (change("scores", dimension=4), "scores of a: dimension is 4"),
    "nowhere": (change("scores", node_id="gone"), "scores of gone: node_id is 'gone', which is no message of this tree"),
    "nobody": (change("scores", annotator=None), "scores of a: annotator is None"),
    "no time": (change("scores", created_at=7), "scores of a: created_at is 7"),
    "round": (change("scores", round=0), "scores of a: round is 0"),
    "no score": (lambda dump: dump["scores"].__setitem__(0, "L1 3"), "a row of scores lacks id"),
    "outcome": (change("comparisons", outcome="both"), "comparisons of a and b: outcome is 'both'"),
    "level": (change("comparisons", level="world"), "comparisons of a and b: level is 'world'"),
    "no siblings": (change("comparisons", right_node="c"), "comparisons of a and c: a and c are no siblings"),
    "itself": (change("comparisons", right_node="a"), "comparisons of a and a: it compares a reply with itself"),
    "its beginning": (change("comparisons", 1, left_node="b"), "comparisons of b and c: b and c lie on one path"),
    "another tree": (change("comparisons", 1, right_node="z"), "comparisons of a and z: right_node is 'z', which is no message"),
    "kind": (change("feedback", kind="praise"), "feedback of a: kind is 'praise'"),
    "words": (change("feedback", text=7), "feedback of a: text is 7"),
    "half a character": (change("feedback", text="\ud83d"), "feedback: text holds what no database can keep"),
    "step": (change("crucial_steps", leaf_id="gone"), "crucial_steps of gone and b: leaf_id is 'gone'"),
    "judge's value": (change("judge_scores", value="NaN"), "judge_scores of a: L1 is 'NaN', which is no number"),
    "judge's logit": (change("judge_scores", logit=float("inf")), "judge_scores of a: logit is inf"),
    "judge's heads": (change("judge_scores", heads='[1, "x"]'), "judge_scores of a: heads is"),
    "no judge": (change("judge_scores", judge="two"), "judge_scores of a: its judge 'two' is not in the file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_cannot_be_is_refused_or_left_out_alone(lines: list[Dump], tmp_path: Path, name: str) -> None:
    change_it, says = BAD[name]
    header, dump = lines
    tables = ("scores", "comparisons", "feedback", "crucial_steps", "judge_scores")
    before = sum(len(dump[t]) for t in tables)
    change_it(dump)
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(header) + "\n" + json.dumps(dump) + "\n")
    copy = other_studio(tmp_path)
    with pytest.raises(StudioError) as caught:
        exchange.import_path(copy.store, copy.media, path)
    assert f"bad.jsonl line 2: {says}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert copy.store.counts()["nodes"] == 0
    report = exchange.import_path(copy.store, copy.media, path, skip_bad=True)
    assert [says in line for line in report.skipped] == [True]
    after = copy.store.dump_tree("tree")
    assert len(after["nodes"]) == 5
    assert sum(len(after[t]) for t in tables) == before - 1
    assert copy.store.check() == "ok"
    copy.close()


def test_what_is_whole_comes_in_whole(lines: list[Dump], studio: Studio, tmp_path: Path) -> None:
    copy = other_studio(tmp_path)
    report = exchange.import_path(copy.store, copy.media, tmp_path / "out")
    assert report.skipped == []
    assert copy.store.dump_tree("tree") == studio.store.dump_tree("tree")
    copy.close()


def test_a_whole_number_with_a_point_is_one(lines: list[Dump], tmp_path: Path) -> None:
    header, dump = lines
    dump["scores"][0]["value"] = 2.0
    (tmp_path / "f.jsonl").write_text(json.dumps(header) + "\n" + json.dumps(dump))
    copy = other_studio(tmp_path)
    exchange.import_path(copy.store, copy.media, tmp_path / "f.jsonl")
    assert repr(copy.store.scores(["a"], "ann")) == "{'a': {'L1': 2}}"
    copy.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change("nodes", 1, parent_id="gone"), "line 2: the message a answers gone, which is not there"),
        (change("nodes", 0, parent_id="c", role="user"), "is among its own ancestors"),
        (change("nodes", 1, role="bot"), "line 2: nodes .* ?cannot be kept here"),
        (lambda dump: dump.update(scores={"a": 1}), "line 2: scores is no list of rows"),
    ],
)  # fmt: skip
def test_messages_that_are_no_tree_never_come_in(
    lines: list[Dump], tmp_path: Path, spoil: Callable[[Dump], Any], says: str
) -> None:
    header, dump = lines
    spoil(dump)
    (tmp_path / "f.jsonl").write_text(json.dumps(header) + "\n" + json.dumps(dump))
    copy = other_studio(tmp_path)
    with pytest.raises(StudioError, match=says.replace("nodes .* ?", "nodes.*")) as caught:
        exchange.import_path(copy.store, copy.media, tmp_path / "f.jsonl")
    assert "\n" not in str(caught.value)
    report = exchange.import_path(copy.store, copy.media, tmp_path / "f.jsonl", skip_bad=True)
    assert (len(report.skipped), copy.store.counts()["nodes"]) == (1, 0)
    copy.close()


@pytest.mark.parametrize("value", [9, 1e308, float("nan"), "2", 2.5, True])
def test_a_score_of_a_benchmark_row(studio: Studio, tmp_path: Path, value: Any) -> None:
    path = bench(tmp_path / "b.json", [turn("a")], score=value)
    with pytest.raises(StudioError, match="row 0: crucial_step_recognition: G3 is"):
        exchange.import_path(studio.store, studio.media, path)
    report = exchange.import_path(studio.store, studio.media, path, skip_bad=True)
    assert (report.trees, report.nodes, report.scores, len(report.skipped)) == (1, 2, 0, 1)
