"""Several judges beside one person, and two judges beside each other, on trees that they did not learn from.

Plain examples and plain scores in, JSON-able rows out; the measures are those of ``judge.evaluation`` and ``judge.agreement``.
Never runs a judge, and never counts a tree that a judge was trained on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from judge.agreement import Rating, agreement
from judge.evaluation import FEW_TREES, PairResult, compare, pair_accuracy
from judge.examples import OVERALL, Example, level_of, same_question
from judge.rubric import dimensions

Result = dict[str, Any]
Said = Mapping[str, Mapping[str, float]]  # node -> dimension -> expected score
Key = tuple[str, str]  # level, dimension


def unseen(examples: Iterable[Example], split: Mapping[str, Sequence[str]]) -> list[Example]:
    """The examples that a judge with this ``split`` (train, validation) did not learn from and was not chosen by.

    A tree that grew from the same question as one of those is left out too: its replies would be siblings.
    """
    examples = list(examples)
    seen = {*split.get("train", ()), *split.get("validation", ())}
    questions = {same_question(e.tree) for e in examples if e.tree.id in seen}
    return [e for e in examples if e.tree.id not in seen and same_question(e.tree) not in questions]


def wanted(example: Example) -> set[str]:
    """The replies of a tree that some label is about."""
    return {s.node for s in example.scores} | {n for c in example.comparisons for n in (c.left, c.right)}


def beside_person(examples: Sequence[Example], said: Said, n_boot: int = 1000) -> list[Result]:
    """How a judge agrees with a person's labels, a row for each level and dimension that both have.

    ``scores``: ``judge.agreement.agreement`` of the person's scores and the judge's, rounded to the nearest level (``constant``:
    always the top one); None without scores. ``pairs``: ``judge.evaluation.pair_accuracy``. ``examples``: unseen ones, one
    person's labels, with derived pairs. Raises JudgeError for a label that its dimension does not have.
    """
    given, pairs = _ratings(examples, said), _pairs(examples, said, said)
    rows = []
    for level, dimension in _ordered({*given, *pairs}):
        person, judge = given.get((level, dimension), ((), ()))
        scores = agreement(person, judge, dimension, dimensions()[dimension].values, n_boot=n_boot) if person else None
        compared = pair_accuracy(pairs.get((level, dimension), ((), ()))[0], n_boot=n_boot)
        rows.append({"level": level, "dimension": dimension, "scores": scores, "pairs": compared})
    return rows


def versus(examples: Sequence[Example], a: Said, b: Said, n_boot: int = 1000) -> list[Result]:
    """Which of two judges is nearer to a person, a row for each level and dimension: paired, by tree.

    ``pairs``: ``judge.evaluation.compare`` (accuracy of a minus that of b). ``error``: mean of |b - person| - |a - person| over
    scores, in points, above 0 where a is nearer; None without scores. Each gets a ``better``: a, b, or None where the difference
    may be chance or ``FEW_TREES`` are not there.
    """
    errors, pairs = _errors(examples, a, b), _pairs(examples, a, b)
    rows = []
    for level, dimension in _ordered({*errors, *pairs}):
        by_a, by_b = pairs.get((level, dimension), ((), ()))
        difference = compare(by_a, by_b, n_boot=n_boot)
        trees, gains = errors.get((level, dimension), ((), ()))
        error = _mean_by_tree(trees, gains, n_boot) if gains else None
        rows.append(
            {"level": level, "dimension": dimension, "pairs": _told(difference), "error": error and _told(error)}
        )
    return rows


def nearest(expected: float, values: Sequence[int]) -> int:
    """An expected score as a level: halves up, never off the scale."""
    return min(max(math.floor(expected + 0.5), min(values)), max(values))


def _ratings(examples: Sequence[Example], said: Said) -> dict[Key, tuple[list[Rating], list[Rating]]]:
    """The person's scores and the judge's of the same replies, where both have one."""
    found: dict[Key, tuple[list[Rating], list[Rating]]] = defaultdict(lambda: ([], []))
    for e in examples:
        for s in e.scores:
            expected, known = said.get(s.node, {}).get(s.dimension), dimensions().get(s.dimension)
            if expected is None or known is None:
                continue
            person, judge = found[known.level, s.dimension]
            person.append(Rating(s.node, e.tree.id, s.dimension, "person", 1, s.value))
            judge.append(Rating(s.node, e.tree.id, s.dimension, "judge", 1, nearest(expected, known.values)))
    return found


def _pairs(examples: Sequence[Example], a: Said, b: Said) -> dict[Key, tuple[list[PairResult], list[PairResult]]]:
    """Every comparison of which both judges scored both replies, as each of them sees it."""
    found: dict[Key, tuple[list[PairResult], list[PairResult]]] = defaultdict(lambda: ([], []))
    for e in examples:
        for c in e.comparisons:
            scores = [[said.get(node, {}).get(c.dimension) for node in (c.left, c.right)] for said in (a, b)]
            if any(score is None for two in scores for score in two):
                continue
            depth = len(e.tree.path(c.left))
            words = [len(e.tree.nodes[n].text.split()) for n in (c.left, c.right)]
            for side, (left, right) in zip(found[c.level, c.dimension], scores, strict=True):
                side.append(PairResult(e.tree.id, c.level, c.dimension, (depth + 1) // 2, depth, c.outcome, left or 0.0, right or 0.0,
                                       left_tokens=words[0], right_tokens=words[1], human_margin=c.margin))  # fmt: skip
    return found


def _errors(examples: Sequence[Example], a: Said, b: Said) -> dict[Key, tuple[list[str], list[float]]]:
    """Of every score that both judges have: its tree, and by how much a is nearer to it than b."""
    found: dict[Key, tuple[list[str], list[float]]] = defaultdict(lambda: ([], []))
    for e in examples:
        for s in e.scores:
            by_a, by_b = (said.get(s.node, {}).get(s.dimension) for said in (a, b))
            if by_a is not None and by_b is not None:
                trees, gains = found[level_of(s.dimension), s.dimension]
                trees.append(e.tree.id)
                gains.append(abs(by_b - s.value) - abs(by_a - s.value))
    return found


def _mean_by_tree(trees: Sequence[str], gains: Sequence[float], n_boot: int) -> Result:
    """The mean of ``gains`` with a 95 % percentile bootstrap over whole trees, as ``judge.evaluation`` draws them."""
    from scipy.stats import bootstrap

    names, of = np.unique(np.array(trees, dtype=str), return_inverse=True)
    sums, counts = np.bincount(of, gains), np.bincount(of).astype(float)
    found: Result = {"n": len(gains), "trees": len(names), "difference": float(np.mean(gains)), "interval": None, "interval_note": None}  # fmt: skip
    if len(names) > 1:
        drawn = bootstrap((sums, counts), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, vectorized=True,
                          method="percentile", n_resamples=n_boot, rng=np.random.default_rng(0)).bootstrap_distribution  # fmt: skip
        found["interval"] = [float(v) for v in np.percentile(drawn, [2.5, 97.5])]
    interval = found["interval"]
    found["beyond_chance"] = not interval[0] <= 0 <= interval[1] if interval else None
    if len(names) < FEW_TREES:
        found["interval_note"] = f"only {len(names)} trees: the interval is too narrow"
    return found


def _told(found: Result) -> Result:
    """``found`` with who is better; nobody where an interval over so few trees would be too narrow to say so."""
    sure = found["beyond_chance"] and found["trees"] >= FEW_TREES
    return found | {"better": ("a" if found["difference"] > 0 else "b") if sure else None}


def _ordered(keys: Iterable[Key]) -> list[Key]:
    """Overall first, then the rubric's order, then the rest by name; local before global."""
    order = {code: i for i, code in enumerate([OVERALL, *dimensions()])}
    return sorted(keys, key=lambda key: (key[0] != "local", order.get(key[1], len(order)), key[1]))
