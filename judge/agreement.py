"""How good labels are: do two raters agree, how do levels spread, do dimensions differ, does a rater keep pace and measure.

Plain rows in, JSON-able results out: a figure is ``{value, interval}``, and where none exists ``value`` is null with a
``reason``. Never reads a store, asks a judge, or draws. Intervals are 95 % percentile bootstraps over whole trees, as in
``judge.evaluation``; a resample in which the figure does not exist is left out. Krippendorff's alpha is written out here,
because the package of that name takes one table at a time and an interval needs a thousand; the tests hold it to that package.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, pairwise
from statistics import fmean, median
from typing import Any

import numpy as np

from judge.evaluation import FEW_TREES, NONE, Array, Result
from judge.rubric import JudgeError, check, dimensions

LONG_PAUSE_S = 300  # a longer gap is a break, not work
FEW_NODES = 3  # two points always lie on a line
PACE_RULE = (
    f"Seconds from one judgement of a person to their next; gaps over {LONG_PAUSE_S // 60} minutes are pauses and left out, "
    "judgements saved in the same instant count as one. Days are UTC."
)
PAPER: Result = {
    "source": "InterMT, arXiv 2505.23950",
    "human_verifier": {"local": 0.863, "global": 0.832},  # raw agreement of a person and the one who checks
    "human_ai": {"local": 0.636, "global": 0.525},  # raw agreement of a person and a model
    "constant_3": {"local": 0.66, "global": 0.53},  # share of people's scores that are 3
}


@dataclass(frozen=True, slots=True)
class Rating:
    """One score: ``value`` that ``annotator`` gave ``node`` of ``tree`` on ``dimension``, in their ``round``-th pass."""

    node: str
    tree: str
    dimension: str
    annotator: str
    round: int
    value: int


Ratings = Sequence[Rating]
Rater = tuple[str, int]  # annotator, round


def agreement(
    first: Ratings, second: Ratings, dimension: str, values: tuple[int, ...], seed: int = 0, n_boot: int = 1000
) -> Result:
    """How well two raters (or two rounds of one) agree on the ``n`` nodes that both rated on ``dimension``.

    ``agreement``: share with equal values; ``constant``: the same share for a rater who gives every node the top of
    ``values``, against ``first``; ``kappa``: Cohen 1968, weights (a - b)^2; ``alpha_ordinal``, ``alpha_interval``:
    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"; ``pearson``. G5's -1 counts as the level below 0.
    Raises JudgeError for a value that is not in ``values`` and for a node rated twice in one list.
    """
    ours, theirs = (_by_node(ratings, dimension, values) for ratings in (first, second))
    nodes = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[node].value, theirs[node].value) for node in nodes]
    trees = _Trees([ours[node].tree for node in nodes], seed, n_boot)
    levels = np.array(sorted(values), dtype=float)
    tables = trees.count(*(np.searchsorted(levels, side) for side in _columns(pairs)), levels=len(levels))
    missing = "no node rated on both sides"
    same = missing if not pairs else "every rating is the same: there is no disagreement to expect"
    return {
        "dimension": dimension, "n": len(pairs), "only_first": len(ours) - len(pairs), "only_second": len(theirs) - len(pairs),
        "trees": trees.n, "interval_note": trees.note,
        "agreement": trees.figure(tables, lambda t: _divide(np.trace(t, axis1=1, axis2=2), t.sum((1, 2))), missing),
        "constant": {"says": max(values), **trees.figure(tables, lambda t: _divide(t[:, -1].sum(1), t.sum((1, 2))), missing)},
        "kappa": trees.figure(tables, lambda t: _kappa(t, levels), same),
        "alpha_ordinal": trees.figure(tables, lambda t: _alpha(t, None), same),
        "alpha_interval": trees.figure(tables, lambda t: _alpha(t, levels), same),
        "pearson": _correlation(trees, tables, levels, pairs, ("the first side", "the second side")),
    }  # fmt: skip


def by_dimension(ratings: Ratings, a: Rater, b: Rater, seed: int = 0, n_boot: int = 1000) -> list[Result]:
    """``agreement`` of ``a`` and ``b``, each an (annotator, round), for every dimension of the rubric, in its order.

    Raises JudgeError where a and b are the same, and as ``agreement`` does.
    """
    if a == b:
        raise JudgeError(f"{a[0]} in round {a[1]} is on both sides. Choose another annotator, or another round.")
    first, second = ([r for r in ratings if (r.annotator, r.round) == rater] for rater in (a, b))
    return [agreement(first, second, d.code, d.values, seed, n_boot) for d in dimensions().values()]


def distributions(ratings: Ratings) -> list[Result]:
    """``{dimension, n, mean, counts}`` for every dimension; ``counts`` has each level, as text, and how often it was given.

    The rubric's dimensions in its order (levels nobody gave count 0), then others by name. ``mean`` includes G5's -1.
    Raises JudgeError for a value that its dimension does not have.
    """
    given = {code: [r.value for r in ratings if r.dimension == code] for code in _codes(ratings)}
    rows = []
    for code, values in given.items():
        levels = dimensions()[code].values if code in dimensions() else sorted(set(values))
        for value in set(values) - set(levels):
            check(code, value)
        counts = Counter(values)
        mean = {"mean": fmean(values)} if values else {"mean": None, "reason": "no ratings"}
        rows.append({"dimension": code, "n": len(values), **mean, "counts": {str(v): counts[v] for v in levels}})
    return rows


def correlations(ratings: Ratings, seed: int = 0, n_boot: int = 1000) -> list[Result]:
    """Pearson's r of every two dimensions, ``{a, b, n, trees, interval_note, pearson}``, ordered as ``distributions``.

    Over ratings of the same node by the same annotator in the same round; each pair of dimensions uses all that have both.
    Raises JudgeError where one of those was rated twice.
    """
    given: dict[str, dict[tuple[str, str, int], Rating]] = {code: {} for code in _codes(ratings)}
    for rating in ratings:
        _once(given[rating.dimension], (rating.node, rating.annotator, rating.round), rating)
    rows = []
    for a, b in combinations(given, 2):
        both = sorted(given[a].keys() & given[b].keys())
        pairs = [(given[a][key].value, given[b][key].value) for key in both]
        trees = _Trees([given[a][key].tree for key in both], seed, n_boot)
        levels, which = np.unique(_columns(pairs), return_inverse=True)
        tables = trees.count(*which.reshape(2, -1), levels=len(levels))
        found = _correlation(trees, tables, levels, pairs, (a, b))
        rows.append({"a": a, "b": b, "n": len(pairs), "trees": trees.n, "interval_note": trees.note, "pearson": found})
    return rows


def pace(judgements: Sequence[tuple[str, str]]) -> Result:
    """How fast people judge, from (ISO 8601 time, annotator) of each judgement; a time without a zone is UTC.

    ``days``: ``{day, n}`` in order. ``median_seconds`` over ``gaps`` gaps, ``pauses`` left out; ``rule`` says how; the
    same for each of ``annotators``. Raises JudgeError for what is not a time.
    """
    times: dict[str, list[datetime]] = defaultdict(list)
    for text, annotator in judgements:
        times[annotator].append(_time(text))
    gaps = {who: [(b - a).total_seconds() for a, b in pairwise(sorted(times[who]))] for who in sorted(times)}
    days = Counter(at.date().isoformat() for stamps in times.values() for at in stamps)
    return {
        "n": len(judgements),
        "days": [{"day": day, "n": days[day]} for day in sorted(days)],
        **_pace(gap for own in gaps.values() for gap in own),
        "annotators": [{"annotator": who, "n": len(times[who]), **_pace(own)} for who, own in gaps.items()],
        "rule": PACE_RULE,
    }


def drift(ratings: Sequence[tuple[str, Rating]], block: int = 50, seed: int = 0, n_boot: int = 1000) -> list[Result]:
    """Does a rater's measure move? The mean of each ``block`` successive ratings of one person on one dimension.

    ``ratings``: (ISO 8601 time, rating), in any order; every round counts. A row is ``{annotator, dimension, block (from
    1), n, start, end, mean, trees, interval_note, earlier_median}``; the last block of a series may be short.
    ``earlier_median``: of all their ratings on it before this block, null for the first. Raises JudgeError for what is
    not a time and for an empty block.
    """
    if block < 1:
        raise JudgeError(f"A block needs at least one rating, not {block}. Ask for about 50.")
    series: dict[tuple[str, str], list[tuple[datetime, Rating]]] = defaultdict(list)
    for text, rating in ratings:
        series[rating.annotator, rating.dimension].append((_time(text), rating))
    codes = _codes([rating for _, rating in ratings])
    rows = []
    for who, code in sorted(series, key=lambda key: (key[0], codes.index(key[1]))):
        timed = sorted(series[who, code], key=lambda pair: pair[0])
        values = [rating.value for _, rating in timed]
        for start in range(0, len(timed), block):
            part = timed[start : start + block]
            rows.append(
                {"annotator": who, "dimension": code, "block": start // block + 1, "n": len(part),
                 "start": part[0][0].isoformat(), "end": part[-1][0].isoformat(),
                 **_block_mean([rating for _, rating in part], seed, n_boot),
                 "earlier_median": float(median(values[:start])) if start else None}
            )  # fmt: skip
    return rows


class _Trees:
    """Which tree each of n rows is ``of``, and how often each tree is in each resample, ``drawn`` (n_boot, trees)."""

    def __init__(self, names: Sequence[str], seed: int, n_boot: int) -> None:
        found, self.of = np.unique(np.array(names, dtype=str), return_inverse=True)
        self.n = n = len(found)
        n_boot = n_boot if n > 1 else 0
        draws = np.random.default_rng(seed).integers(max(n, 1), size=(n_boot, n)) + n * np.arange(n_boot)[:, None]
        self.drawn = np.bincount(draws.ravel(), minlength=n_boot * n).reshape(n_boot, n).astype(float)
        notes = {0: "nothing to count", 1: "all from one tree: an interval by tree needs two or more"}
        self.note = None if n >= FEW_TREES else notes.get(n, f"only {n} trees: the interval is too narrow")

    def count(self, *which: Array, levels: int) -> Array:
        """A table for each tree, (trees, levels[, levels]): how often each level, or pair of levels, was given."""
        tables = np.zeros((self.n, *[levels] * len(which)))
        np.add.at(tables, (self.of, *which), 1)
        return tables

    def figure(self, tables: Array, measure: Callable[[Array], Array], reason: str) -> Result:
        """``measure`` of all trees together, and its interval; it takes (b, ...) tables and gives (b,), nan for none."""
        value = float(measure(tables.sum(0, keepdims=True))[0])
        if not np.isfinite(value):
            return {**NONE, "reason": reason}
        draws = measure(np.tensordot(self.drawn, tables, 1))  # whole trees are drawn: sums of their tables do
        kept = draws[np.isfinite(draws)]
        return {"value": value, "interval": [float(v) for v in np.percentile(kept, [2.5, 97.5])] if len(kept) else None}


def _divide(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def _kappa(tables: Array, levels: Array) -> Array:
    """Quadratic-weighted kappa of (b, k, k) tables with ``levels`` (k,): 1 - observed / expected disagreement."""
    gaps = (levels[:, None] - levels) ** 2
    rows, columns = tables.sum(2), tables.sum(1)
    return 1 - _divide((tables * gaps).sum((1, 2)) * rows.sum(1), (rows @ gaps * columns).sum(1))


def _alpha(tables: Array, levels: Array | None) -> Array:
    """Krippendorff's alpha of (b, k, k) tables: interval with ``levels`` (k,), ordinal without.

    The ordinal distance, n_c/2 + everything between + n_k/2, is the difference of the levels' mid-ranks.
    """
    pairs = tables + tables.transpose(0, 2, 1)  # each node counts in both orders
    totals = pairs.sum(2)
    points = totals.cumsum(1) - totals / 2 if levels is None else np.broadcast_to(levels, totals.shape)
    gaps = (points[:, :, None] - points[:, None, :]) ** 2
    expected = (totals[:, :, None] * totals[:, None, :] * gaps).sum((1, 2))
    return 1 - _divide((pairs * gaps).sum((1, 2)) * (totals.sum(1) - 1), expected)


def _pearson(tables: Array, levels: Array) -> Array:
    """Pearson's r of (b, k, k) tables with ``levels`` (k,). Sums of whole numbers: a constant side is exactly 0."""
    n, rows, columns = tables.sum((1, 2)), tables.sum(2), tables.sum(1)
    x, y = rows @ levels, columns @ levels
    spread = (n * (rows @ levels**2) - x**2) * (n * (columns @ levels**2) - y**2)
    return _divide(n * (levels @ tables @ levels) - x * y, np.sqrt(spread))


