"""How good a judge is on trees it never saw: accuracy, calibration and agreement, with intervals and baselines.

Plain records in, JSON-able dicts out. Never runs a judge, reads a store, or draws (``judge.report`` does). Intervals are
95 % percentile bootstraps over whole trees (cluster bootstrap: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x):
replies of one tree share their prefix and are not independent. ``interval_note`` tells why one is missing or doubtful.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import mode
from typing import Any

import numpy as np

from judge.rubric import JudgeError

Array = np.ndarray[Any, Any]
Result = dict[str, Any]
TIE_RULE = "Human ties are left out; equal scores of the judge count as half. Three-way: all pairs; closer than the tie margin is a tie."
FEW_TREES = 10  # below this a percentile bootstrap is clearly too narrow
BY = ("level", "dimension", "turn", "depth", "group")
NONE = {"value": None, "interval": None}
CELLS = 2_000_000  # resamples x records held at once: some tens of MB


@dataclass(frozen=True, slots=True)
class PairResult:
    """One compared pair. ``outcome``: the human's. ``left``, ``right``, ``tie_margin`` (Rao-Kupper, >= 0): the judge's logits."""

    tree: str
    level: str
    dimension: str
    turn: int
    depth: int
    outcome: str
    left: float
    right: float
    tie_margin: float = 0.0
    left_tokens: int = 0
    right_tokens: int = 0
    human_margin: float | None = None
    group: str = ""

    def __post_init__(self) -> None:
        _check_finite(self, "left", "right", "tie_margin")
        if self.outcome not in ("left", "right", "tie") or self.tie_margin < 0:
            raise JudgeError(f"{self.outcome!r}, {self.tie_margin}: a pair takes left, right or tie, a margin >= 0.")


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """One scored reply of a held-out tree: the human's ``value`` and what the judge ``expected``, on the same scale."""

    tree: str
    level: str
    dimension: str
    turn: int
    depth: int
    value: int
    expected: float
    group: str = ""

    def __post_init__(self) -> None:
        _check_finite(self, "value", "expected")


Pairs = Sequence[PairResult]
Scores = Sequence[ScoreResult]
Others = Mapping[str, Sequence[tuple[float, float]]]


def _check_finite(record: PairResult | ScoreResult, *names: str) -> None:
    for name in names:
        if not math.isfinite(value := getattr(record, name)):
            where = f"{record.dimension} in tree {record.tree}"
            raise JudgeError(f"{where}: {name} is {value}. Score again, or train again with a lower learning rate.")


