"""Two scores side by side: Rao and Kupper's three outcomes and paired heads, from tables with known answers."""

from __future__ import annotations

import math

import pytest

from judge.readings import Reading, derived_on, difference_spread, facts_of, outcome, scored_on, trained_on
from studio.store.judges import JudgeScore
from studio.uncertainty import entropy, gap, margin_in_spreads, probability


@pytest.mark.parametrize(
    ("difference", "margin", "left", "tie", "right"),
    [
        (0.0, 0.0, 0.5, 0.0, 0.5),  # Bradley and Terry's, where ties were not learned
        (math.log(3), 0.0, 0.75, 0.0, 0.25),
        (0.0, math.log(3), 0.25, 0.5, 0.25),
        (math.log(2), math.log(2), 0.5, 0.3, 0.2),
        (-math.log(2), math.log(2), 0.2, 0.3, 0.5),
        (800.0, 1.0, 1.0, 0.0, 0.0),  # nothing overflows
        (-800.0, 1.0, 0.0, 0.0, 1.0),
    ],
)
def test_three_outcomes(difference: float, margin: float, left: float, tie: float, right: float) -> None:
    assert outcome(difference, margin) == pytest.approx((left, tie, right), abs=1e-12)


def test_readings_compare_by_their_logits_and_the_fitted_margin() -> None:
    ties = {"overall": math.log(2)}
    a, b = (Reading({"overall": x}, {}, {"overall": 0.0}, ties=ties) for x in (1 + math.log(2), 1.0))
    assert a.outcome(b) == pytest.approx((0.5, 0.3, 0.2))
    assert (a.better_than(b), b.better_than(a)) == pytest.approx((0.5, 0.2))
    assert a.value("overall") == a.logits["overall"]  # it saw no scores: there is no scale
    scored = Reading({"L4": 0.3}, {"L4": 2.2}, {"L4": 0.1})
    assert scored.value("L4") == 2.2


@pytest.mark.parametrize(
    ("ours", "theirs", "spread"),
    [
        ((1.0, 2.0, 3.0), (0.5, 1.5, 2.5), 0.0),  # heads err together: the difference is sure
        ((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), 2.0),  # against each other: of -2, 0, 2
        ((1.0, 2.0, 6.0), (1.0, 1.0, 4.0), 1.0),  # of 0, 1, 2
        ((1.0, 2.0), (1.0,), None),  # not the same heads
        ((), (), None),
        ((1.0,), (1.0,), None),
    ],
)
def test_the_spread_of_a_difference_is_that_of_paired_heads(
    ours: tuple[float, ...], theirs: tuple[float, ...], spread: float | None
) -> None:
    a, b = (Reading({"L1": 0.0}, {}, {"L1": 1.0}, {"L1": heads}) for heads in (ours, theirs))
    assert difference_spread(a, b, "L1") == (None if spread is None else pytest.approx(spread))
    x, y = JudgeScore(2.0, 3.0, heads=ours), JudgeScore(1.0, 4.0, heads=theirs)
    assert gap(x, y) == (1.0, pytest.approx(5.0 if spread is None else spread))  # else as if independent: 3, 4, 5


def test_rows_of_earlier_versions_have_no_heads() -> None:
    assert gap((2.0, 3.0), (1.0, 4.0)) == (1.0, 5.0)
    assert gap((2.0, None), JudgeScore(1.5)) == (0.5, 0.0)
    assert margin_in_spreads((2.0, None), (1.5, None)) == math.inf
    assert margin_in_spreads((2.0, None), (2.0, None)) == 0.0
    assert margin_in_spreads((2.0, 3.0), (1.0, 4.0)) == pytest.approx(0.2)


def test_a_choice_that_is_open_teaches_most() -> None:
    assert probability((1.0, 3.0), (1.0, 4.0)) == 0.5
    assert probability((6.0, 3.0), (1.0, 4.0)) == pytest.approx(0.841345, abs=1e-6)
    assert (probability((2.0, None), (1.0, None)), probability((1.0, None), (2.0, None))) == (1.0, 0.0)
    assert (entropy(0.5), entropy(1.0), entropy(0.0)) == (1.0, 0.0, 0.0)


def test_a_card_tells_labels_of_people_from_derived_pairs() -> None:
    rows = [
        {"level": "local", "dimension": "L4", "train_scores": 56, "train_derived": 28},
        {"level": "local", "dimension": "overall", "train_pairs": 20, "train_ties": 3, "test_pairs": 9},
        {"level": "global", "dimension": "overall", "train_pairs": 7},
        {"level": "global", "dimension": "G3", "train_derived": 4},
    ]
    card = {"model": {"rows": ["L4", "overall", "overall_global", "G3"]}, "data": {"rows": rows}}
    assert trained_on(card) == {"L4": 56, "overall": 23, "overall_global": 7}
    assert derived_on(card) == {"L4": 28, "G3": 4}
    assert scored_on(card) == {"L4": 56}
    assert facts_of(card) == {
        "trained": trained_on(card),
        "derived_labels": derived_on(card),
        "scored": scored_on(card),
    }


def test_cards_of_the_first_versions_are_read() -> None:
    rows = [
        {"dimension": "L4", "train_scores": 56},
        {"level": "local", "dimension": "overall", "train_pairs": 20},
        {"level": "global", "dimension": "overall", "train_pairs": 7},
    ]
    card = {"model": {"rows": ["L4", "overall"]}, "data": {"rows": rows}}
    assert trained_on(card) == {"L4": 56, "overall": 27}  # they had one row for both kinds of overall
    assert derived_on(card) == {}
