"""How good a judge is on trees it never saw: accuracy, calibration and agreement, with intervals and baselines.

Plain records in, JSON-able dicts out. Never runs a judge, reads a store, or draws (``judge.report`` does). Intervals are
by tree (``judge.resampling``); ``interval_note`` tells why one is missing or doubtful. What people compared is counted
first; pairs that follow from their scores are counted apart and never mixed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from statistics import mode
from typing import Any

import numpy as np

from judge.baselines import Rivals, beside, ceiling_of, ceilings, rivals_of, shared
from judge.calibration import calibration, most_probable, ordinal_calibration, thirds
from judge.resampling import FEW_TREES, Trees, beyond_chance
from judge.results import (
    NONE,
    Array,
    Others,
    PairResult,
    Pairs,
    Result,
    ScoreResult,
    Scores,
    credit,
    decided,
    dimension_order,
    nearest,
)
from judge.rubric import JudgeError, row_of
from judge.standing import Repeat

__all__ = [
    "BY", "FEW_TREES", "NONE", "Array", "Others", "PairResult", "Pairs", "Repeat", "Result", "ScoreResult", "Scores", "breakdown",
    "calibration", "compare", "evaluate", "ordinal_calibration", "pair_accuracy", "score_agreement", "thirds",
]  # fmt: skip

TIE_RULE = (
    "Human ties are left out; equal scores of the judge count as half. Three-way: all pairs, the most probable outcome."
)
BY = ("level", "dimension", "turn", "depth", "group", "annotator", "cut")


def pair_accuracy(pairs: Pairs, seed: int = 0, n_boot: int = 1000) -> Result:
    """The share of pairs in which the judge agrees with the human, its interval by tree, and the baselines.

    ``accuracy`` = mean of 1[sign(left - right) = human] over the ``n`` pairs that the human decided; equal scores of the
    judge count as half. ``three_way`` is over all pairs: the likeliest of left, tie and right under Rao-Kupper (equal
    scores: a tie). Baselines on the decided pairs: ``coin`` (its interval is binomial: where a coin lands with this n),
    ``majority`` (always the side more often right, sides as they stand in the records; read off these very pairs, so never
    below 0.5), ``longer`` (more tokens wins, equal counts half; ``difference``: the judge's accuracy minus it, paired).
    """
    from scipy.stats import binom

    kept, human, difference = decided(pairs)
    n, trees = len(kept), Trees([p.tree for p in kept], seed, n_boot)
    right = credit(human, difference)
    accuracy = trees.mean(right)
    gaps, margins = (
        np.array(v, dtype=float) for v in ([p.left - p.right for p in pairs], [p.tie_margin for p in pairs])
    )
    meant = [{"left": 1, "tie": 0, "right": -1}[p.outcome] for p in pairs]
    three_way = np.equal(most_probable(gaps, margins), meant).astype(float)
    coin = [float(v) / n for v in binom.ppf([0.025, 0.975], n, 0.5)] if n else None
    side = "left" if sum(human) >= 0 else "right"
    majority = np.array([p.outcome == side for p in kept], dtype=float)
    return {
        "n": n, "n_ties": len(pairs) - n, "trees": trees.n,
        "accuracy": accuracy["value"], "interval": accuracy["interval"], "interval_note": trees.note,
        "tie_rule": TIE_RULE, "three_way": Trees([p.tree for p in pairs], seed, n_boot).mean(three_way),
        "baselines": {
            "coin": {"value": 0.5, "interval": coin},
            "majority": {**trees.mean(majority), "side": side},
            "longer": _longer(kept, human, right, trees),
        },
    }  # fmt: skip


def _longer(kept: Pairs, human: Array, right: Array, trees: Trees) -> Result:
    if not any(p.left_tokens or p.right_tokens for p in kept):
        return {**NONE, "reason": "no token counts"}
    longer = credit(human, np.array([p.left_tokens - p.right_tokens for p in kept], dtype=float))
    gap = trees.mean(right - longer)
    return {
        **trees.mean(longer), "difference": gap["value"], "difference_interval": gap["interval"],
        "beyond_chance": beyond_chance(gap["interval"]),
    }  # fmt: skip


def score_agreement(scores: Scores, seed: int = 0, n_boot: int = 1000) -> Result:
    """Human value against the judge's expected score: correlations, mean absolute error, exact agreement.

    Pearson's r; Spearman's rho (Pearson's on mid-ranks, ranked anew in every resample); ``mae`` = mean |value -
    expected|, in points of the scale; ``agreement`` = share where the level nearest to the expected score is the human's
    (halves up). Baselines: ``always_top``, the highest of each record's own scale (3 where it is unknown), and always the
    commonest value of these very scores (the lowest of several); a constant has no correlation. ``scales``: how many
    different ones are pooled here.
    """
    trees = Trees([s.tree for s in scores], seed, n_boot)
    human = np.array([s.value for s in scores], dtype=float)
    judge = np.array([s.expected for s in scores], dtype=float)
    commonest = mode(sorted(int(s.value) for s in scores)) if scores else None
    tops = [s.top for s in scores] or [3]

    def closeness(predicted: Array, levels: Array) -> Result:
        return {
            "mae": trees.mean(np.abs(human - predicted)), "agreement": trees.mean(np.equal(levels, human).astype(float)),
        }  # fmt: skip

    def constant(values: Sequence[int]) -> Result:
        always = np.array(values[: len(human)], dtype=float)
        only = values[0] if len(set(values)) == 1 else None
        return {"constant": only, **closeness(always, always), "pearson": None, "spearman": None}

    levels = np.array([nearest(s.expected, s.values) for s in scores], dtype=float)
    majority = constant([commonest or 0] * max(1, len(human)))
    return {
        "n": len(scores), "trees": trees.n, "interval_note": trees.note, **closeness(judge, levels),
        "scales": len({s.values for s in scores}),
        "expected": trees.mean(judge), "pearson": trees.correlation(human, judge, ranked=False),
        "spearman": trees.correlation(human, judge, ranked=True),
        "baselines": {"always_top": constant(tops), "majority": {**majority, "constant": commonest}},
    }  # fmt: skip


def breakdown(
    records: Pairs | Scores, by: Sequence[str] = BY, seed: int = 0, n_boot: int = 1000, *,
    rivals: Rivals | None = None, repeats: Sequence[Repeat] = (),
) -> list[Result]:  # fmt: skip
    """A row ``{by, key, n, ...}`` for each value of each field in ``by``: ``pair_accuracy`` or ``score_agreement`` of it.

    By dimension it is a row for each level and dimension (``level``, and ``row`` of the head); by value one for each value of
    each ``scale``; by cut, "cut" and "whole", where any is cut. Records whose field is empty (no group) are in no row of it.
    Each row has ``others`` (``judge.baselines.beside``) and its ``ceiling``, or null. Raises JudgeError where there is no
    such field.
    """
    known = [f.name for f in fields(records[0])] if records else list(by)
    if unknown := [name for name in by if name not in known]:
        raise JudgeError(f"Results cannot be grouped by {unknown[0]!r}. Choose from {', '.join(known)}.")
    rows = []
    for name in by:
        for head, at in _groups(records, name):
            part = [records[i] for i in at]
            theirs = {other: [scored[i] for i in at] for other, scored in (rivals or {}).items()}
            level = head["key"] if name == "level" else head.get("level")
            about = list(repeats) if level else []
            rows.append(
                {
                    **head,
                    **_measured(part, theirs, about, level, head["key"] if name == "dimension" else None, seed, n_boot),
                }
            )
    return rows


def compare(pairs_a: Pairs, pairs_b: Pairs, seed: int = 0, n_boot: int = 1000) -> Result:
    """Accuracy of a minus that of b on the same pairs, in the same order, with a paired interval by tree.

    ``beyond_chance``: 0 lies outside the interval; null where there is none. Raises JudgeError where the pairs differ.
    """
    blank = [
        [
            replace(p, left=0.0, right=0.0, tie_margin=0.0, spread=None, cut=False, left_tokens=0, right_tokens=0)
            for p in pairs
        ]
        for pairs in (pairs_a, pairs_b)
    ]
    if blank[0] != blank[1]:
        raise JudgeError(f"a has {len(pairs_a)} pairs, b {len(pairs_b)} or others. Score the same ones in one order.")
    (kept, human, by_a), (_, _, by_b) = decided(pairs_a), decided(pairs_b)
    right_a, right_b = credit(human, by_a), credit(human, by_b)
    trees = Trees([p.tree for p in kept], seed, n_boot)
    difference = trees.mean(right_a - right_b)
    return {
        "n": len(kept), "trees": trees.n, "interval_note": trees.note,
        "accuracy_a": trees.mean(right_a)["value"], "accuracy_b": trees.mean(right_b)["value"],
        "difference": difference["value"], "interval": difference["interval"],
        "beyond_chance": beyond_chance(difference["interval"]),
    }  # fmt: skip


def evaluate(
    pairs: Pairs, scores: Scores, *, others: Others | None = None, ceiling: Iterable[Repeat] = (), seed: int = 0,
    n_boot: int = 1000,
) -> Result:  # fmt: skip
    """Everything above as one JSON-able dict, the input of ``judge.report.write``.

    ``pairs``, ``pairs_by``, ``calibration``, ``sure`` and ``others`` are of people's comparisons; ``derived``, ``derived_by`` and
    ``sure_derived`` of pairs that follow from scores. ``others``: other judges' (left, right[, tie margin]) of the same pairs,
    in order, by name, None where one gave no answer. ``ceiling``: what people judged twice. Raises JudgeError where the
    number of another judge's scores is not that of the pairs.
    """
    repeats, rivals = list(ceiling), rivals_of(pairs, others or {})
    people, theirs = _part(pairs, rivals, derived=False)
    derived, theirs_derived = _part(pairs, rivals, derived=True)
    return {
        "method": {"interval": "95 % percentile bootstrap by tree", "n_boot": n_boot, "seed": seed},
        "pairs": _measured(people, theirs, repeats, None, None, seed, n_boot),
        "pairs_by": breakdown(people, BY, seed, n_boot, rivals=theirs, repeats=repeats),
        "derived": _measured(derived, theirs_derived, [], None, None, seed, n_boot),
        "derived_by": breakdown(derived, BY, seed, n_boot, rivals=theirs_derived),
        "calibration": calibration(people, seed=seed),
        "calibration_by": [
            {**head, **calibration([people[i] for i in at], seed=seed)} for head, at in _groups(people, "dimension")
        ],
        "ordinal_calibration": ordinal_calibration(scores, seed=seed, n_boot=n_boot),
        "sure": thirds(people, seed, n_boot),
        "sure_derived": thirds(derived, seed, n_boot),
        "others": {name: _versus(people, scored, seed, n_boot) for name, scored in theirs.items()},
        "ceiling": ceilings(repeats, seed, n_boot),
        "scores": {**score_agreement(scores, seed, n_boot), "ceiling": ceiling_of(repeats, "scores", None, None, seed, n_boot)},
        "scores_by": breakdown(scores, (*BY, "value"), seed, n_boot, repeats=repeats),
    }  # fmt: skip


def _versus(people: Pairs, scored: Sequence[PairResult | None], seed: int, n_boot: int) -> Result:
    ours, theirs = shared(people, scored)
    return {
        **pair_accuracy(theirs, seed, n_boot), "missing": len(people) - len(theirs),
        "versus": compare(ours, theirs, seed, n_boot),
    }  # fmt: skip


def _part(pairs: Pairs, rivals: Rivals, derived: bool) -> tuple[list[PairResult], dict[str, list[PairResult | None]]]:
    at = [i for i, p in enumerate(pairs) if (p.human_margin is not None) == derived]
    return [pairs[i] for i in at], {name: [scored[i] for i in at] for name, scored in rivals.items()}


def _measured(
    part: Sequence[Any], theirs: Rivals, repeats: Sequence[Repeat], level: str | None, dimension: str | None, seed: int,
    n_boot: int,
) -> Result:  # fmt: skip
    """The measure of some pairs or scores, with what stands beside it."""
    if part and isinstance(part[0], ScoreResult):
        return {
            **score_agreement(part, seed, n_boot),
            "ceiling": ceiling_of(repeats, "scores", level, dimension, seed, n_boot),
        }
    return {
        **pair_accuracy(part, seed, n_boot), "others": beside(part, theirs, seed, n_boot),
        "ceiling": ceiling_of(repeats, "pairs", level, dimension, seed, n_boot),
    }  # fmt: skip


def _groups(records: Sequence[Any], name: str) -> list[tuple[Result, list[int]]]:
    """What heads a row, and the indices of its records, in the order of the rows."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    apart: Mapping[str, Any] = {
        "dimension": lambda r: (r.level, r.dimension), "value": lambda r: (r.values, r.value),
        "cut": lambda r: ("cut" if r.cut else "whole",),
    }  # fmt: skip
    for i, record in enumerate(records):
        key = apart.get(name, lambda r: (getattr(r, name),))(record)
        if key[-1] not in ("", None):
            found[key].append(i)
    if name == "cut" and ("cut",) not in found:
        return []
    if name == "dimension":
        return [
            ({"by": name, "key": key[1], "level": key[0], "row": row_of(*key)}, found[key])
            for key in sorted(found, key=lambda key: dimension_order(*key))
        ]
    extra = (lambda key: {"scale": list(key[0])}) if name == "value" else (lambda key: {})
    return [({"by": name, "key": key[-1], **extra(key)}, found[key]) for key in sorted(found)]
