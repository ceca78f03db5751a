"""Do probabilities come true: against simulations with known truths, and tables worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judge.calibration import calibration, confidence, most_probable, ordinal_calibration, thirds
from judge.evaluation import PairResult, evaluate
from judge.readings import outcome
from judge.rubric import JudgeError
from tests.scored import pair, score


def simulated(rng: np.random.Generator, n: int, sharpness: float) -> list[PairResult]:
    """Differences in -3..3; a human follows sigmoid(difference / sharpness)."""
    differences = rng.uniform(-3, 3, n)
    left = rng.random(n) < 1 / (1 + np.exp(-differences / sharpness))
    return [pair("left" if y else "right", float(d), 0.0) for d, y in zip(differences, left)]


def test_calibrated_judge_has_no_error() -> None:
    found = calibration(simulated(np.random.default_rng(8), 20_000, sharpness=1.0))
    assert found["ece"] < 0.015
    assert found["ece"] == pytest.approx(found["ece_if_calibrated"], abs=0.008)
    assert sum(b["n"] for b in found["bins"]) == 20_000


def test_overconfident_judge_has_the_known_error() -> None:
    found = calibration(simulated(np.random.default_rng(9), 20_000, sharpness=3.0))
    d = np.linspace(0, 3, 10_001)
    known = np.mean(1 / (1 + np.exp(-d)) - 1 / (1 + np.exp(-d / 3)))  # the mean gap over the uniform differences
    assert found["ece"] == pytest.approx(known, abs=0.015)
    assert found["ece_if_calibrated"] < 0.015


def test_calibration_by_hand() -> None:
    nine = math.log(9)  # sigmoid: 0.9
    found = calibration([pair("left", nine, 0), pair("right", nine, 0), pair("right", 0, 0), pair("tie", 1, 0)], bins=2)
    assert [(b["n"], b["confidence"], b["right"]) for b in found["bins"]] == [
        (1, 0.5, 0.5), (2, pytest.approx(0.9), 0.5),
    ]  # fmt: skip
    assert (found["n"], found["n_ties"], found["ece"]) == (3, 1, pytest.approx(2 / 3 * 0.4))
    certain = calibration([pair("left", 1000, 0)])["bins"]
    assert [b["n"] for b in certain] == [0] * 9 + [1]
    with pytest.raises(JudgeError, match="not 0"):
        calibration([], bins=0)


def test_confidence_is_rao_kuppers_given_no_tie() -> None:
    for gap in (0.0, 0.3, -1.0, 4.0):
        for margin in (0.0, 0.5, 2.0):
            chances = outcome(gap, margin)
            expected = max(chances.left, chances.right) / (chances.left + chances.right)
            assert confidence(np.array(gap), np.array(margin)) == pytest.approx(expected)
            likeliest = max((chances.tie, 0), (chances.left, 1), (chances.right, -1))[1] if gap else 0
            assert most_probable(np.array(gap), np.array(margin)) == likeliest
    assert confidence(np.array(900.0), np.array(2.0)) == 1.0  # no overflow, however far


def test_a_judge_that_follows_rao_kupper_is_calibrated_with_its_margin_and_not_without() -> None:
    rng = np.random.default_rng(1)
    gaps, pairs = rng.uniform(-2, 2, 20_000), []
    for gap in gaps:
        chances = outcome(float(gap), 1.0)
        said = str(rng.choice(["left", "tie", "right"], p=np.array(chances) / sum(chances)))
        pairs.append(pair(said, float(gap), 0.0, tie_margin=1.0))
    with_margin = calibration(pairs)
    assert with_margin["ece"] < 0.015
    without = calibration([pair(p.outcome, p.left, 0.0) for p in pairs])
    assert without["ece"] > 0.05  # sigmoid(difference) alone is too modest where ties were taken out


def test_calibration_by_level_and_dimension() -> None:
    pairs = [
        pair("left", 1, 0),
        pair("right", 1, 0, level="global", dimension="overall"),
        pair("left", 1, 0, human_margin=1.0),
    ]
    rows = evaluate(pairs, [])["calibration_by"]
    assert [(r["row"], r["n"], r["ece"]) for r in rows] == [
        ("L1", 1, pytest.approx(1 - 1 / (1 + math.exp(-1)))), ("overall_global", 1, pytest.approx(1 / (1 + math.exp(-1)))),
    ]  # fmt: skip


def test_ordinal_calibration_by_hand() -> None:
    scores = [
        score(0, 0.5, "a", values=(0, 1, 2), probabilities=(0.5, 0.5, 0.0)),
        score(2, 1.5, "b", values=(0, 1, 2), probabilities=(0.0, 0.5, 0.5)),
        score(1, 1.0, "b"),  # no probabilities: not counted
    ]
    [row] = ordinal_calibration(scores, bins=2)
    assert (row["row"], row["n"], row["values"]) == ("L1", 2, [0, 1, 2])
    assert row["levels"] == [
        {"above": 0, "predicted": 0.75, "observed": 0.5}, {"above": 1, "predicted": 0.25, "observed": 0.5},
    ]  # fmt: skip
    assert row["ece"] == pytest.approx(
        (0.5 + 0.5) / 4
    )  # above 0: .5 and 1 against 0 and 1; above 1: 0 and .5 against 0 and 1
    assert row["rps"]["value"] == pytest.approx((0.5**2 / 2 + 0.5**2 / 2) / 2)
    # the other tree alone: of a, P(above) would be 1, 1; of b, 0, 0
    assert row["rps_marginal"]["value"] == 1.0
    assert row["gain"]["value"] == pytest.approx(1 - 0.125)


def test_scores_drawn_from_the_probabilities_are_calibrated_on_their_own_scales() -> None:
    rng, scores = np.random.default_rng(2), []
    for i in range(6000):
        values = (-1, 0, 1, 2, 3) if i % 2 else (0, 2, 5)
        fitted = rng.dirichlet(np.ones(len(values)))
        scores.append(score(int(rng.choice(values, p=fitted)), float(fitted @ values), f"{i // 6}", values=values,
                            dimension="G5" if i % 2 else "own", probabilities=tuple(fitted)))  # fmt: skip
    for row in ordinal_calibration(scores, n_boot=200):
        assert row["ece"] < 0.02
        assert row["ece"] == pytest.approx(row["ece_if_calibrated"], abs=0.01)
        assert row["beyond_chance"] is True
        assert row["gain"]["value"] == pytest.approx(row["rps_marginal"]["value"] - row["rps"]["value"])
    assert [r["levels"][0]["above"] for r in ordinal_calibration(scores, n_boot=20)] == [-1, 0]


def test_probabilities_that_are_none_are_refused() -> None:
    with pytest.raises(JudgeError, match="are no probabilities of"):
        score(1, 1.0, values=(0, 1), probabilities=(0.5, 0.6))
    with pytest.raises(JudgeError, match="spread is nan"):
        pair("left", 1.0, 0.0, spread=math.nan)


def graded(wrong: tuple[int, int, int], each: int = 6) -> list[PairResult]:
    """Three thirds of ``each`` pairs, surest first, with so many errors in each; a tree a pair."""
    pairs = []
    for third, errors in enumerate(wrong):
        for i in range(each):
            sure = 3.0 - third + 0.01 * i
            pairs.append(pair("right" if i < errors else "left", sure, 0.0, f"{third}-{i}", spread=1.0))
    return pairs


def test_thirds_by_hand() -> None:
    found = thirds(graded((0, 2, 5)))
    assert [(r["third"], r["n"], r["error"]["value"]) for r in found["rows"]] == [
        ("sure", 6, 0.0), ("middle", 6, 2 / 6), ("unsure", 6, 5 / 6),
    ]  # fmt: skip
    assert (found["rows"][0]["from"], found["rows"][0]["to"]) == (3.0, 3.05)
    assert found["difference"]["value"] == 5 / 6
    assert found["beyond_chance"] is True
    assert thirds(graded((2, 2, 2)))["beyond_chance"] is False


def test_thirds_are_by_the_difference_in_spreads() -> None:
    far = [pair("right", 5.0, 0.0, f"f{i}", spread=50.0) for i in range(6)]  # far apart, and no head agrees: wrong
    near = [pair("left", 0.5, 0.0, f"n{i}", spread=0.1) for i in range(12)]
    rows = thirds([*far, *near])["rows"]
    assert [r["error"]["value"] for r in rows] == [0.0, 0.0, 1.0]
    certain = thirds([pair("left", 1, 0, f"{i}", spread=0.0) for i in range(15)] + graded((1, 1, 1)))
    assert certain["rows"][0]["to"] is None  # a difference over no spread has no end


@pytest.mark.parametrize(
    ("pairs", "why"),
    [([], "0 decided pairs have a spread"), ([pair("left", 1, 0)] * 30, "0 decided pairs have a spread"),
     ([pair("left", 1, 0, spread=0.5)] * 14, "14 decided pairs"), ([pair("left", 1, 0, spread=0.0)] * 20, "agree exactly")],
)  # fmt: skip
def test_no_thirds_of_too_little(pairs: list[PairResult], why: str) -> None:
    found = thirds(pairs)
    assert found["rows"] == []
    assert why in found["reason"]
