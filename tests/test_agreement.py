"""How good labels are: against numbers worked out by hand, against scipy, scikit-learn and krippendorff, and known truths."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from judge.agreement import PAPER, Rating, agreement, by_dimension, correlations, distributions, drift, pace
from judge.evaluation import ScoreResult, score_agreement
from judge.rubric import JudgeError, dimensions

FOUR = (0, 1, 2, 3)
FIVE = (-1, 0, 1, 2, 3)


def rate(values: Any, dimension: str = "L1", annotator: str = "ann", round: int = 1, trees: Any = None) -> list[Rating]:
    """One rating for each value; node i is of tree ``trees[i]``, or of its own."""
    trees = range(len(values)) if trees is None else trees
    rows = enumerate(zip(values, trees, strict=True))
    return [Rating(f"n{i}", f"t{tree}", dimension, annotator, round, int(value)) for i, (value, tree) in rows]


def two(a: Any, b: Any, values: tuple[int, ...] = FOUR, trees: Any = None, **more: Any) -> dict[str, Any]:
    return agreement(rate(a, trees=trees), rate(b, annotator="bob", trees=trees), "L1", values, **more)


def random_tables() -> Iterator[tuple[Any, Any, tuple[int, ...]]]:
    """Two raters who often agree, over both scales and from few nodes to many."""
    rng = np.random.default_rng(7)
    for n, values in itertools.product((5, 12, 40, 200), (FOUR, FIVE, (1, 2), (0, 1, 2, 3, 4, 5))):
        a = rng.choice(values, n, p=rng.dirichlet(np.ones(len(values))))
        yield a, np.where(rng.random(n) < 0.5, a, rng.choice(values, n)), values


def test_agreement_by_hand() -> None:
    found = two([3, 3, 2, 0], [3, 2, 2, 1])
    assert (found["n"], found["trees"], found["only_first"], found["only_second"]) == (4, 4, 0, 0)
    assert found["agreement"]["value"] == 2 / 4
    assert found["constant"] == {"says": 3, "value": 2 / 4, "interval": found["constant"]["interval"]}
    # observed (0+1+0+1)/4; expected: mean over all 16 couples of (a-b)^2 = 2 * (0+1+1+4) + (1+0+0+1) + (9+4+4+1) = 32 / 16
    assert found["kappa"]["value"] == pytest.approx(1 - (2 / 4) / (32 / 16))
    # the 8 values have sum x = 16, sum x^2 = 40: sum of (x-y)^2 over their 8 * 7 ordered couples = 2 * (8 * 40 - 16^2)
    assert found["alpha_interval"]["value"] == pytest.approx(1 - (2 / 4) / (2 * (8 * 40 - 16**2) / 56))
    # a: deviations 1 1 0 -2; b: 1 0 0 -1
    assert found["pearson"]["value"] == pytest.approx(3 / (6 * 2) ** 0.5)
    assert found["interval_note"] == "only 4 trees: the interval is too narrow"


def test_ordinal_alpha_by_hand() -> None:
    # the 6 values: 0 twice, 1 once, 3 thrice. Distances: 0-1 (2/2 + 1/2)^2, 1-3 (1/2 + 3/2)^2, 0-3 (2/2 + 1 + 3/2)^2
    observed, expected = 4 / 3, 2 * (2 * 1 * 2.25 + 1 * 3 * 4 + 2 * 3 * 12.25) / (6 * 5)
    assert two([0, 1, 3], [0, 3, 3])["alpha_ordinal"]["value"] == pytest.approx(1 - observed / expected)


def test_figures_are_those_of_the_packages() -> None:
    alpha = pytest.importorskip("krippendorff").alpha
    for a, b, values in random_tables():
        theirs = {
            "alpha_ordinal": alpha(np.array([a, b]), value_domain=values, level_of_measurement="ordinal"),
            "alpha_interval": alpha(np.array([a, b]), value_domain=values, level_of_measurement="interval"),
            "pearson": stats.pearsonr(a, b).statistic if len(set(a)) > 1 < len(set(b)) else None,
        }
        found = two(a, b, values, n_boot=2)
        assert {name: found[name]["value"] for name in theirs} == pytest.approx(theirs, abs=1e-12)


def test_kappa_is_that_of_scikit_learn() -> None:
    kappa = pytest.importorskip("sklearn.metrics").cohen_kappa_score
    for a, b, values in random_tables():
        theirs = kappa(a, b, labels=list(values), weights="quadratic")
        assert two(a, b, values, n_boot=2)["kappa"]["value"] == pytest.approx(theirs, abs=1e-12)


def test_intervals_are_those_of_the_judges_evaluation() -> None:
    """Resampling tables of trees is resampling the records: same seed, same trees drawn, same interval."""
    rng = np.random.default_rng(3)
    trees = rng.integers(14, size=90)
    a = rng.integers(-1, 4, 90)
    b = np.where(rng.random(90) < 0.6, a, rng.integers(-1, 4, 90))
    ours = two(a, b, FIVE, trees=trees, seed=5)
    rows = zip(trees, a, b, strict=True)
    theirs = score_agreement([ScoreResult(f"t{t}", "local", "L1", 1, 1, int(x), float(y)) for t, x, y in rows], seed=5)
    assert ours["trees"] == theirs["trees"] == 14
    assert ours["interval_note"] is theirs["interval_note"] is None
    theirs["constant"] = theirs["baselines"]["always_top"]["agreement"]
    for name in ("agreement", "pearson", "constant"):
        assert ours[name]["value"] == pytest.approx(theirs[name]["value"], abs=1e-12)
        assert ours[name]["interval"] == pytest.approx(theirs[name]["interval"], abs=1e-12)


@pytest.mark.parametrize("name", ["kappa", "alpha_ordinal", "alpha_interval"])
def test_intervals_are_those_of_a_plain_bootstrap(name: str) -> None:
    """Repeating each drawn tree's nodes and counting anew gives the very numbers that sums of tables give."""
    rng = np.random.default_rng(4)
    trees = np.sort(rng.integers(12, size=60))
    a, b = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    again, draws = np.random.default_rng(0), []
    for _ in range(40):
        rows = np.concatenate([np.flatnonzero(np.unique(trees)[i] == trees) for i in again.integers(12, size=12)])
        draws.append(two(a[rows], b[rows], n_boot=0)[name]["value"])
    found = two(a, b, trees=[chr(97 + t) for t in trees], n_boot=40)[name]  # letters sort as the numbers above
    assert found["interval"] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=1e-12)