class _Trees:
    """The tree of each of n records (``of``), and how often each tree is in each resample, ``drawn`` (n_boot, trees)."""

    def __init__(self, records: Pairs | Scores, seed: int, n_boot: int) -> None:
        names, self.of = np.unique([r.tree for r in records], return_inverse=True)
        self.n = n = len(names)
        rng = np.random.default_rng(seed)
        draws = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(n_boot if n > 1 else 0)]
        self.drawn = np.array(draws, dtype=float).reshape(len(draws), n)
        notes = {0: "nothing to count", 1: "all from one tree: an interval by tree needs two or more"}
        self.note = None if n >= FEW_TREES else notes.get(n, f"only {n} trees: the interval is too narrow")

    def mean(self, values: Array) -> Result:
        """``values`` (n,): their mean and its interval, a ratio of two sums by tree in each resample."""
        draws = (self.drawn @ np.bincount(self.of, values)) / (self.drawn @ np.bincount(self.of))
        return _estimate(values.mean() if len(values) else None, draws)

    def correlation(self, x: Array, y: Array, ranked: bool) -> Result:
        """Pearson's (``ranked``: Spearman's) of x and y, (n,) each; null with the reason where it is not defined."""
        constant = [who for who, v in (("human", x), ("judge", y)) if len(set(v)) < 2]
        if len(x) < 3 or constant:
            why = "fewer than 3 scores" if len(x) < 3 else f"all scores of the {constant[0]} are the same"
            return {**NONE, "reason": why}
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()  # so that "constant" means the same on any scale
        chunks = np.array_split(self.drawn, 1 + len(self.drawn) * len(x) // CELLS)
        draws = np.concatenate([_correlation(x, y, chunk[:, self.of], ranked) for chunk in chunks])
        return _estimate(_correlation(x, y, np.ones((1, len(x))), ranked)[0], draws)


def _estimate(value: float | None, draws: Array) -> Result:
    drawn = draws[np.isfinite(draws)]  # a resample may draw one value only, and then has no correlation
    interval = [float(v) for v in np.percentile(drawn, [2.5, 97.5])] if len(drawn) else None
    return {"value": None if value is None else float(value), "interval": interval}


def _correlation(x: Array, y: Array, weights: Array, ranked: bool) -> Array:
    """Of x and y (n,) with ``weights`` (b, n): (b,), nan where one of them is constant."""
    total = weights.sum(1, keepdims=True)
    columns = (_midranks(v, weights) if ranked else v for v in (x, y))
    dx, dy = (v - (weights * v).sum(1, keepdims=True) / total for v in columns)
    vx, vy, cov = ((weights * p).sum(1) / total[:, 0] for p in (dx * dx, dy * dy, dx * dy))
    return np.divide(cov, np.sqrt(vx * vy), out=np.full(len(cov), np.nan), where=(vx > 1e-20) & (vy > 1e-20))


def _midranks(x: Array, weights: Array) -> Array:
    """Ranks (b, n) of x (n,) when record i is there ``weights[b, i]`` times; equal values share their mean rank."""
    _, first, which = np.unique(np.sort(x), return_index=True, return_inverse=True)
    order = np.argsort(x, kind="stable")
    copies = np.add.reduceat(weights[:, order], first, axis=1)
    ranks = np.empty_like(weights)
    ranks[:, order] = (copies.cumsum(1) - (copies - 1) / 2)[:, which]
    return ranks


def _decided(pairs: Pairs) -> tuple[list[PairResult], Array, Array]:
    """The pairs that the human decided; +1 for each left, -1 for each right; the judge's left - right."""
    decided = [p for p in pairs if p.outcome != "tie"]
    human = np.array([1.0 if p.outcome == "left" else -1.0 for p in decided])
    return decided, human, np.array([p.left - p.right for p in decided], dtype=float)


def _credit(human: Array, difference: Array) -> Array:
    """1 where the sign is the human's, 0 where it is the other, 1/2 where there is no difference."""
    return (1 + human * np.sign(difference)) / 2


def pair_accuracy(pairs: Pairs, seed: int = 0, n_boot: int = 1000) -> Result:
    """The share of pairs in which the judge agrees with the human, its interval by tree, and the baselines.

    ``accuracy`` = mean of 1[sign(left - right) = human] over the ``n`` pairs that the human decided; equal scores of the
    judge count as half. ``three_way`` is over all pairs; the judge says tie when its scores are equal or closer than
    ``tie_margin``. Baselines on the decided pairs: ``coin`` (its interval is binomial: where a coin lands with this n),
    ``majority`` (always the side more often right, sides as stored; read off these very pairs, so never below 0.5),
    ``longer`` (more tokens wins, equal counts half).
    """
    from scipy.stats import binom

    decided, human, difference = _decided(pairs)
    n, trees = len(decided), _Trees(decided, seed, n_boot)
    accuracy = trees.mean(_credit(human, difference))
    said = [0 if abs(p.left - p.right) < p.tie_margin else np.sign(p.left - p.right) for p in pairs]
    meant = [{"left": 1, "tie": 0, "right": -1}[p.outcome] for p in pairs]
    coin = [float(v) / n for v in binom.ppf([0.025, 0.975], n, 0.5)] if n else None
    side = "left" if sum(human) >= 0 else "right"
    majority = np.array([p.outcome == side for p in decided], dtype=float)
    counted = any(p.left_tokens or p.right_tokens for p in decided)
    longer = _credit(human, np.array([p.left_tokens - p.right_tokens for p in decided], dtype=float))
    return {
        "n": n, "n_ties": len(pairs) - n, "trees": trees.n,
        "accuracy": accuracy["value"], "interval": accuracy["interval"], "interval_note": trees.note,
        "tie_rule": TIE_RULE, "three_way": _Trees(pairs, seed, n_boot).mean(np.equal(said, meant).astype(float)),
        "baselines": {
            "coin": {"value": 0.5, "interval": coin},
            "majority": {**trees.mean(majority), "side": side},
            "longer": trees.mean(longer) if counted else {**NONE, "reason": "no token counts"},
        },
    }  # fmt: skip


def score_agreement(scores: Scores, seed: int = 0, n_boot: int = 1000) -> Result:
    """Human value against the judge's expected score: correlations, mean absolute error, exact agreement.

    Pearson's r; Spearman's rho (Pearson's on mid-ranks, ranked anew in every resample); ``mae`` = mean |value -
    expected|; ``agreement`` = share with value = floor(expected + 1/2). Baselines: always 3, and always the commonest
    value of these very scores (the lowest of several); a constant has no correlation.
    """
    trees = _Trees(scores, seed, n_boot)
    human = np.array([s.value for s in scores], dtype=float)
    judge = np.array([s.expected for s in scores], dtype=float)
    commonest = mode(sorted(int(s.value) for s in scores)) if scores else None

    def closeness(said: Array) -> Result:
        agrees = np.equal(np.floor(said + 0.5), human).astype(float)
        return {"mae": trees.mean(np.abs(human - said)), "agreement": trees.mean(agrees)}

    def constant(value: int | None) -> Result:
        said = np.full(len(human), float(value or 0))
        return {"constant": value, **closeness(said), "pearson": None, "spearman": None}

    return {
        "n": len(scores), "trees": trees.n, "interval_note": trees.note, **closeness(judge),
        "expected": trees.mean(judge), "pearson": trees.correlation(human, judge, ranked=False),
        "spearman": trees.correlation(human, judge, ranked=True),
        "baselines": {"always_3": constant(3), "majority": constant(commonest)},
    }  # fmt: skip


def breakdown(records: Pairs | Scores, by: Sequence[str] = BY, seed: int = 0, n_boot: int = 1000) -> list[Result]:
    """A row ``{by, key, n, ...}`` for each value of each field in ``by``: ``pair_accuracy`` or ``score_agreement`` of it.

    Records whose field is empty (no group) are in no row of it. Raises JudgeError where they have no such field.
    """
    known = [f.name for f in fields(records[0])] if records else list(by)
    if unknown := [name for name in by if name not in known]:
        raise JudgeError(f"Results cannot be grouped by {unknown[0]!r}. Choose from {', '.join(known)}.")
    rows = []
    for name in by:
        groups: dict[Any, list[Any]] = defaultdict(list)
        for record in records:
            groups[getattr(record, name)].append(record)
        for key in sorted(k for k in groups if k not in ("", None)):
            measure = pair_accuracy if isinstance(groups[key][0], PairResult) else score_agreement
            rows.append({"by": name, "key": key, **measure(groups[key], seed, n_boot)})
    return rows


def calibration(pairs: Pairs, bins: int = 10, seed: int = 0) -> Result:
    """Does "80 % sure" come true in 80 % of pairs? Guo et al. 2017, arXiv 1706.04599, equations 1-3.

    Confidence = sigmoid(|left - right|), in 0.5..1, cut into ``bins`` of equal width; ``ece`` = sum over bins of n_bin/n *
    |share right - mean confidence|. Human ties are left out and counted. A small n makes any ECE positive:
    ``ece_if_calibrated`` is what outcomes drawn from these very confidences give on average.
    """
    if bins < 1:
        raise JudgeError(f"A reliability table needs at least one bin, not {bins}. Ask for about 10.")
    _, human, difference = _decided(pairs)
    n, right = len(human), _credit(human, difference)
    sure = 1 / (1 + np.exp(-np.abs(difference)))
    which = np.minimum(((sure - 0.5) * 2 * bins).astype(int), bins - 1)
    counts, surely, rightly = (np.bincount(which, v, bins) for v in (np.ones(n), sure, right))
    rng = np.random.default_rng(seed)
    drawn = [np.abs(np.bincount(which, (rng.random(n) < sure) - sure)).sum() / n for _ in range(200 if n else 0)]
    rows = [
        {"low": 0.5 + b / (2 * bins), "high": 0.5 + (b + 1) / (2 * bins), "n": int(count),
         "confidence": float(surely[b] / count) if count else None, "right": float(rightly[b] / count) if count else None}
        for b, count in enumerate(counts)
    ]  # fmt: skip
    return {
        "n": n, "n_ties": len(pairs) - n, "bins": rows,
        "ece": float(np.abs(rightly - surely).sum() / n) if n else None,
        "ece_if_calibrated": float(np.mean(drawn)) if n else None,
    }  # fmt: skip


def compare(pairs_a: Pairs, pairs_b: Pairs, seed: int = 0, n_boot: int = 1000) -> Result:
    """Accuracy of a minus that of b on the same pairs, in the same order, with a paired interval by tree.

    ``beyond_chance``: 0 lies outside the interval; null where there is none. Raises JudgeError where the pairs differ.
    """
    blank = [[replace(p, left=0.0, right=0.0, tie_margin=0.0) for p in pairs] for pairs in (pairs_a, pairs_b)]
    if blank[0] != blank[1]:
        raise JudgeError(f"a has {len(pairs_a)} pairs, b {len(pairs_b)} or others. Score the same ones in one order.")
    (decided_a, human, by_a), (_, _, by_b) = _decided(pairs_a), _decided(pairs_b)
    right_a, right_b = _credit(human, by_a), _credit(human, by_b)
    trees = _Trees(decided_a, seed, n_boot)
    difference = trees.mean(right_a - right_b)
    interval = difference["interval"]
    return {
        "n": len(decided_a), "trees": trees.n, "interval_note": trees.note,
        "accuracy_a": trees.mean(right_a)["value"], "accuracy_b": trees.mean(right_b)["value"],
        "difference": difference["value"], "interval": interval,
        "beyond_chance": not interval[0] <= 0 <= interval[1] if interval else None,
    }  # fmt: skip


def evaluate(
    pairs: Pairs, scores: Scores, *, others: Others | None = None, seed: int = 0, n_boot: int = 1000
) -> Result:
    """Everything above as one JSON-able dict, the input of ``judge.report.write``.

    ``others``: another judge's (left, right) scores of the same pairs, in order, by its name; its tie margin is 0.
    Raises JudgeError where their number is not that of the pairs.
    """
    rows = {}
    for name, predicted in (others or {}).items():
        if len(predicted) != len(pairs):
            raise JudgeError(f"{name} scored {len(predicted)} pairs, not {len(pairs)}. Score the same ones with it.")
        theirs = [replace(p, left=x, right=y, tie_margin=0.0) for p, (x, y) in zip(pairs, predicted, strict=True)]
        rows[name] = {**pair_accuracy(theirs, seed, n_boot), "versus": compare(pairs, theirs, seed, n_boot)}
    return {
        "method": {"interval": "95 % percentile bootstrap by tree", "n_boot": n_boot, "seed": seed},
        "pairs": pair_accuracy(pairs, seed, n_boot),
        "pairs_by": breakdown(pairs, BY, seed, n_boot),
        "calibration": calibration(pairs, seed=seed),
        "others": rows,
        "scores": score_agreement(scores, seed, n_boot),
        "scores_by": breakdown(scores, (*BY, "value"), seed, n_boot),
    }
