"""How good a judge is: against numbers worked out by hand, against scipy and scikit-learn, and against known truths."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from judge.evaluation import (
    PairResult,
    Repeat,
    breakdown,
    compare,
    evaluate,
    pair_accuracy,
    score_agreement,
)
from judge.rubric import JudgeError
from tests.scored import full_report, pair, score

FIVE = [  # by hand: right, wrong, undecided (half), human tie, right
    pair("left", 2.0, 1.0, "a", left_tokens=10, right_tokens=5),
    pair("left", 0.0, 1.0, "a", left_tokens=10, right_tokens=5),
    pair("right", 1.0, 1.0, "b", left_tokens=7, right_tokens=7),
    pair("tie", 1.0, 1.2, "b", tie_margin=1.0),
    pair("left", 3.0, 0.5, "c", left_tokens=1, right_tokens=2, tie_margin=2.5),
]


def test_accuracy_by_hand() -> None:
    found = pair_accuracy(FIVE)
    assert (found["n"], found["n_ties"], found["trees"]) == (4, 1, 3)
    assert found["accuracy"] == (1 + 0 + 0.5 + 1) / 4
    assert (
        found["three_way"]["value"] == (1 + 0 + 0 + 1 + 1) / 5
    )  # Rao-Kupper: the fourth is a tie with .53, the last one left with .50 against a tie's .49
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
    three = found["baselines"]["always_top"]
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
    assert found["others"]["zero-shot"]["missing"] > 0
    with pytest.raises(JudgeError, match="scored 1 pairs, not 2"):
        evaluate([pair("left", 1, 0)] * 2, [], others={"half": [(1.0, 0.0)]})


def test_people_and_derived_pairs_are_never_mixed() -> None:
    people = [pair("left", 1, 0, f"{i}") for i in range(3)]
    derived = [pair("left", 0, 1, f"{i}", human_margin=2.0) for i in range(5)]
    found = evaluate(
        [derived[0], *people, *derived[1:]], [], others={"b": [(0.0, 1.0), *[(1.0, 0.0)] * 3, *[(1.0, 0.0)] * 4]}
    )
    assert (found["pairs"]["n"], found["pairs"]["accuracy"]) == (3, 1.0)
    assert (found["derived"]["n"], found["derived"]["accuracy"]) == (5, 0.0)
    assert [r["n"] for r in found["pairs_by"] if r["by"] == "dimension"] == [3]
    assert [r["n"] for r in found["derived_by"] if r["by"] == "dimension"] == [5]
    assert found["calibration"]["n"] == 3
    assert (found["pairs"]["others"]["b"]["value"], found["derived"]["others"]["b"]["value"]) == (1.0, 4 / 5)


def test_overall_of_replies_and_of_dialogues_are_two_rows_in_the_rubrics_order() -> None:
    kinds = [("global", "G3"), ("global", "overall"), ("local", "L4"), ("local", "overall"), ("local", "own")]
    rows = breakdown([pair("left", 1, 0, level=a, dimension=b) for a, b in kinds], by=("dimension",))
    assert [(r["level"], r["key"], r["row"]) for r in rows] == [
        ("local", "overall", "overall"), ("local", "L4", "L4"), ("local", "own", "own"),
        ("global", "overall", "overall_global"), ("global", "G3", "G3"),
    ]  # fmt: skip


def test_every_row_has_every_baseline() -> None:
    found = full_report()
    for row in (found["pairs"], *found["pairs_by"], found["derived"], *found["derived_by"]):
        assert set(row["baselines"]) == {"coin", "majority", "longer"}
        assert set(row["others"]) == {"untrained & raw", "zero-shot"}
        assert "ceiling" in row
    for row in (found["scores"], *found["scores_by"]):
        assert set(row["baselines"]) == {"always_top", "majority"}
        assert "ceiling" in row
    assert {r["by"] for r in found["pairs_by"]} == {"level", "dimension", "turn", "depth", "annotator", "cut"}
    assert {r["key"] for r in found["pairs_by"] if r["by"] == "cut"} == {"cut", "whole"}


def test_another_judge_is_compared_where_it_answered() -> None:
    pairs = [pair("left", 1, 0, "a"), pair("right", 1, 0, "a"), pair("left", 1, 0, "b"), pair("tie", 1, 0, "b")]
    found = evaluate(pairs, [], others={"zero-shot": [(0.0, 1.0), (0.0, 1.0), None, (0.0, 1.0)]})["pairs"]["others"][
        "zero-shot"
    ]
    assert (found["n"], found["value"], found["ours"], found["difference"]) == (2, 1 / 2, 1 / 2, 0.0)


def test_longer_is_beaten_or_not() -> None:
    pairs = [pair("left", 1, 0, f"{i}", left_tokens=1, right_tokens=2) for i in range(12)]
    longer = pair_accuracy(pairs)["baselines"]["longer"]
    assert (longer["value"], longer["difference"], longer["beyond_chance"]) == (0.0, 1.0, True)


def test_the_ceiling_is_what_people_agree_on_by_hand() -> None:
    repeats = [Repeat("local", "L1", "a", "pairs", agrees, "ann and bob") for agrees in (True, True, True, False)]
    repeats += [Repeat("global", "overall", "b", "pairs", False, "ann, round 1 and ann, round 2")]
    repeats += [Repeat("local", "L1", "a", "scores", True, "ann and bob")]
    found = evaluate(
        [pair("left", 1, 0), pair("left", 1, 0, level="global", dimension="G3")], [score(1, 1.0)], ceiling=iter(repeats)
    )
    assert (found["pairs"]["ceiling"]["n"], found["pairs"]["ceiling"]["value"]) == (5, 3 / 5)
    rows = {(r["by"], r["key"]): r["ceiling"] for r in found["pairs_by"]}
    assert (rows["dimension", "L1"]["n"], rows["dimension", "L1"]["value"]) == (4, 3 / 4)
    assert rows["dimension", "G3"] is None
    assert rows["level", "global"]["n"] == 1
    assert found["scores"]["ceiling"]["value"] == 1.0
    assert [(r["kind"], r["row"], r["n"]) for r in found["ceiling"]["by"]] == [
        ("pairs", "overall_global", 1), ("pairs", "L1", 4), ("scores", "L1", 1),
    ]  # fmt: skip
    assert found["pairs"]["ceiling"]["who"] == {"ann and bob": 4, "ann, round 1 and ann, round 2": 1}


def test_scales_of_their_own() -> None:
    own, g5 = (0, 2, 5), (-1, 0, 1, 2, 3)
    scores = [
        score(5, 3.6, "a", values=own),
        score(2, 3.4, "a", values=own),
        score(-1, -0.5, "b", values=g5, dimension="G5"),
    ]
    found = score_agreement(scores)
    assert found["agreement"]["value"] == 2 / 3  # 3.6 is nearest to 5, 3.4 to 2, -.5 rounds up to 0
    assert found["scales"] == 2
    assert found["baselines"]["always_top"]["constant"] is None
    assert found["baselines"]["always_top"]["mae"]["value"] == pytest.approx((0 + 3 + 4) / 3)
    rows = breakdown(scores, by=("value",))
    assert [(r["key"], r["scale"], r["n"]) for r in rows] == [(-1, [*g5], 1), (2, [*own], 1), (5, [*own], 1)]
    with pytest.raises(JudgeError, match=r"4 is not one of 0, 2, 5"):
        score(4, 1.0, values=own)
