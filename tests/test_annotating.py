"""Items of a queue: shown blind, voted on, skipped, undone; and what is refused. How a queue is planned: test_annotating_plan.py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from studio import StudioError, actions, annotating, api
from studio.actions import Studio, Undo
from studio.tree import Part

Rows = list[dict[str, Any]]


def family(studio: Studio, n: int, question: str = "Which?", **fields: Any) -> list[str]:
    """A question with n replies, each of its own model; returns the ids of the replies."""
    tree = studio.store.create_tree(question)
    asked = studio.store.add_node(tree, None, "user", [Part("text", question)])
    return [
        studio.store.add_node(tree, asked, "assistant", [Part("text", f"reply {i}")], model=f"model-{i}", **fields)
        for i in range(n)
    ]


def judged(studio: Studio, *said: tuple[str, str, float, float | None]) -> None:
    studio.store.add_judge("jane", "tiny", {}, "", {}, "")
    studio.store.save_judge_scores("jane", said)


def queue(studio: Studio) -> list[tuple[str, ...]]:
    """The nodes of the open queue's items, in the order in which they will come."""
    opened = studio.store.open_queue("ann")
    assert opened
    rows = studio.store.rows("SELECT nodes FROM queue_items WHERE queue_id = ? ORDER BY ordinal", [opened["id"]])
    return [tuple(json.loads(r["nodes"])) for r in rows]


def item(studio: Studio) -> str:
    return str(annotating.state(studio)["item"]["id"])


def comparisons(studio: Studio) -> Rows:
    return studio.store.rows("SELECT * FROM current_comparisons ORDER BY id")


def take_back(studio: Studio, undo: Undo) -> None:
    actions.undo(studio, undo.act, undo.args)


# ---- voting


@pytest.mark.parametrize(
    ("ranking", "outcome"), [([["A"], ["B"]], "left"), ([["B"], ["A"]], "right"), ([["A", "B"]], "tie")]
)
def test_a_vote_on_two(studio: Studio, ranking: list[list[str]], outcome: str) -> None:
    replies = family(studio, 2)
    annotating.plan(studio, "local", "random", 10)
    [shown] = queue(studio)
    answer = annotating.vote(studio, item(studio), ranking, "L4", 7.5)
    [row] = comparisons(studio)
    assert {k: row[k] for k in ("level", "dimension", "left_node", "right_node", "outcome", "annotator", "shown_left", "seconds")} == {
        "level": "local", "dimension": "L4", "left_node": shown[0], "right_node": shown[1], "outcome": outcome, "annotator": "ann",
        "shown_left": shown[0], "seconds": 7.5}  # fmt: skip
    assert [(r["letter"], r["id"]) for r in answer["revealed"]] == list(zip("AB", shown, strict=True))
    assert {r["model"] for r in answer["revealed"]} == {"model-0", "model-1"}
    annotating.finish(studio, item(studio), 7.5)
    with pytest.raises(StudioError, match="nothing to judge"):  # it has been compared
        annotating.plan(studio, "local", "random", 10)
    assert set(shown) == set(replies)


def test_a_ranking_of_four_is_six_comparisons(studio: Studio) -> None:
    family(studio, 4)
    annotating.plan(studio, "local", "random", 10)
    [shown] = queue(studio)
    annotating.vote(studio, item(studio), [["C"], ["A", "D"], ["B"]], "overall", None)
    place = dict(zip(shown, (1, 2, 0, 1), strict=True))
    rows = comparisons(studio)
    assert len(rows) == 6
    assert {frozenset((r["left_node"], r["right_node"])) for r in rows} == {
        frozenset(pair) for pair in itertools.combinations(shown, 2)
    }
    for r in rows:
        better = place[r["left_node"]] - place[r["right_node"]]
        assert r["outcome"] == ("tie" if better == 0 else "left" if better < 0 else "right")
        assert r["shown_left"] == r["left_node"]


@pytest.mark.parametrize(
    "ranking", [[], [["A"]], [["A"], ["A"], ["B"]], [["A", "B", "C"]], [["A"], ["B\nC"]], ["AA"], [["A"], []]]
)
def test_a_wrong_ranking_changes_nothing(studio: Studio, ranking: list[list[str]]) -> None:
    family(studio, 2)
    before = annotating.plan(studio, "local", "random", 10)
    with pytest.raises(StudioError, match="A ranking places each of A, B once") as told:
        annotating.vote(studio, item(studio), ranking, "overall", 1.0)
    assert "\n" not in str(told.value)
    assert comparisons(studio) == []
    assert annotating.state(studio) == before


