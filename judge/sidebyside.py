"""Several judges beside one person, and two judges beside each other, on trees that they did not learn from.

Plain examples and plain scores in, JSON-able rows out; the measures are those of ``judge.evaluation`` and ``judge.agreement``.
Never runs a judge, and never counts a tree that a judge was trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from judge.agreement import Rating, agreement
from judge.evaluation import FEW_TREES, PairResult, compare, pair_accuracy
from judge.examples import Example, level_of
from judge.groups import group_of, grouped
from judge.readings import outcome
from judge.resampling import Trees, beyond_chance
from judge.results import dimension_order, nearest
from judge.rubric import OVERALL, OVERALL_GLOBAL, dimensions, row_of

Result = dict[str, Any]
Said = Mapping[str, Mapping[str, float]]  # node -> dimension -> expected score
Key = tuple[str, str]  # level, dimension


def unseen(
    examples: Iterable[Example], split: Mapping[str, Sequence[str]], groups: Mapping[str, str] | None = None
) -> list[Example]:
    """The examples that a judge with this ``split`` (train, validation) did not learn from and was not chosen by.

    A tree of the same group as one of those (the same question, a shared picture) is left out too: see ``judge.groups``.
    ``groups``: of each tree, those that the judge learned from among them (default: of the examples alone).
    """
    known = list(examples)
    if groups is None:
        groups = {e.tree.id: group_of(e) for e in (known if all(e.group for e in known) else grouped(known))}
    learned = {*split.get("train", ()), *split.get("validation", ())}
    seen = {groups[tree] for tree in learned if tree in groups}
    return [e for e in known if e.tree.id not in learned and groups[e.tree.id] not in seen]


def wanted(example: Example) -> set[str]:
    """The replies of a tree that some label is about."""
    return {s.node for s in example.scores} | {n for c in example.comparisons for n in (c.left, c.right)}


def beside_person(
    examples: Sequence[Example], said: Said, n_boot: int = 1000, *, logits: Said | None = None,
    ties: Mapping[str, float] | None = None, tokens: Mapping[str, int] | None = None,
) -> list[Result]:  # fmt: skip
    """How a judge agrees with a person's labels, a row for each level and dimension that both have.

    ``scores``: ``judge.agreement.agreement`` of the person's scores and the judge's, at the nearest level (``constant``: always
    the top one); None without scores. ``pairs``: ``judge.evaluation.pair_accuracy`` of what the person compared, ``derived``
    of pairs that follow from the person's scores (None without any). ``examples``: unseen ones, one person's labels.

    ``logits``: by reply and row of the head, what pairs are compared by (default: ``said``), with the tie margins ``ties`` of
    the rows; then ``probability`` is the mean of what Rao-Kupper gives to the person's outcomes, else None. ``tokens``: of
    each reply and question, to tell which dialogue is longer; without them words are counted (``length``: tokens or words).
    Raises JudgeError for a label that its dimension does not have.
    """
    given = _ratings(examples, said)
    pairs = _pairs(examples, (logits or said,), ties or {}, tokens)
    rows = []
    for level, dimension in _ordered({*given, *pairs}):
        person, judge = given.get((level, dimension), ((), ()))
        scores = agreement(person, judge, dimension, dimensions()[dimension].values, n_boot=n_boot) if person else None
        people, derived = _apart(pairs.get((level, dimension), ([],))[0])
        rows.append({
            "level": level, "dimension": dimension, "row": row_of(level, dimension), "scores": scores,
            "pairs": pair_accuracy(people, n_boot=n_boot), "derived": pair_accuracy(derived, n_boot=n_boot) if derived else None,
            "probability": _probability(people, n_boot) if logits and people else None, "length": "tokens" if tokens else "words",
        })  # fmt: skip
    return rows


def versus(
    examples: Sequence[Example], a: Said, b: Said, n_boot: int = 1000, *, logits: tuple[Said, Said] | None = None
) -> list[Result]:
    """Which of two judges is nearer to a person, a row for each level and dimension: paired, by tree.

    ``pairs``: ``judge.evaluation.compare`` (accuracy of a minus that of b) on what the person compared; ``derived``: on pairs
    that follow from scores, None without any. ``error``: mean of |b - person| - |a - person| over scores, in points, above 0
    where a is nearer; None without scores. Each gets a ``better``: a, b, or None where the difference may be chance or
    ``FEW_TREES`` are not there. ``logits``: of both, what pairs are compared by (default: ``a`` and ``b``).
    """
    errors, pairs = _errors(examples, a, b), _pairs(examples, logits or (a, b), {}, None)
    rows = []
    for level, dimension in _ordered({*errors, *pairs}):
        by_a, by_b = pairs.get((level, dimension), ([], []))
        (people_a, derived_a), (people_b, derived_b) = _apart(by_a), _apart(by_b)
        trees, gains = errors.get((level, dimension), ((), ()))
        rows.append({
            "level": level, "dimension": dimension, "row": row_of(level, dimension),
            "pairs": _judged(compare(people_a, people_b, n_boot=n_boot)),
            "derived": _judged(compare(derived_a, derived_b, n_boot=n_boot)) if derived_a else None,
            "error": _judged(_mean_by_tree(trees, gains, n_boot)) if gains else None,
        })  # fmt: skip
    return rows


def _ratings(examples: Sequence[Example], said: Said) -> dict[Key, tuple[list[Rating], list[Rating]]]:
    """The person's scores and the judge's of the same replies, where both have one."""
    found: dict[Key, tuple[list[Rating], list[Rating]]] = defaultdict(lambda: ([], []))
    for e in examples:
        for s in e.scores:
            expected, known = said.get(s.node, {}).get(s.dimension), dimensions().get(s.dimension)
            if expected is None or known is None:
                continue
            person, judge = found[known.level, s.dimension]
            person.append(Rating(s.node, group_of(e), s.dimension, "person", 1, s.value))
            judge.append(Rating(s.node, group_of(e), s.dimension, "judge", 1, nearest(expected, known.values)))
    return found


def _pairs(
    examples: Sequence[Example], judges: Sequence[Said], ties: Mapping[str, float], tokens: Mapping[str, int] | None
) -> dict[Key, tuple[list[PairResult], ...]]:
    """Every comparison of which all judges scored both replies, as each of them sees it."""
    found: dict[Key, tuple[list[PairResult], ...]] = defaultdict(lambda: tuple([] for _ in judges))
    for e in examples:
        lengths = tokens or {n.id: len(n.text.split()) for n in e.tree.walk()}
        for c in e.comparisons:
            row = row_of(c.level, c.dimension)
            values = [[_value(said, node, row) for node in (c.left, c.right)] for said in judges]
            if any(value is None for two in values for value in two):
                continue
            depth = len(e.tree.path(c.left))
            # what both sides share cancels
            left_n, right_n = (sum(lengths.get(n.id, 0) for n in e.tree.path(node)) for node in (c.left, c.right))
            for side, (left, right) in zip(found[c.level, c.dimension], values, strict=True):
                side.append(PairResult(
                    group_of(e), c.level, c.dimension, (depth + 1) // 2, depth, c.outcome, left or 0.0, right or 0.0,
                    tie_margin=ties.get(row, 0.0), left_tokens=left_n, right_tokens=right_n, human_margin=c.margin,
                ))  # fmt: skip
    return found


def _value(said: Said, node: str, row: str) -> float | None:
    """What a judge said on a row; judges of an earlier version have one row for both kinds of overall."""
    by_row = said.get(node, {})
    return by_row.get(row, by_row.get(OVERALL) if row == OVERALL_GLOBAL else None)


def _apart(pairs: Sequence[PairResult]) -> tuple[list[PairResult], list[PairResult]]:
    """What people compared, and pairs that follow from their scores."""
    return [p for p in pairs if p.human_margin is None], [p for p in pairs if p.human_margin is not None]


def _probability(pairs: Sequence[PairResult], n_boot: int) -> Result:
    """The mean probability of what the person said, by Rao-Kupper."""
    given = np.array([getattr(outcome(p.left - p.right, p.tie_margin), p.outcome) for p in pairs])
    trees = Trees([p.tree for p in pairs], 0, n_boot)
    return {"n": len(pairs), "trees": trees.n, "interval_note": trees.note, **trees.mean(given)}


def _errors(examples: Sequence[Example], a: Said, b: Said) -> dict[Key, tuple[list[str], list[float]]]:
    """Of every score that both judges have: its tree, and by how much a is nearer to it than b."""
    found: dict[Key, tuple[list[str], list[float]]] = defaultdict(lambda: ([], []))
    for e in examples:
        for s in e.scores:
            by_a, by_b = (said.get(s.node, {}).get(s.dimension) for said in (a, b))
            if by_a is not None and by_b is not None:
                trees, gains = found[level_of(s.dimension), s.dimension]
                trees.append(group_of(e))
                gains.append(abs(by_b - s.value) - abs(by_a - s.value))
    return found


def _mean_by_tree(trees: Sequence[str], gains: Sequence[float], n_boot: int) -> Result:
    """The mean of ``gains`` with its interval by tree."""
    drawn = Trees(trees, 0, n_boot)
    mean = drawn.mean(np.array(gains))
    return {"n": len(gains), "trees": drawn.n, "difference": mean["value"], "interval": mean["interval"],
            "interval_note": drawn.note, "beyond_chance": beyond_chance(mean["interval"])}  # fmt: skip


def _judged(found: Result) -> Result:
    """``found`` with who is better; nobody where an interval over so few trees would be too narrow to say so."""
    sure = found["beyond_chance"] and found["trees"] >= FEW_TREES
    return found | {"better": ("a" if found["difference"] > 0 else "b") if sure else None}


def _ordered(keys: Iterable[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: dimension_order(*key))
