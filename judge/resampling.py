"""Intervals by tree: 95 % percentile bootstraps that draw whole trees (Field and Welsh 2007,
doi:10.1111/j.1467-9868.2007.00593.x). Replies of one tree share their prefix and are not independent.

Arrays in, ``{value, interval}`` out. ``Trees.note`` says why an interval is missing or doubtful.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from judge.results import NONE, Array, Result

FEW_TREES = 10  # below this a percentile bootstrap is clearly too narrow
CELLS = 2_000_000  # resamples x records held at once: some tens of MB


class Trees:
    """The tree of each of n records (``of``), and how often each tree is in each resample, ``drawn`` (n_boot, trees)."""

    def __init__(self, names: Sequence[str], seed: int, n_boot: int) -> None:
        known, self.of = np.unique(np.array(names, dtype=str), return_inverse=True)
        self.n = n = len(known)
        self.drawn = _drawn(n, seed, n_boot if n > 1 else 0)
        notes = {0: "nothing to count", 1: "all from one tree: an interval by tree needs two or more"}
        self.note = None if n >= FEW_TREES else notes.get(n, f"only {n} trees: the interval is too narrow")

    def draws(self, values: Array, counts: Array | None = None) -> Array:
        """The mean of ``values`` (n,) in each resample, (n_boot,). ``counts`` (n,): 1 for the records that it is of
        (``values`` is 0 elsewhere), default all; nan where a resample has none of them."""
        below = self.drawn @ np.bincount(self.of, counts, minlength=self.n)
        above = self.drawn @ np.bincount(self.of, values, minlength=self.n)
        return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)

    def mean(self, values: Array) -> Result:
        """``values`` (n,): their mean and its interval, a ratio of two sums by tree in each resample."""
        return estimate(values.mean() if len(values) else None, self.draws(values))

    def correlation(self, x: Array, y: Array, ranked: bool) -> Result:
        """Pearson's (``ranked``: Spearman's) of x and y, (n,) each; null with the reason where it is not defined."""
        constant = [who for who, v in (("human", x), ("judge", y)) if len(set(v)) < 2]
        if len(x) < 3 or constant:
            why = "fewer than 3 scores" if len(x) < 3 else f"all scores of the {constant[0]} are the same"
            return {**NONE, "reason": why}
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()  # so that "constant" means the same on any scale
        chunks = np.array_split(self.drawn, 1 + len(self.drawn) * len(x) // CELLS)
        draws = np.concatenate([_correlation(x, y, chunk[:, self.of], ranked) for chunk in chunks])
        return estimate(_correlation(x, y, np.ones((1, len(x))), ranked)[0], draws)


@functools.lru_cache(maxsize=4)  # a report asks for the same few hundreds of times
def _drawn(n: int, seed: int, n_boot: int) -> Array:
    rng = np.random.default_rng(seed)
    draws = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(n_boot)]
    counts = np.array(draws, dtype=float).reshape(n_boot, n)
    counts.flags.writeable = False  # it is shared
    return counts


def estimate(value: float | None, draws: Array) -> Result:
    """``value`` with the 95 % percentile interval of ``draws``; a resample without the figure (nan) is left out."""
    kept = draws[np.isfinite(draws)]
    interval = [float(v) for v in np.percentile(kept, [2.5, 97.5])] if len(kept) else None
    return {"value": None if value is None else float(value), "interval": interval}


def beyond_chance(interval: Sequence[float] | None) -> bool | None:
    """Whether 0 lies outside the interval of a difference; None where there is none."""
    return None if interval is None else not interval[0] <= 0 <= interval[1]


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
