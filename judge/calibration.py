"""Does a judge's probability come true? Of comparisons (Rao-Kupper), of scores (cumulative logits), and of its spread.

Records in, JSON-able dicts out. Every probability is the fitted model's own: nothing is fitted here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from judge.resampling import Trees, beyond_chance, estimate
from judge.results import NONE, Array, Pairs, Result, Scores, credit, decided, dimension_order
from judge.rubric import JudgeError

BINS = 10
DRAWS = 200  # of outcomes from the judge's own probabilities, for the error that chance alone gives
LEAST_THIRD = 5  # pairs in a third below which nothing is said of it


def confidence(difference: Array, tie_margin: Array) -> Array:
    """P(the favoured side | no tie), 0.5..1: Rao-Kupper's P(win) over P(win) + P(loss). All of one shape."""
    gap = np.abs(difference)
    odds = _log_sigmoid(-gap - tie_margin) - _log_sigmoid(gap - tie_margin)  # log of P(loss) / P(win), <= 0
    return 1 / (1 + np.exp(odds))


def most_probable(difference: Array, tie_margin: Array) -> Array:
    """The likeliest outcome under Rao-Kupper: 1 left, 0 tie, -1 right; equal logits are a tie. All of one shape."""
    gap = np.abs(difference)
    win, loss = (np.exp(_log_sigmoid(s * gap - tie_margin)) for s in (1, -1))
    return np.where(1 - win - loss > win, 0.0, np.sign(difference))


def calibration(pairs: Pairs, bins: int = BINS, seed: int = 0) -> Result:
    """Does "80 % sure" come true in 80 % of pairs? Guo et al. 2017, arXiv 1706.04599, equations 1-3.

    ``confidence`` cut into ``bins`` of equal width; ``ece`` = sum over bins of n_bin/n * |share right - mean confidence|.
    Human ties are left out and counted. A small n makes any ECE positive: ``ece_if_calibrated`` is what outcomes drawn
    from these very confidences give on average.
    """
    if bins < 1:
        raise JudgeError(f"A reliability table needs at least one bin, not {bins}. Ask for about 10.")
    kept, human, difference = decided(pairs)
    n, right = len(human), credit(human, difference)
    sure = confidence(difference, np.array([p.tie_margin for p in kept], dtype=float))
    which = np.minimum(((sure - 0.5) * 2 * bins).astype(int), bins - 1)
    counts, surely, rightly = (np.bincount(which, v, bins) for v in (np.ones(n), sure, right))
    rng = np.random.default_rng(seed)
    drawn = [np.abs(np.bincount(which, (rng.random(n) < sure) - sure)).sum() / n for _ in range(DRAWS if n else 0)]
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


def ordinal_calibration(scores: Scores, bins: int = BINS, seed: int = 0, n_boot: int = 1000) -> list[Result]:
    """Do P(y > k) come true? A row for each level and dimension whose scores carry the judge's probabilities.

    ``levels``: for each k but the top one, the mean ``predicted`` P(y > k) and the ``observed`` share above k. ``ece``: the
    error of ``calibration`` with these probabilities in place of confidences, over all k; ``ece_if_calibrated`` from scores
    drawn from the very probabilities. ``rps``: ranked probability score, mean over k of (P(y > k) - [y > k])^2, 0 is
    perfect (Epstein 1969, doi:10.1175/1520-0450(1969)008<0985:ASSFPF>2.0.CO;2); ``rps_marginal``: of one who knows
    nothing but how often each score was given here (by leave-one-tree-out: the tree itself is not looked at); ``gain``: by how
    much the judge's is smaller, with its interval by tree.
    """
    rows: dict[tuple[str, str, tuple[int, ...]], list[int]] = defaultdict(list)
    for i, s in enumerate(scores):
        if s.probabilities:
            rows[s.level, s.dimension, s.values].append(i)
    return [
        {"by": "dimension", "key": dimension, "level": level, "row": scores[at[0]].row,
         **_ordinal([scores[i] for i in at], values, bins, seed, n_boot)}
        for (level, dimension, values), at in sorted(rows.items(), key=lambda row: (*dimension_order(*row[0][:2]), row[0][2]))
    ]  # fmt: skip


