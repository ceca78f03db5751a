"""The Judge screen's state: called every second while something trains, so what is slow is made anew only when it changed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio import actions, api, exchange, judgescreen
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import plant


def judged(studio: Studio, node: str, value: float) -> None:
    studio.store.save_judge_scores("one", [(node, "L4", value, 0.1, value)])


def test_what_a_judge_says_makes_no_new_data_card(studio: Studio) -> None:
    _, a, _, b = plant(studio, "q", "a", "q2", "b")
    studio.store.rate(a, "L4", 2, "ann")
    studio.store.add_judge("one", "base", {}, "none", {}, "judges/one")
    first = judgescreen.state(studio)["data"]
    stamp = studio.store.stamp()
    judged(studio, b, 1.0)  # as the live judge does all the time
    assert studio.store.stamp() != stamp
    assert judgescreen.state(studio)["data"] is first
    studio.store.rate(b, "L4", 1, "ann")
    second = judgescreen.state(studio)["data"]
    assert second is not first
    assert sum(n for r in second["rows"] for n in r.values() if isinstance(n, int)) == 2


def test_the_mark_changes_with_labels_and_dialogues(studio: Studio) -> None:
    q, a, q2, b = plant(studio, "q", "a", "q2", "b")
    other = studio.store.add_node(studio.store.node(q).tree_id, q, "assistant", [Part("text", "c")])
    marks = [studio.store.labels_mark()]

    def changed() -> bool:
        marks.append(studio.store.labels_mark())
        return marks[-1] not in marks[:-1]

    undo = actions.rate(studio, a, "L4", 2)
    assert changed()
    assert undo
    actions.rate(studio, a, "L4", 1)  # another mind
    assert changed()
    studio.store.compare("local", "overall", a, other, "left", "ann")
    assert changed()
    studio.store.prune(q2)
    assert changed()
    studio.store.restore(q2)
    studio.store.prune(b)
    assert changed()
    assert not changed()  # nothing happened


def test_an_estimate_follows_the_labels(studio: Studio) -> None:
    form = {"level": "local", "base": "/nowhere"}
    assert api.handle(studio, "judge_estimate", form)["tokens"] == 0
    for i in range(8):
        _, reply = plant(studio, f"a question about number {i}", f"a reply {i}")
        studio.store.rate(reply, "L4", i % 4, "ann")
    eight = api.handle(studio, "judge_estimate", form)["tokens"]
    assert eight > 0
    assert api.handle(studio, "judge_estimate", form | {"level": "global"})["tokens"] == 0
    for i in range(8, 40):
        _, reply = plant(studio, f"a question about number {i}", f"a reply {i}")
        studio.store.rate(reply, "L4", i % 4, "ann")
    assert api.handle(studio, "judge_estimate", form)["tokens"] > 2 * eight


def test_real_trees_do_not_slow_the_screen(studio: Studio, shared: Path) -> None:
    source = shared / "oasst_trees.jsonl"
    if not source.is_file():
        pytest.skip(f"no OpenAssistant trees at {source}: this test needs them")
    exchange.import_path(studio.store, studio.media, source)
    studio.store.add_judge("one", "base", {}, "none", {}, "judges/one")
    first = judgescreen.state(studio)
    (row,) = first["data"]["rows"]
    assert row["train_pairs"] + row["validation_pairs"] + row["test_pairs"] + row.get("train_ties", 0) >= 1300
    reply = studio.store.rows("SELECT id FROM nodes WHERE role = 'assistant' LIMIT 1")[0]["id"]
    took = []
    for value in range(5):  # the live judge writes between two polls
        judged(studio, reply, float(value))
        began = time.perf_counter()
        judgescreen.state(studio)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1, took
