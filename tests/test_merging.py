"""Two people's work on the same trees: merged without loss, told by the import, and what they differ on as a queue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from studio import annotating, exchange, verification
from studio.actions import Studio
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