def _correlation(
    trees: _Trees, tables: Array, levels: Array, pairs: list[tuple[int, int]], names: tuple[str, str]
) -> Result:
    if len(pairs) < FEW_NODES:
        return {**NONE, "reason": f"fewer than {FEW_NODES} nodes"}
    constant = [name for name, side in zip(names, _columns(pairs), strict=True) if len(set(side)) == 1]
    return trees.figure(tables, lambda t: _pearson(t, levels), f"all ratings of {' and '.join(constant)} are the same")


def _columns(pairs: list[tuple[int, int]]) -> Array:
    return np.array(pairs, dtype=float).reshape(-1, 2).T


def _block_mean(ratings: Ratings, seed: int, n_boot: int) -> Result:
    trees = _Trees([r.tree for r in ratings], seed, n_boot)
    levels, which = np.unique([float(r.value) for r in ratings], return_inverse=True)
    tables = trees.count(which, levels=len(levels))
    mean = trees.figure(tables, lambda t: _divide(t @ levels, t.sum(1)), "no ratings")
    return {"mean": mean, "trees": trees.n, "interval_note": trees.note}


def _by_node(ratings: Ratings, dimension: str, values: tuple[int, ...]) -> dict[str, Rating]:
    found: dict[str, Rating] = {}
    for rating in ratings:
        if rating.dimension == dimension:
            if rating.value not in values:
                legal = ", ".join(map(str, values))
                raise JudgeError(f"{dimension} of {rating.node} is {rating.value}, not one of {legal}. Rate it again.")
            _once(found, rating.node, rating)
    return found


def _once(found: dict[Any, Rating], key: object, rating: Rating) -> None:
    if key in found:
        what = f"{rating.node} was rated twice on {rating.dimension} by {rating.annotator}"
        raise JudgeError(f"{what}. Pass current scores of one annotator and round.")
    found[key] = rating


def _codes(ratings: Ratings) -> list[str]:
    """The rubric's dimensions in its order, then others by name."""
    return [*dimensions(), *sorted({r.dimension for r in ratings} - dimensions().keys())]


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise JudgeError(f"{text[:40]!r} is not a time. Pass ISO 8601, such as 2025-05-29T12:00:00+00:00.") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _pace(gaps: Iterable[float]) -> Result:
    work = [gap for gap in gaps if gap > 0]
    kept = [gap for gap in work if gap <= LONG_PAUSE_S]
    found = {"gaps": len(kept), "pauses": len(work) - len(kept), "median_seconds": median(kept) if kept else None}
    return found if kept else {**found, "reason": "no two judgements of a person within the limit"}