def test_a_vote_names_a_dimension_of_its_level_and_belongs_to_a_comparison(studio: Studio) -> None:
    family(studio, 2)
    annotating.plan(studio, "local", "random", 10)
    for dimension, line in (("G1", "G1 is global"), ("L9", "No dimension is called 'L9'")):
        with pytest.raises(StudioError, match=line):
            annotating.vote(studio, item(studio), [["A"], ["B"]], dimension, None)
    with pytest.raises(StudioError, match="Compare replies"):
        annotating.score(studio, item(studio), "L1", 3)
    annotating.plan(studio, "rate", "random", 10)
    with pytest.raises(StudioError, match="Rate replies"):  # it would tell the model before any score
        annotating.vote(studio, item(studio), [["A"]], "overall", None)
    assert comparisons(studio) == []


# ---- going on, skipping, undoing


def test_finish_counts_once_and_tells_the_pace(studio: Studio) -> None:
    family(studio, 4)
    first = annotating.plan(studio, "rate", "random", 3)
    assert (first["queue"]["done"], first["queue"]["total"], first["queue"]["seconds_left"]) == (0, 4, None)
    done = item(studio)
    annotating.finish(studio, done, 99_999.0)
    assert studio.store.queue_item(done).seconds == annotating.LONGEST_S
    after = annotating.finish(studio, done, 5.0)  # a second press of the key
    assert after["queue"]["done"] == 1
    for seconds in (2.0, 4.0):
        after = annotating.finish(studio, item(studio), seconds)
    assert (after["queue"]["seconds_each"], after["queue"]["seconds_left"]) == (4.0, 0.0)
    assert after["item"]  # past the goal there is still one
    assert annotating.finish(studio, item(studio), None)["item"] is None


def test_a_skipped_item_comes_back_at_the_end(studio: Studio) -> None:
    family(studio, 3)
    annotating.plan(studio, "rate", "random", 10)
    first, second, third = queue(studio)
    annotating.skip(studio, item(studio))
    met = []
    while (state := annotating.state(studio))["item"]:
        met.append(studio.store.queue_item(state["item"]["id"]).nodes)
        annotating.finish(studio, state["item"]["id"], 1.0)
    assert met == [second, third, first]
    assert state["queue"]["done"] == 3


def test_undo_brings_a_rated_reply_back(studio: Studio) -> None:
    [a] = family(studio, 1)
    annotating.plan(studio, "rate", "random", 10)
    mine = item(studio)
    scored = annotating.score(studio, mine, "L1", 3)
    assert scored["scores"] == {"L1": 3}
    finished = annotating.finish(studio, mine, 2.0)
    assert finished["item"] is None
    take_back(studio, finished["undo"])
    state = annotating.state(studio)
    assert (state["item"]["id"], state["item"]["scores"], state["queue"]["done"]) == (mine, {"L1": 3}, 0)
    take_back(studio, scored["undo"])
    assert annotating.state(studio)["item"]["scores"] == {}


def test_undo_withdraws_a_vote_and_brings_its_item_back_first(studio: Studio) -> None:
    for i in range(3):
        family(studio, 2, f"q{i}")
    annotating.plan(studio, "local", "random", 10)
    mine = item(studio)
    undo = annotating.vote(studio, mine, [["A"], ["B"]], "overall", 1.0)["undo"]
    assert "undo" not in annotating.finish(studio, mine, 1.0)
    take_back(studio, undo)
    assert comparisons(studio) == []
    assert studio.store.counts()["comparisons"] == 1  # superseded, not deleted
    state = annotating.state(studio)
    assert (state["item"]["id"], state["queue"]["done"]) == (mine, 0)
    take_back(studio, undo)
    assert annotating.state(studio) == state


ACTS: list[Callable[[Studio, str], Any]] = [
    lambda studio, old: annotating.vote(studio, old, [["A"], ["B"]], "overall", None),
    lambda studio, old: annotating.finish(studio, old, 1.0),
    lambda studio, old: annotating.skip(studio, old),
    lambda studio, old: annotating.score(studio, old, "L1", 1),
]


@pytest.mark.parametrize("act", ACTS, ids=["vote", "finish", "skip", "score"])
def test_another_queue_closes_the_first(studio: Studio, act: Callable[[Studio, str], Any]) -> None:
    family(studio, 2)
    annotating.plan(studio, "local", "random", 10)
    old = item(studio)
    after = annotating.plan(studio, "rate", "random", 10)
    assert len(studio.store.rows("SELECT 1 FROM queues WHERE closed_at IS NULL")) == 1
    with pytest.raises(StudioError, match="Another queue has been opened since"):
        act(studio, old)
    assert annotating.state(studio) == after
    assert comparisons(studio) == []