def thirds(pairs: Pairs, seed: int = 0, n_boot: int = 1000) -> Result:
    """How often the judge errs where it is sure and where it is not: thirds by |left - right| / spread.

    Of the decided pairs that have a spread. ``rows``: sure, middle, unsure, each with n, the range of the ratio, and the
    ``error`` with its interval by tree; ``difference``: error of the unsure third minus that of the sure one, with
    ``beyond_chance``. ``reason`` says why there is nothing.
    """
    kept, human, difference = decided([p for p in pairs if p.spread is not None])
    spread = np.array([p.spread for p in kept], dtype=float)
    if len(kept) < 3 * LEAST_THIRD or not spread.any():
        few = f"{len(kept)} decided pairs have a spread; thirds need {3 * LEAST_THIRD}"
        why = few if len(kept) < 3 * LEAST_THIRD else "the bootstrapped heads agree exactly: the spread says nothing"
        return {"n": len(kept), "rows": [], "difference": None, "beyond_chance": None, "reason": why}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.abs(difference) / spread, posinf=np.inf)  # 0 / 0: no difference, so not sure
    wrong, trees = 1 - credit(human, difference), Trees([p.tree for p in kept], seed, n_boot)
    parts = np.array_split(np.argsort(-ratio, kind="stable"), 3)
    rows, draws = [], []
    for name, at in zip(("sure", "middle", "unsure"), parts, strict=True):
        inside = np.zeros(len(kept))
        inside[at] = 1
        draws.append(trees.draws(wrong * inside, inside))
        span = [float(v) if math.isfinite(v) else None for v in (ratio[at].min(), ratio[at].max())]
        rows.append({"third": name, "n": len(at), "from": span[0], "to": span[1],
                     "error": estimate(wrong[at].mean(), draws[-1])})  # fmt: skip
    gap = estimate(wrong[parts[2]].mean() - wrong[parts[0]].mean(), draws[2] - draws[0])
    return {
        "n": len(kept), "trees": trees.n, "interval_note": trees.note, "rows": rows, "difference": gap,
        "beyond_chance": beyond_chance(gap["interval"]),
    }  # fmt: skip


def _ordinal(scores: Scores, values: Sequence[int], bins: int, seed: int, n_boot: int) -> Result:
    trees = Trees([s.tree for s in scores], seed, n_boot)
    given = np.searchsorted(values, [s.value for s in scores])  # 0 is the lowest level
    fitted = np.clip([s.probabilities for s in scores], 0, None)
    fitted /= fitted.sum(1, keepdims=True)
    cuts = np.arange(len(values) - 1)
    above = np.clip(1 - fitted.cumsum(1)[:, :-1], 0, 1)  # P(y > k), (n, levels - 1)
    happened = (given[:, None] > cuts).astype(float)
    which = np.minimum((above * bins).astype(int), bins - 1) + bins * cuts
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        level = (rng.random(len(given))[:, None] > fitted.cumsum(1)[:, :-1]).sum(1)
        drawn.append(_error(which, (level[:, None] > cuts) - above))
    rps, marginal = (((p - happened) ** 2).mean(1) for p in (above, _others_share(happened, trees)))
    gain = trees.mean(marginal - rps)
    return {
        "n": len(scores), "trees": trees.n, "interval_note": trees.note, "values": list(values),
        "levels": [{"above": int(values[k]), "predicted": float(above[:, k].mean()), "observed": float(happened[:, k].mean())}
                   for k in range(len(values) - 1)],
        "ece": _error(which, happened - above), "ece_if_calibrated": float(np.mean(drawn)),
        "rps": trees.mean(rps), "rps_marginal": trees.mean(marginal) if trees.n > 1 else {**NONE, "reason": trees.note},
        "gain": gain if trees.n > 1 else {**NONE, "reason": trees.note},
        "beyond_chance": beyond_chance(gain["interval"]),
    }  # fmt: skip


def _others_share(happened: Array, trees: Trees) -> Array:
    """For each record, how often each event came true in all other trees, (n, events)."""
    sums = np.stack([np.bincount(trees.of, column) for column in happened.T], 1)
    counts = np.bincount(trees.of)
    rest = np.maximum(counts.sum() - counts, 1)[:, None]
    shares: Array = ((sums.sum(0) - sums) / rest)[trees.of]
    return shares


def _error(which: Array, gaps: Array) -> float:
    """Expected calibration error: |sum of the gaps of a bin|, summed over bins, over how many there are."""
    return float(np.abs(np.bincount(which.ravel(), gaps.ravel())).sum() / gaps.size)


def _log_sigmoid(x: Array | float) -> Array:
    return -np.logaddexp(0.0, -np.asarray(x, dtype=float))
