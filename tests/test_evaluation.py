"""How good a judge is: against numbers worked out by hand, against scipy and scikit-learn, and against known truths."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from judge.evaluation import (
    PairResult,
    ScoreResult,
    breakdown,
    calibration,
    compare,
    evaluate,
    pair_accuracy,
    score_agreement,
)
from judge.report import write
from judge.rubric import JudgeError


def pair(outcome: str, left: float, right: float, tree: str = "t", **more: Any) -> PairResult:
    return PairResult(tree, **{"level": "local", "dimension": "L1", "turn": 0, "depth": 1, **more}, outcome=outcome,
                      left=left, right=right)  # fmt: skip


def score(value: int, expected: float, tree: str = "t", **more: Any) -> ScoreResult:
    return ScoreResult(tree, **{"level": "local", "dimension": "L1", "turn": 0, "depth": 1, **more}, value=value,
                       expected=expected)  # fmt: skip


FIVE = [  # by hand: right, wrong, undecided (half), human tie, right
    pair("left", 2.0, 1.0, "a", left_tokens=10, right_tokens=5),
    pair("left", 0.0, 1.0, "a", left_tokens=10, right_tokens=5),
    pair("right", 1.0, 1.0, "b", left_tokens=7, right_tokens=7),
    pair("tie", 1.0, 1.2, "b", tie_margin=0.5),
    pair("left", 3.0, 0.5, "c", left_tokens=1, right_tokens=2, tie_margin=2.5),
]


def test_accuracy_by_hand() -> None:
    found = pair_accuracy(FIVE)
    assert (found["n"], found["n_ties"], found["trees"]) == (4, 1, 3)
    assert found["accuracy"] == (1 + 0 + 0.5 + 1) / 4
    assert (
        found["three_way"]["value"] == (1 + 0 + 0 + 1 + 1) / 5
    )  # the last is no tie to the judge: 2.5 is not below 2.5
    assert found["baselines"]["majority"]["value"] == 3 / 4
    assert found["baselines"]["majority"]["side"] == "left"
    assert found["baselines"]["longer"]["value"] == (1 + 1 + 0.5 + 0) / 4
    assert found["baselines"]["coin"]["interval"] == [0.0, 1.0]  # four coins: 0 and 4 right are within 95 %
    assert found["interval_note"] == "only 3 trees: the interval is too narrow"
    assert "half" in found["tie_rule"]
    coin = pair_accuracy([pair("left", 1, 0, f"{i}") for i in range(100)])["baselines"]["coin"]
    assert coin["interval"] == [0.40, 0.60]  # the textbook's 95 % of 100 coins


def test_accuracy_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    pairs = [pair(str(o), *rng.normal(size=2), f"{i % 30}") for i, o in enumerate(rng.choice(["left", "right"], 400))]
    said = ["left" if p.left > p.right else "right" for p in pairs]
    assert pair_accuracy(pairs)["accuracy"] == pytest.approx(metrics.accuracy_score([p.outcome for p in pairs], said))


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    value = rng.integers(0, 4, 300)
    expected = np.round(value + rng.normal(0, 1, 300), 1)  # rounded: ties in the ranks
    found = score_agreement([score(int(v), float(e), f"{i % 40}") for i, (v, e) in enumerate(zip(value, expected))])
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(value, expected).statistic)
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(value, expected).statistic)
    assert found["mae"]["value"] == pytest.approx(np.abs(value - expected).mean())


def test_correlation_interval_is_that_of_real_resamples() -> None:
    rng = np.random.default_rng(3)
    value = rng.integers(0, 4, 120)
    expected = np.round(value + rng.normal(0, 1.5, 120), 1)
    found = score_agreement([score(int(v), float(e), f"{i // 4}") for i, (v, e) in enumerate(zip(value, expected))])
    blocks = np.arange(120).reshape(30, 4)
    drawn = [blocks[rng.integers(30, size=30)].ravel() for _ in range(1000)]
    for name, of in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        real = np.percentile([of(value[d], expected[d]).statistic for d in drawn], [2.5, 97.5])
        assert found[name]["interval"] == pytest.approx(real, abs=0.02)


def test_scores_by_hand() -> None:
    found = score_agreement([score(3, 2.5, "a"), score(3, 2.4, "a"), score(1, 0.0, "b"), score(0, 0.0, "c")])
    assert found["mae"]["value"] == pytest.approx((0.5 + 0.6 + 1 + 0) / 4)
    assert found["agreement"]["value"] == 2 / 4  # 2.5 rounds up to 3, 2.4 down
    three = found["baselines"]["always_3"]
    assert (three["agreement"]["value"], three["mae"]["value"]) == (2 / 4, (0 + 0 + 2 + 3) / 4)
    assert three["pearson"] is None
    assert found["baselines"]["majority"]["constant"] == 3
    several = score_agreement([score(v, 1.0) for v in (2, 2, 0, 0, 3)])
    assert several["baselines"]["majority"]["constant"] == 0  # the lowest of the commonest


def dataset(rng: np.random.Generator, n_trees: int = 40) -> list[PairResult]:
    """Trees that are easier or harder, 0.7 right on average."""
    ease = rng.beta(7, 3, n_trees)
    return [pair("left", float(rng.random() < e), 0.5, f"{t}") for t, e in enumerate(ease) for _ in range(6)]


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(4)
    found = [pair_accuracy(dataset(rng), seed=i, n_boot=400)["interval"] for i in range(200)]
    assert 0.88 <= np.mean([low <= 0.7 <= high for low, high in found]) <= 0.99


def test_interval_by_tree_is_wider_where_trees_agree_within() -> None:
    rng = np.random.default_rng(5)
    right = rng.random(30) < 0.7
    rows = [(f"{t}", f"{t}-{i}", float(r)) for t, r in enumerate(right) for i in range(10)]
    by_tree, by_pair = (pair_accuracy([pair("left", row[2], 0.5, row[k]) for row in rows])["interval"] for k in (0, 1))
    ratio = (by_tree[1] - by_tree[0]) / (by_pair[1] - by_pair[0])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.2)  # ten copies of a tree are one tree


def test_same_seed_same_interval() -> None:
    pairs = dataset(np.random.default_rng(6))
    assert pair_accuracy(pairs, seed=7) == pair_accuracy(pairs, seed=7)
    assert pair_accuracy(pairs, seed=7)["interval"] != pair_accuracy(pairs, seed=8)["interval"]


def test_constant_columns_have_no_correlation() -> None:
    judge = score_agreement([score(v, 1.1, f"{v}") for v in range(4)])
    assert judge["pearson"] == {"value": None, "interval": None, "reason": "all scores of the judge are the same"}
    human = score_agreement([score(2, float(v), f"{v}") for v in range(4)])
    assert human["spearman"]["reason"] == "all scores of the human are the same"
    two = score_agreement([score(0, 0.0), score(1, 1.0)])
    assert two["pearson"]["reason"] == "fewer than 3 scores"


def test_resamples_of_one_value_are_left_out() -> None:
    # of the 27 draws of three trees 3 are constant, 18 have two values and so r = 1, 6 are all: 2 / sqrt(2 * 13 / 6)
    found = score_agreement([score(v, v + 0.5 * (v == 1), f"{v}") for v in (0, 1, 2)])
    assert found["pearson"]["interval"] == pytest.approx([2 / math.sqrt(13 / 3), 1.0])


@pytest.mark.parametrize(
    ("pairs", "n", "accuracy", "note"),
    [
        ([], 0, None, "nothing to count"),
        ([pair("tie", 1, 0)] * 3, 0, None, "nothing to count"),
        ([pair("right", 0, 1)], 1, 1.0, "one tree"),
        ([pair("left", 1, 0), pair("left", 0, 1)], 2, 0.5, "one tree"),
    ],
)
def test_little_data(pairs: list[PairResult], n: int, accuracy: float | None, note: str) -> None:
    found = pair_accuracy(pairs)
    assert (found["n"], found["accuracy"], found["interval"]) == (n, accuracy, None)
    assert note in found["interval_note"]
    assert found["baselines"]["longer"]["value"] is None
    assert calibration(pairs)["n"] == n


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_number_are_refused(bad: float) -> None:
    with pytest.raises(JudgeError, match=r"L1 in tree t: right is .*Score again"):
        pair("left", 0.0, bad)
    with pytest.raises(JudgeError, match="expected is"):
        score(3, bad)


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(JudgeError, match="'both'"):
        pair("both", 0.0, 1.0)
    with pytest.raises(JudgeError, match=r"-0\.1"):
        pair("left", 0.0, 1.0, tie_margin=-0.1)


def test_breakdown() -> None:
    pairs = [pair("left", 1, 0, "a", turn=10, group="blur"), pair("left", 0, 1, "b", turn=2), pair("tie", 0, 1, turn=2)]
    rows = breakdown(pairs, by=("turn", "group"))
    assert [(r["by"], r["key"], r["n"], r["n_ties"], r["accuracy"]) for r in rows] == [
        ("turn", 2, 1, 1, 0.0),
        ("turn", 10, 1, 0, 1.0),
        ("group", "blur", 1, 0, 1.0),
    ]
    assert [r["mae"]["value"] for r in breakdown([score(1, 3.0), score(0, 1.0)], by=("value",))] == [1.0, 2.0]
    assert breakdown([]) == []
    with pytest.raises(JudgeError, match="'colour'"):
        breakdown(pairs, by=("colour",))


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


def test_compare() -> None:
    rng = np.random.default_rng(10)
    good = [pair("left", float(rng.random() < 0.8), 0.5, f"{i // 4}") for i in range(400)]
    bad = [pair("left", float(rng.random() < 0.5), 0.5, f"{i // 4}") for i in range(400)]
    found = compare(good, bad)
    assert found["difference"] == pytest.approx(found["accuracy_a"] - found["accuracy_b"])
    assert found["beyond_chance"] is True
    assert compare(bad, good)["interval"] == pytest.approx([-v for v in reversed(found["interval"])], abs=0.02)
    assert compare(good, good)["beyond_chance"] is False
    assert compare(good[:4], bad[:4])["beyond_chance"] is None
    with pytest.raises(JudgeError, match="Score the same"):
        compare(good, bad[:-1])
    with pytest.raises(JudgeError, match="Score the same"):
        compare(good[:1], [pair("right", 1, 0, "0")])


def full_report() -> dict[str, Any]:
    rng = np.random.default_rng(11)
    pairs = [
        pair(["left", "right", "tie"][i % 3], *rng.normal(size=2), f"{i // 6}", dimension=f"<L{i % 2}>", turn=i % 4,
             left_tokens=i, right_tokens=9) for i in range(120)
    ]  # fmt: skip
    scores = [score(i % 4, float(rng.uniform(0, 3)), f"{i // 6}") for i in range(60)]
    return evaluate(pairs, scores, others={"untrained & raw": [(p.right, p.left) for p in pairs]}, n_boot=100)


def numbers(value: object) -> Sequence[object]:
    if isinstance(value, dict | list):
        return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
    return [value]


def test_evaluation_survives_json() -> None:
    found = full_report()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {type(n) for n in numbers(found)} <= {int, float, str, bool, type(None)}
    other = found["others"]["untrained & raw"]
    assert other["accuracy"] == pytest.approx(1 - found["pairs"]["accuracy"])  # the sides exchanged
    assert other["versus"]["difference"] == pytest.approx(found["pairs"]["accuracy"] - other["accuracy"])
    with pytest.raises(JudgeError, match="scored 1 pairs, not 2"):
        evaluate([pair("left", 1, 0)] * 2, [], others={"half": [(1.0, 0.0)]})


def test_page_shows_the_numbers_and_calls_nobody(tmp_path: Path) -> None:
    found = json.loads(json.dumps(full_report()))
    write(found, tmp_path / "page.html", "Judge <one>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for value in (found["pairs"]["accuracy"], found["calibration"]["ece"], found["scores"]["mae"]["value"],
                  *found["pairs"]["interval"], *(r["accuracy"] for r in found["pairs_by"] if r["by"] == "turn")):  # fmt: skip
        assert f"{value:.3f}" in page
    assert "<h1>Judge &lt;one&gt;</h1>" in page
    assert "untrained &amp; raw" in page
    assert "<L0>" not in page
    assert page.count('role="img" aria-label="') == page.count("<svg") == 4
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "#0100" not in page  # every stand-in colour became one of the page's


def test_page_of_nothing_says_so(tmp_path: Path) -> None:
    write(evaluate([], []), tmp_path / "page.html", "Empty")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("Nothing to show") == page.count("<section>") == 7
    assert "<svg" not in page
    with pytest.raises(JudgeError, match="Cannot write the report"):
        write(evaluate([], []), tmp_path / "missing" / "page.html", "Nowhere")


def test_page_of_certainty_is_doubted(tmp_path: Path) -> None:
    write(evaluate([pair("left", 1, 0, f"{i}") for i in range(12)], [], n_boot=50), tmp_path / "page.html", "All right")
    assert "1.000 [1.000, 1.000] (no width: all trees alike)" in (tmp_path / "page.html").read_text(encoding="utf-8")
