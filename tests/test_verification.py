"""A second pass blind to the first, and what comes back from it. Where two people differ: test_merging.py."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from judge.agreement import Rating, by_dimension
from judge.standing import standing_scores
from studio import StudioError, annotating, api, statistics, verification
from studio.actions import Studio
from tests.conftest import plant

LOCAL, GLOBAL = ("L1", "L2", "L3", "L4"), ("G1", "G2", "G3", "G4", "G5")


def rated(studio: Studio, n: int = 10, who: str = "ann", values: tuple[int, ...] = (3, 2, 1, 0)) -> list[str]:
    """n replies, each in its own dialogue, with four local scores; returns their ids."""
    replies = [plant(studio, f"q{i}", f"reply {i}")[1] for i in range(n)]
    for reply in replies:
        for dimension, value in zip(LOCAL, values, strict=True):
            studio.store.rate(reply, dimension, value, who)
    return replies


def as_(studio: Studio, who: str) -> Studio:
    """The same home, signed by another person."""
    studio.config = replace(studio.config, annotator=who)
    return studio


def queue(studio: Studio) -> list[str]:
    opened = studio.store.open_queue(studio.config.annotator)
    assert opened
    rows = studio.store.rows("SELECT nodes FROM queue_items WHERE queue_id = ? ORDER BY ordinal", [opened["id"]])
    return [json.loads(r["nodes"])[0] for r in rows]


def item(studio: Studio) -> dict[str, Any]:
    found = annotating.state(studio)["item"]
    assert found
    return found


def blind(studio: Studio, *values: int) -> str:
    """Score the item at hand and compare; returns its id."""
    at = item(studio)
    for dimension, value in zip(at["pass"]["dimensions"], values, strict=True):
        annotating.score(studio, at["id"], dimension, value)
    verification.compare(studio, at["id"])
    return str(at["id"])


def call(studio: Studio, name: str, **data: Any) -> dict[str, Any]:
    return api.handle(studio, name, data)


# ---- what a second pass takes


def test_a_share_is_drawn_from_what_is_rated_in_full(studio: Studio) -> None:
    replies = rated(studio, 20)
    half = plant(studio, "q", "half rated")[1]
    studio.store.rate(half, "L1", 3, "ann")
    second = plant(studio, "q", "round two only")[1]
    for dimension in LOCAL:
        studio.store.rate(second, dimension, 3, "ann", 2)
    pruned = rated(studio, 1)[0]
    studio.store.prune(pruned)
    as_(studio, "bob")
    assert verification.overview(studio)["rated"] == 20
    draws = []
    for share, n in ((5, 1), (10, 2), (11, 3), (100, 20)):
        verification.plan(studio, "second", share, seed=share)
        draws.append(queue(studio))
        assert len(draws[-1]) == n
        assert set(draws[-1]) <= set(replies)
    verification.plan(studio, "second", 11, seed=11)
    assert queue(studio) == draws[2]  # the seed, which is kept, says which
    verification.plan(studio, "second", 11, seed=12)
    assert queue(studio) != draws[2]


def test_dialogues_are_checked_on_their_global_scores(studio: Studio) -> None:
    reply = plant(studio, "q", "r")[1]
    for dimension in GLOBAL:
        studio.store.rate(reply, dimension, 2, "ann")
    studio.store.rate(reply, "L1", 2, "ann")  # not all of L1 to L4: not asked
    as_(studio, "bob")
    verification.plan(studio, "second")
    assert item(studio)["pass"]["dimensions"] == list(GLOBAL)
    blind(studio, 2, 2, 2, 2, -1)
    assert item(studio)["pass"]["differ"] == ["G5"]


def test_somebody_elses_first_pass_comes_before_ones_own(studio: Studio) -> None:
    reply = rated(studio, 1, "ann")[0]
    assert verification.first_passes(studio)[reply].who == "ann"  # the same person later
    for dimension in LOCAL:
        studio.store.rate(reply, dimension, 1, "bob")
    assert verification.first_passes(studio)[reply].who == "bob"
    assert verification.first_passes(as_(studio, "bob"))[reply].who == "ann"


def test_what_has_had_a_second_pass_is_not_drawn_again(studio: Studio) -> None:
    rated(studio, 2)
    as_(studio, "bob")
    for left in (1, 0):
        verification.plan(studio, "second", 5)
        verification.decide(studio, blind(studio, 3, 2, 1, 0), "agreed")
        assert verification.overview(studio)["left"] == left
    with pytest.raises(StudioError, match="You have been through all 2"):
        verification.plan(studio, "second")
    verification.plan(as_(studio, "cy"), "second", 100)
    assert len(queue(studio)) == 2


@pytest.mark.parametrize(
    ("rule", "share", "line"),
    [("second", 10, "Nothing is rated in full"), ("second", 4, "5 to 100 %"), ("second", 101, "not 101 %"), ("third", 10, "no queue 'third'"),
     ("returned", 10, "Nothing was returned"), ("conflicts", 10, "Nobody differs by 2")],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_line_and_closes_nothing(
    studio: Studio, rule: str, share: int, line: str
) -> None:
    plant(studio, "q", "r")
    before = annotating.plan(studio, "rate", "random", 10)
    answer = call(studio, "verify_plan", rule=rule, share=share)
    assert line in answer["error"]
    assert "\n" not in answer["error"]
    assert annotating.state(studio) == before


# ---- blind


def test_no_first_score_leaves_before_ones_own_are_in(studio: Studio) -> None:
    reply = rated(studio, 1, "ann", (0, 0, 0, 0))[0]
    studio.store.say(reply, "local", "rationale", "the-first-reason", "ann")
    as_(studio, "bob")
    told = [call(studio, "verify"), call(studio, "verify_plan", rule="second", share=100)]
    at = told[-1]["item"]
    assert at["scores"] == {}
    assert at["pass"] == {"rule": "second", "stage": "own", "dimensions": list(LOCAL)}
    for dimension in LOCAL[:3]:
        told.append(call(studio, "annotate_score", item=at["id"], dimension=dimension, value=3))
    told += [call(studio, "verify_compare", item=at["id"]), call(studio, "annotate")]
    assert told[-2] == {"error": "Give your own score on L4 first: then the first ones are shown."}
    told += [
        call(studio, "verify_decide", item=at["id"], verdict="agreed"),
        call(studio, "annotate_finish", item=at["id"]),
    ]
    assert [t["error"] for t in told[-2:]] == ["Compare with the first scores before you decide.",
                                               "An item of a second pass ends with agree, correct or return. Compare first."]  # fmt: skip
    told.append(call(studio, "annotate_score", item=at["id"], dimension="L4", value=3))
    text = json.dumps(told)
    for secret in ('ann"', "the-first-reason", reply, '"first"', ": 0}", '": 0, "L'):
        assert secret not in text
    shown = call(studio, "verify_compare", item=at["id"])["item"]["pass"]
    first = dict.fromkeys(LOCAL, 0)
    assert shown | {"dimensions": 0, "rule": 0} == {
        "rule": 0,
        "dimensions": 0,
        "stage": "decide",
        "who": "ann",
        "first": first,
        "differ": list(LOCAL),
    }


def test_a_blind_score_stays_once_the_first_was_seen(studio: Studio) -> None:
    reply = rated(studio, 1)[0]
    as_(studio, "bob")
    verification.plan(studio, "second")
    at = item(studio)["id"]
    assert "undo" not in call(studio, "annotate_score", item=at, dimension="L1", value=0)
    assert call(studio, "annotate_score", item=at, dimension="L1", value=1)["scores"] == {"L1": 1}  # still blind
    blind(studio, 1, 2, 1, 0)
    assert "yours stay as you gave them" in call(studio, "annotate_score", item=at, dimension="L1", value=3)["error"]
    assert studio.store.scores([reply], "bob", 2) == {reply: {"L1": 1, "L2": 2, "L3": 1, "L4": 0}}
    assert studio.store.scores([reply], "ann", 1) == {reply: {"L1": 3, "L2": 2, "L3": 1, "L4": 0}}


# ---- agree, correct, return


def test_agree_needs_the_same_scores_and_correct_needs_others(studio: Studio) -> None:
    rated(studio, 2)
    as_(studio, "bob")
    verification.plan(studio, "second", 100)
    first = blind(studio, 3, 2, 1, 0)
    with pytest.raises(StudioError, match="gave the same scores"):
        verification.decide(studio, first, "corrected")
    verification.decide(studio, first, "agreed", seconds=4.0)
    second = blind(studio, 3, 2, 1, 3)
    with pytest.raises(StudioError, match="You and ann differ on L4"):
        verification.decide(studio, second, "agreed")
    with pytest.raises(StudioError, match="An item is agreed"):
        verification.decide(studio, second, "fine")
    with pytest.raises(StudioError, match="Say why it goes back to ann"):
        verification.decide(studio, second, "returned", " \n")
    verification.decide(studio, second, "corrected")
    state = annotating.state(studio)
    assert (state["item"], state["queue"]["done"]) == (None, 2)
    assert state["queue"]["verdicts"] == {"agreed": 1, "corrected": 1}
    assert studio.store.queue_item(first).seconds == 4.0


def test_a_returned_item_comes_back_to_the_first_person_and_goes_once_it_was_seen(studio: Studio) -> None:
    reply = rated(studio, 3)[0]
    as_(studio, "bob")
    verification.plan(studio, "second", 100)
    while annotating.state(studio)["item"]:
        here = studio.store.queue_item(item(studio)["id"]).nodes[0]
        at = blind(studio, 3, 2, 1, 3)
        verification.decide(studio, at, *(("returned", "L4: read the end again") if here == reply else ("corrected",)))
    assert verification.overview(studio)["returned"] == 0  # bob rated none of it first
    [row] = studio.store.rows("SELECT node_id, level, kind, text, annotator, round FROM current_feedback")
    assert row == {
        "node_id": reply,
        "level": "local",
        "kind": "rationale",
        "text": "L4: read the end again",
        "annotator": "bob",
        "round": 2,
    }
    as_(studio, "ann")
    assert call(studio, "verify")["returned"] == 1
    shown = call(studio, "verify_plan", rule="returned")
    assert queue(studio) == [reply]
    assert shown["item"]["pass"]["reasons"] == [{"who": "bob", "text": "L4: read the end again"}]
    assert (shown["item"]["scores"]["L4"], shown["queue"]["says"], shown["queue"]["round"]) == (0, "Returned to you", 1)
    annotating.score(studio, shown["item"]["id"], "L4", 1)
    annotating.finish(studio, shown["item"]["id"], 1.0)
    assert call(studio, "verify")["returned"] == 0
    assert studio.store.scores([reply], "ann")[reply]["L4"] == 1


def counting(studio: Studio, reply: str) -> dict[str, int]:
    """The scores of a reply that a judge would learn from, of round 1."""
    dump = studio.store.dump_tree(studio.store.node(reply).tree_id)
    return {row["dimension"]: row["value"] for row, _ in standing_scores(dump) if row["round"] == 1}


def test_what_was_returned_counts_again_once_it_is_confirmed(studio: Studio) -> None:
    [reply] = rated(studio, 1)
    assert counting(studio, reply) == {"L1": 3, "L2": 2, "L3": 1, "L4": 0}
    first = studio.store.rate(reply, "L1", 3, "ann")
    as_(studio, "bob")
    verification.plan(studio, "second")
    time.sleep(0.002)  # times are kept to a millisecond
    verification.decide(studio, blind(studio, 3, 2, 1, 3), "returned", "L4: read the end again")
    assert counting(studio, reply) == {}
    time.sleep(0.002)
    as_(studio, "ann")
    at = call(studio, "verify_plan", rule="returned")["item"]["id"]
    annotating.score(studio, at, "L1", 3)  # as before: that is an answer too
    annotating.score(studio, at, "L4", 2)
    assert counting(studio, reply) == {"L1": 3, "L4": 2}
    confirmed = studio.store.rate(reply, "L1", 3, "ann")
    assert confirmed != first
    assert studio.store.rate(reply, "L1", 3, "ann") == confirmed  # once is enough
    rows = studio.store.rows(
        "SELECT id, superseded_at IS NULL AS counts FROM scores WHERE dimension = 'L1' AND annotator = 'ann' ORDER BY id"
    )
    assert rows == [{"id": first, "counts": 0}, {"id": confirmed, "counts": 1}]
    assert studio.store.scores([reply], "ann")[reply] == {"L1": 3, "L2": 2, "L3": 1, "L4": 2}


@pytest.mark.parametrize(
    ("level", "kind", "dimension", "span", "round"),
    [
        ("local", "critique", None, None, 2),
        ("local", "rationale", "L1", None, 2),
        ("local", "rationale", None, '{"part": 0}', 2),
        ("local", "rationale", None, None, 1),
        ("local", "rationale", None, None, 3),
        ("global", "rationale", None, None, 2),
    ],
)
def test_other_words_of_a_later_round_give_nothing_back(
    studio: Studio, level: str, kind: str, dimension: str | None, span: str | None, round: int
) -> None:
    [reply] = rated(studio, 1)
    first = studio.store.rate(reply, "L1", 3, "ann")
    time.sleep(0.002)
    studio.store.say(reply, level, kind, "words", "bob", dimension, round, span)
    assert studio.store.rate(reply, "L1", 3, "ann") == first


def test_a_decision_can_be_taken_back(studio: Studio) -> None:
    rated(studio, 1)
    as_(studio, "bob")
    verification.plan(studio, "second")
    at = blind(studio, 0, 2, 1, 0)
    answer = call(studio, "verify_decide", item=at, verdict="returned", reason="why?", seconds=2)
    assert (answer["item"], answer["undo"]["act"]) == (None, "verify_back")
    assert call(studio, "undo", **answer["undo"]) == {"saved": True}
    again = annotating.state(studio)
    assert (again["item"]["id"], again["item"]["pass"]["stage"], again["queue"]["verdicts"]) == (at, "decide", {})
    assert studio.store.returned("ann", 2) == []
    assert "error" not in call(studio, "verify_decide", item=at, verdict="corrected")


def test_agreement_of_the_two_rounds_is_that_of_the_blind_scores(studio: Studio) -> None:
    replies = rated(studio, 8)
    as_(studio, "bob")
    verification.plan(studio, "second", 100)
    for i in range(8):
        at = blind(studio, 3 if i < 6 else 1, 2, 1, 0)
        verification.decide(studio, at, "agreed" if i < 6 else "corrected")
    ratings = [Rating(**{k: r[k] for k in Rating.__slots__}) for r in studio.store.ratings()]
    found = {r["dimension"]: r for r in by_dimension(ratings, ("ann", 1), ("bob", 2), n_boot=50)}
    assert [(found[d]["n"], found[d]["agreement"]["value"]) for d in LOCAL] == [(8, 0.75), (8, 1.0), (8, 1.0), (8, 1.0)]
    [pair] = statistics.figures(studio.store, "bob", 50)["agreement"]["pairs"]
    assert {pair["a"], pair["b"]} == {("ann", 1), ("bob", 2)}
    assert pair["n"] == 4 * len(replies)