def test_the_second_round_does_not_see_the_first(studio: Studio) -> None:
    a, b = family(studio, 2)
    annotating.plan(studio, "rate", "random", 10)
    for _ in "ab":
        annotating.score(studio, item(studio), "L1", 3)
        annotating.finish(studio, item(studio), 1.0)
    again = annotating.plan(studio, "rate", "unrated", 10, round=2)
    assert (again["item"]["scores"], again["queue"]["round"]) == ({}, 2)
    assert {c.rated for c in studio.store.candidates("ann", 2, "local")} == {0}
    mine = item(studio)
    undo = annotating.score(studio, mine, "L1", 0)["undo"]
    node = studio.store.queue_item(mine).nodes[0]
    assert [studio.store.scores([node], "ann", r) for r in (1, 2)] == [{node: {"L1": 3}}, {node: {"L1": 0}}]
    take_back(studio, undo)
    assert [studio.store.scores([node], "ann", r) for r in (1, 2)] == [{node: {"L1": 3}}, {}]
    annotating.plan(studio, "local", "random", 10)
    annotating.vote(studio, item(studio), [["A"], ["B"]], "overall", None)
    annotating.plan(studio, "local", "random", 10, round=2)
    assert len(queue(studio)) == 1


# ---- blindness, and the door


@pytest.mark.parametrize("kind", list(annotating.KINDS))
def test_nothing_tells_who_is_who_before_the_vote(studio: Studio, kind: str) -> None:
    sha256 = "ab" * 32
    studio.store.add_image(sha256, "image/png", 3, 2, 9, "generate", tool="painter-7")
    replies = family(studio, 3)
    tree = studio.store.node(replies[0]).tree_id
    pictures = [Part("text", "look"), Part("image", "zebra-9b/1.png", sha256, "a cat"), Part("image", "zebra-9b/2.png")]
    asked = studio.store.path(replies[0])[0].id
    replies.append(studio.store.add_node(tree, asked, "assistant", pictures, model="zebra-9b", backend="openai"))
    judged(studio, *((r, d, 1.2345, 0.6789) for r in replies for d in ("L1", "G1", "overall")))
    for r in replies:
        studio.store.rate(r, "L1", 2, "bob")
    said = [annotating.plan(studio, kind, "unsure", 10)]
    while said[-1]["item"] and len(said) < 9:
        said.append(annotating.finish(studio, said[-1]["item"]["id"], 1.0))
    shown = json.dumps([{k: s[k] for k in ("queue", "item")} for s in said])
    assert "a cat" in shown
    assert "reply 0" in shown
    nodes = [n for r in replies for n in studio.store.path(r)]
    secrets = {s for n in nodes for s in (n.id, n.tree_id, n.model, n.created_at) if s}
    for secret in secrets | {"zebra", "openai", "painter", "generate", "jane", "bob", "1.2345", "0.6789"}:
        assert secret not in shown, secret


def test_the_judge_is_told_after_the_vote(studio: Studio) -> None:
    a, b = family(studio, 2)
    judged(studio, (a, "overall", 1.25, None))
    annotating.plan(studio, "local", "random", 10)
    revealed = annotating.vote(studio, item(studio), [["B"], ["A"]], "overall", None)["revealed"]
    assert {r["id"]: (r["model"], r["judge"]) for r in revealed} == {a: ("model-0", 1.25), b: ("model-1", None)}


PLAN = {"kind": "local", "rule": "random", "goal": 5}
VOTE = {"ranking": [["A"], ["B"]], "dimension": "overall", "seconds": 1}
MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("annotate_plan", {}), ("annotate_plan", PLAN | {"kind": []}), ("annotate_plan", PLAN | {"rule": None}),
    ("annotate_plan", PLAN | {"goal": "many"}), ("annotate_plan", PLAN | {"trees": 5}), ("annotate_plan", PLAN | {"models": [{}]}),
    ("annotate_vote", {}), ("annotate_vote", VOTE | {"item": "none"}), ("annotate_vote", VOTE | {"item": ["x"]}),
    ("annotate_vote", VOTE | {"ranking": 5}), ("annotate_vote", VOTE | {"ranking": [[1, None]]}), ("annotate_vote", VOTE | {"ranking": ["A", {}]}),
    ("annotate_vote", VOTE | {"dimension": []}), ("annotate_vote", VOTE | {"dimension": "L1\nL2"}), ("annotate_vote", VOTE | {"seconds": "long"}),
    ("annotate_score", {}), ("annotate_score", {"item": "'; DROP TABLE scores", "dimension": "L1", "value": 1}),
    ("annotate_finish", {}), ("annotate_finish", {"item": None}), ("annotate_finish", {"seconds": {}}), ("annotate_skip", {"item": {}}),
    ("undo", {"act": "withdraw", "args": {"comparisons": 5, "item": "x"}}), ("undo", {"act": "reopen", "args": {}}), ("annotate_all", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), MALFORMED)
def test_a_malformed_call_is_one_line(studio: Studio, name: str, data: dict[str, Any]) -> None:
    family(studio, 2)
    before = annotating.plan(studio, "local", "random", 10)
    if name in ("annotate_vote", "annotate_finish") and data:
        data = {"item": item(studio)} | data
    answer = api.handle(studio, name, data)
    assert list(answer) == ["error"], answer
    assert 10 < len(answer["error"]) < 250
    assert "\n" not in answer["error"]
    assert annotating.state(studio) == before