def simulate(rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
    """40 trees of 8 nodes. In half of the trees b copies a 9 times in 10, in the others 3 times in 10, else says anything."""
    trees = np.repeat(np.arange(40), 8)
    copies = np.where(rng.random(40) < 0.5, 0.9, 0.3)[trees]
    a = rng.choice(4, 320, p=[0.1, 0.1, 0.2, 0.6])
    b = np.where(rng.random(320) < copies, a, rng.integers(0, 4, 320))
    return a.tolist(), b.tolist(), trees.tolist()


def test_intervals_cover_the_truth() -> None:
    """Truths worked out from the simulation: b is a with probability 0.6, else uniform."""
    p = np.array([0.1, 0.1, 0.2, 0.6])
    joint = 0.6 * np.diag(p) + 0.4 * np.outer(p, np.full(4, 0.25))
    gaps = np.subtract.outer(range(4), range(4)) ** 2
    truths = {
        "agreement": 0.6 + 0.4 * 0.25,
        "constant": 0.6,
        "kappa": 1 - (joint * gaps).sum() / (np.outer(joint.sum(1), joint.sum(0)) * gaps).sum(),
        "alpha_interval": 1 - (joint * gaps).sum() / (np.outer(both := (joint.sum(0) + joint.sum(1)) / 2, both) * gaps).sum(),
    }  # fmt: skip
    rng = np.random.default_rng(11)
    by_tree, by_node = dict.fromkeys(truths, 0), 0
    for _ in range(200):
        a, b, trees = simulate(rng)
        found = two(a, b, trees=trees, n_boot=200)
        for name, truth in truths.items():
            low, high = found[name]["interval"]
            by_tree[name] += low <= truth <= high
        low, high = two(a, b, n_boot=200)["agreement"]["interval"]  # each node a tree of its own: too sure
        by_node += low <= truths["agreement"] <= high
    assert all(180 <= covered <= 198 for covered in by_tree.values()), by_tree
    assert by_node < 176 <= 180 <= by_tree["agreement"]


def test_minus_one_is_the_level_below_zero() -> None:
    found = agreement(rate([-1, 3], "G5"), rate([-1, 0], "G5", "bob"), "G5", FIVE)
    assert (found["agreement"]["value"], found["constant"]["says"]) == (0.5, 3)
    # observed (0 + 9) / 2; expected (0 + 1 + 16 + 9) / 4
    assert found["kappa"]["value"] == pytest.approx(1 - (9 / 2) / (26 / 4))
    with pytest.raises(JudgeError, match=re.escape("L1 of n0 is -1, not one of 0, 1, 2, 3. Rate it again.")):
        agreement(rate([-1]), rate([0]), "L1", FOUR)


def test_constant_raters() -> None:
    same = two([3, 3, 3], [3, 3, 3])
    assert same["agreement"]["value"] == same["constant"]["value"] == 1.0
    for name in ("kappa", "alpha_ordinal", "alpha_interval"):
        assert same[name] == {"value": None, "interval": None,
                              "reason": "every rating is the same: there is no disagreement to expect"}  # fmt: skip
    assert same["pearson"]["reason"] == "all ratings of the first side and the second side are the same"
    one = two([3, 3, 3, 3], [3, 1, 0, 2])
    assert one["pearson"] == {"value": None, "interval": None, "reason": "all ratings of the first side are the same"}
    assert one["kappa"]["value"] == 0.0  # exactly what chance gives against a constant
    assert one["constant"]["value"] == 1.0


def test_no_overlap_one_tree_two_nodes() -> None:
    none = agreement(rate([3, 2]), [], "L1", FOUR)
    assert (none["n"], none["only_first"], none["only_second"], none["interval_note"]) == (0, 2, 0, "nothing to count")
    for name in ("agreement", "constant", "kappa", "alpha_ordinal", "alpha_interval"):
        assert (none[name]["value"], none[name]["reason"]) == (None, "no node rated on both sides")
    assert none["pearson"]["reason"] == "fewer than 3 nodes"
    tree = two([3, 2, 1, 0], [3, 2, 1, 1], trees=[0, 0, 0, 0])
    assert tree["kappa"]["value"] == pytest.approx(1 - (1 / 4) / ((9 + 3 + 5 + 15) / 16))
    assert all(tree[name]["interval"] is None for name in ("agreement", "constant", "kappa", "pearson"))
    assert tree["interval_note"] == "all from one tree: an interval by tree needs two or more"
    assert two([3, 2], [3, 2])["pearson"]["value"] is None


def test_order_of_the_rows_does_not_matter_and_names_match_nodes() -> None:
    first, second = rate([0, 1, 2, 3, 3]), rate([0, 1, 2, 2, 3], annotator="bob")
    assert agreement(first[::-1], second, "L1", FOUR[::-1]) == agreement(first, second, "L1", FOUR)
    half = agreement(first[:3], second[2:], "L1", FOUR)
    assert (half["n"], half["only_first"], half["only_second"], half["agreement"]["value"]) == (1, 2, 2, 1.0)
    with pytest.raises(JudgeError, match="n0 was rated twice on L1 by ann"):
        agreement(first + first[:1], second, "L1", FOUR)


def test_by_dimension_follows_the_rubric() -> None:
    ratings = rate([3, 2, 1]) + rate([3, 1, 1], annotator="bob") + rate([0, 2, 1], round=2) + rate([3, -1], "G5")
    found = by_dimension(ratings, ("ann", 1), ("bob", 1))
    assert [row["dimension"] for row in found] == ["L1", "L2", "L3", "L4", "G1", "G2", "G3", "G4", "G5"]
    assert [row["n"] for row in found] == [3, 0, 0, 0, 0, 0, 0, 0, 0]
    assert found[0]["agreement"]["value"] == 2 / 3
    assert found[8]["only_first"] == 2
    again = by_dimension(ratings, ("ann", 1), ("ann", 2))  # the same person, later
    assert again[0]["agreement"]["value"] == 2 / 3
    assert again[0]["kappa"] != found[0]["kappa"]
    with pytest.raises(JudgeError, match="ann in round 1 is on both sides"):
        by_dimension(ratings, ("ann", 1), ("ann", 1))
    assert by_dimension(ratings, ("ann", 1), ("nobody", 1))[0]["n"] == 0  # one annotator only


def test_distributions() -> None:
    found = {row["dimension"]: row for row in distributions(rate([3, 3, 0]) + rate([-1, 3], "G5") + rate([7], "kind"))}
    assert list(found) == [*dimensions(), "kind"]
    assert found["L1"] == {"dimension": "L1", "n": 3, "mean": 2.0, "counts": {"0": 1, "1": 0, "2": 0, "3": 2}}
    assert found["G5"] == {"dimension": "G5", "n": 2, "mean": 1.0, "counts": {"-1": 1, "0": 0, "1": 0, "2": 0, "3": 1}}
    assert found["L2"] == {"dimension": "L2", "n": 0, "mean": None, "reason": "no ratings",
                           "counts": {"0": 0, "1": 0, "2": 0, "3": 0}}  # fmt: skip
    assert found["kind"]["counts"] == {"7": 1}
    with pytest.raises(JudgeError, match="L1 takes one of 0, 1, 2, 3, not '4'"):
        distributions(rate([4]))


def test_correlations() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
    other = rate(rng.integers(0, 4, 30), "L2", "bob")  # of the same nodes, but by somebody who did not rate L1
    ratings = rate(a) + rate(b, "L2")[:20] + other + rate([1, 1, 1, 1], "L3") + rate([0, 3], "L4")
    found = {(row["a"], row["b"]): row for row in correlations(ratings)}
    assert len(found) == 9 * 8 / 2
    assert found["L1", "L2"]["n"] == found["L1", "L2"]["trees"] == 20
    assert found["L1", "L2"]["pearson"]["value"] == pytest.approx(stats.pearsonr(a[:20], b[:20]).statistic, abs=1e-12)
    low, high = found["L1", "L2"]["pearson"]["interval"]
    assert -1 <= low < found["L1", "L2"]["pearson"]["value"] < high <= 1
    assert (found["L1", "L3"]["n"], found["L1", "L3"]["pearson"]["reason"]) == (4, "all ratings of L3 are the same")
    assert (found["L1", "L4"]["n"], found["L1", "L4"]["pearson"]["reason"]) == (2, "fewer than 3 nodes")
    assert found["G4", "G5"]["n"] == 0
    with pytest.raises(JudgeError, match="rated twice on L1"):
        correlations(rate([1]) + rate([1]))


def test_pace_leaves_pauses_out_and_people_apart() -> None:
    found = pace([
        ("2025-01-01T23:59:00+00:00", "ann"),
        ("2025-01-01T23:59:10.000Z", "ann"),  # 10 s
        ("2025-01-02T00:00:40", "ann"),  # 90 s, the next day
        ("2025-01-02T00:05:40", "ann"),  # 300 s: still work
        ("2025-01-02T00:10:41", "ann"),  # 301 s: a pause
        ("2025-01-02T00:10:41", "ann"),  # saved together
        ("2025-01-01T23:59:05+00:00", "bob"),
        ("2025-01-02T01:59:09+02:00", "bob"),  # 4 s later, on the first day, in another zone
        ("2025-01-01T12:00:00+00:00", "cid"),
    ])  # fmt: skip
    assert found["n"] == 9
    assert found["days"] == [{"day": "2025-01-01", "n": 5}, {"day": "2025-01-02", "n": 4}]
    assert (found["gaps"], found["pauses"], found["median_seconds"]) == (4, 1, 50.0)
    assert "5 minutes" in found["rule"]
    assert found["annotators"][0] == {"annotator": "ann", "n": 6, "gaps": 3, "pauses": 1, "median_seconds": 90.0}
    assert found["annotators"][1]["median_seconds"] == 4.0
    assert found["annotators"][2]["median_seconds"] is pace([])["median_seconds"] is None
    assert found["annotators"][2]["reason"] == "no two judgements of a person within the limit"
    with pytest.raises(JudgeError, match="'yesterday' is not a time"):
        pace([("yesterday", "ann")])


def test_drift_by_hand() -> None:
    values = [0, 1, 2, 3, 3, 3, 3]
    times = [f"2025-01-0{day}T00:00:00+00:00" for day in range(1, 8)]
    timed = list(zip(times, rate(values), strict=True))
    other = [(times[0], r) for r in rate([2], "L2") + rate([0], annotator="bob")]
    found = drift([*timed[::-1], *other], block=3)
    assert [(r["annotator"], r["dimension"], r["block"], r["n"]) for r in found] == [
        ("ann", "L1", 1, 3), ("ann", "L1", 2, 3), ("ann", "L1", 3, 1), ("ann", "L2", 1, 1), ("bob", "L1", 1, 1)]  # fmt: skip
    assert [r["mean"]["value"] for r in found[:3]] == [1.0, 3.0, 3.0]
    assert [r["earlier_median"] for r in found[:3]] == [None, 1.0, 2.5]
    assert (found[0]["start"], found[0]["end"]) == (times[0], times[2])
    assert found[1]["mean"]["interval"] == [3.0, 3.0]
    assert found[2]["mean"]["interval"] is None
    assert found[2]["interval_note"].startswith("all from one tree")
    with pytest.raises(JudgeError, match="A block needs at least one rating, not 0"):
        drift(timed, block=0)
    assert drift([]) == []


def test_drift_tells_a_moved_measure_from_a_steady_one() -> None:
    rng = np.random.default_rng(6)
    steady, milder = rng.choice(4, 50, p=[0.1, 0.3, 0.4, 0.2]), rng.choice(4, 50, p=[0, 0.05, 0.15, 0.8])
    ratings = rate([*steady, *rng.permutation(steady), *milder], trees=np.arange(150) % 60)
    found = drift([(f"2025-01-01T00:{i // 60:02}:{i % 60:02}", r) for i, r in enumerate(ratings)])
    assert [(row["n"], row["trees"]) for row in found] == [(50, 50)] * 3
    start = found[0]["mean"]["value"]
    low, high = found[1]["mean"]["interval"]
    assert low < start == found[1]["mean"]["value"] < high
    assert start < found[2]["mean"]["interval"][0]


def test_everything_is_plain_json() -> None:
    """No NaN and no numpy: a dict read back from strict JSON is the dict."""
    rng = np.random.default_rng(1)
    ratings = [r for who in ("ann", "bob") for code, d in dimensions().items()
               for r in rate(rng.choice(d.values, 6), code, who, trees=[0, 0, 1, 1, 2, 2])]  # fmt: skip
    timed = [("2025-01-01T00:00:00", r) for r in ratings]
    for found in (by_dimension(ratings, ("ann", 1), ("bob", 1)), by_dimension([], ("ann", 1), ("bob", 1)), distributions(ratings),
                  distributions([]), correlations(ratings), correlations([]), drift(timed), pace([(t, r.annotator) for t, r in timed]),
                  pace([]), PAPER):  # fmt: skip
        assert json.loads(json.dumps(found, allow_nan=False)) == found
