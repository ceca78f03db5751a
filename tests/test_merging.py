"""Two people's work on the same trees: merged without loss, told by the import, and what they differ on as a queue."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from studio import annotating, exchange, verification
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import plant
from tests.test_verification import LOCAL, call, queue, rated


def test_two_peoples_work_on_one_tree_is_merged_and_told(studio: Studio, tmp_path: Path) -> None:
    replies = rated(studio, 3)
    file = tmp_path / "trees.zip"
    exchange.export_studio(studio.store, studio.media, file)
    other = Studio.open(replace(studio.config, home=tmp_path / "other", annotator="bob"))
    exchange.import_path(other.store, other.media, file)
    for reply in replies:
        for dimension, value in zip(LOCAL, (3, 2, 1, 2) if reply == replies[0] else (3, 2, 1, 1), strict=True):
            other.store.rate(reply, dimension, value, "bob")
    other.store.say(replies[1], "local", "critique", "too short", "bob")
    back = tmp_path / "back.zip"
    exchange.export_studio(other.store, other.media, back)
    other.close()
    report = exchange.import_path(studio.store, studio.media, back)
    assert (report.trees, report.merged, report.scores) == (0, 13, 12)
    assert report.conflicts == ["L4 of “reply 0”: ann 0, bob 2"]
    assert (
        "13 judgements of dialogues that were here are new; people differ by 2 or more on 1, such as L4"
        in report.sentence()
    )
    assert studio.store.rows("SELECT annotator, count(*) AS n, count(DISTINCT id) AS ids FROM current_scores GROUP BY annotator") == [
        {"annotator": "ann", "n": 12, "ids": 12}, {"annotator": "bob", "n": 12, "ids": 12}]  # fmt: skip
    assert studio.store.rows("SELECT count(DISTINCT id) AS n FROM scores") == [{"n": 24}]
    again = exchange.import_path(studio.store, studio.media, back)
    assert (again.merged, again.conflicts) == (0, [])
    [found] = verification.conflicts(studio.store)
    assert (found["node"], found["dimension"], found["gap"]) == (replies[0], "L4", 2)
    assert found["scores"] == {"ann": 0, "bob": 2}
    shown = call(studio, "verify_plan", rule="conflicts")
    assert (queue(studio), shown["item"]["pass"]) == ([replies[0]], {"rule": "conflicts", "differ": ["L4"]})
    annotating.score(studio, shown["item"]["id"], "L4", 2)
    assert call(studio, "verify")["conflicts"] == 0


def test_a_new_round_of_a_person_settles_a_conflict_and_pruned_branches_have_none(studio: Studio) -> None:
    a, b = rated(studio, 2)
    for reply in (a, b):
        studio.store.rate(reply, "L1", 0, "bob")
    assert [c["node"] for c in verification.conflicts(studio.store)] == [a, b]
    studio.store.rate(a, "L1", 3, "bob", 2)
    assert [c["node"] for c in verification.conflicts(studio.store)] == [b]
    assert verification.conflicts(studio.store, [studio.store.node(a).tree_id]) == []
    studio.store.prune(b)
    assert verification.conflicts(studio.store) == []


def taken_apart(studio: Studio, tmp_path: Path) -> Studio:
    """The same person's studio on another machine, with the dialogues of this one."""
    exchange.export_studio(studio.store, studio.media, tmp_path / "there.zip")
    other = Studio.open(replace(studio.config, home=tmp_path / "other"))
    exchange.import_path(other.store, other.media, tmp_path / "there.zip", annotator="ann")
    return other


def swap(studio: Studio, other: Studio, tmp_path: Path) -> None:
    """Each imports what the other has; then both have the same."""
    for giver, taker, name in ((other, studio, "back.zip"), (studio, other, "again.zip")):
        exchange.export_studio(giver.store, giver.media, tmp_path / name)
        exchange.import_path(taker.store, taker.media, tmp_path / name)
    tables = ("scores", "comparisons", "feedback", "crucial_steps")
    here, there = ([s.store.dump_tree(t) for t in s.store.tree_ids()] for s in (studio, other))
    for mine, theirs in zip(here, there, strict=True):
        for table in tables:
            assert sorted(map(repr, mine[table])) == sorted(map(repr, theirs[table]))


@pytest.mark.parametrize("here_first", [True, False])
def test_of_one_persons_two_judgements_of_one_thing_the_later_counts(
    studio: Studio, tmp_path: Path, here_first: bool
) -> None:
    question, a = plant(studio, "q", "a")
    b = studio.store.add_node(studio.store.node(a).tree_id, question, "assistant", [Part("text", "b")])
    other = taken_apart(studio, tmp_path)
    machines = [studio, other] if here_first else [other, studio]
    for i, machine in enumerate(machines):
        pair = (a, b) if i == 0 else (b, a)  # the second time the sides are the other way round
        machine.store.compare("local", "L4", *pair, "left", "ann")
        machine.store.compare("local", "L1", *pair, "tie", "ann")
        machine.store.say(a, "local", "critique", f"opinion {i}", "ann")
        machine.store.say(a, "local", "critique", f"of L1 {i}", "ann", "L1")
        machine.store.mark_step(b, b, f"reason {i}", "ann")
        time.sleep(0.002)
    machines[0].store.compare("global", "L4", a, b, "tie", "ann")  # another level is another thing,
    machines[0].store.compare("local", "L4", a, b, "tie", "bob")  # and so is another person's
    machines[1].store.compare("local", "L4", a, b, "tie", "ann", round=2)
    swap(studio, other, tmp_path)
    rows = studio.store.rows(
        "SELECT level, dimension, left_node, outcome, annotator, round FROM current_comparisons ORDER BY 1, 2, 5, 6"
    )
    assert [tuple(r.values()) for r in rows] == [
        ("global", "L4", a, "tie", "ann", 1), ("local", "L1", b, "tie", "ann", 1), ("local", "L4", b, "left", "ann", 1),
        ("local", "L4", a, "tie", "ann", 2), ("local", "L4", a, "tie", "bob", 1)]  # fmt: skip
    words = studio.store.rows("SELECT text FROM current_feedback ORDER BY text")
    assert [r["text"] for r in words] == ["of L1 1", "opinion 1"]
    assert {n: s["reason"] for n, s in studio.store.steps([b], "ann")[b].items()} == {b: "reason 1"}
    history = studio.store.rows("SELECT count(*) AS n FROM comparisons WHERE superseded_at IS NOT NULL")
    assert history == [{"n": 2}]
    other.close()
