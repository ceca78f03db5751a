"""What an accuracy has to be held against: other judges on the same pairs, and how well people agree with themselves.

Records in, JSON-able dicts out. The baselines that need no other judge (coin, majority, longer, always the top score) are
those of ``judge.evaluation.pair_accuracy`` and ``score_agreement``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from judge.resampling import Trees, beyond_chance
from judge.results import Others, PairResult, Pairs, Result, credit, decided
from judge.rubric import JudgeError, row_of
from judge.standing import Repeat

Rivals = Mapping[str, Sequence[PairResult | None]]  # the pairs as another judge scored them; None: it did not


def rivals_of(pairs: Pairs, others: Others) -> dict[str, list[PairResult | None]]:
    """The same pairs with the logits of each other judge, in order. Raises JudgeError where their number differs."""
    rivals: dict[str, list[PairResult | None]] = {}
    for name, predicted in others.items():
        if len(predicted) != len(pairs):
            raise JudgeError(
                f"{name} scored {len(predicted)} pairs, not {len(pairs)}. Pass None where it gave no answer."
            )
        rivals[name] = [_as_scored(p, by) for p, by in zip(pairs, predicted, strict=True)]
    return rivals


def shared(pairs: Pairs, theirs: Sequence[PairResult | None]) -> tuple[list[PairResult], list[PairResult]]:
    """Ours and theirs of the pairs that both judges scored."""
    both = [(p, t) for p, t in zip(pairs, theirs, strict=True) if t is not None]
    return [p for p, _ in both], [t for _, t in both]


def beside(pairs: Pairs, rivals: Rivals, seed: int = 0, n_boot: int = 1000) -> dict[str, Result]:
    """Each other judge on the decided pairs that both scored: ``n`` of them, its accuracy (``value``, ``interval``), ``ours``
    there, and ``difference``, ours minus its, with a paired interval by tree."""
    found = {}
    for name, theirs in rivals.items():
        ours, their = shared(pairs, theirs)
        kept, human, difference = decided(ours)
        right, its = credit(human, difference), credit(human, decided(their)[2])
        trees = Trees([p.tree for p in kept], seed, n_boot)
        gap = trees.mean(right - its)
        found[name] = {
            "n": len(kept), "trees": trees.n, "interval_note": trees.note, **trees.mean(its),
            "ours": trees.mean(right)["value"], "difference": gap["value"], "difference_interval": gap["interval"],
            "beyond_chance": beyond_chance(gap["interval"]),
        }  # fmt: skip
    return found


def ceiling_of(
    repeats: Iterable[Repeat], kind: str, level: str | None = None, dimension: str | None = None, seed: int = 0,
    n_boot: int = 1000,
) -> Result | None:  # fmt: skip
    """How often people agreed with themselves or each other on what they judged twice; None where they never did.

    ``kind``: pairs (the same outcome, ties included) or scores (the same value). ``who``: n of each two.
    """
    chosen = [
        r for r in repeats if r.kind == kind and level in (None, r.level) and dimension in (None, r.dimension)
    ]  # fmt: skip
    if not chosen:
        return None
    trees = Trees([r.tree for r in chosen], seed, n_boot)
    names = sorted({r.who for r in chosen} - {""})
    return {
        "n": len(chosen), "trees": trees.n, "interval_note": trees.note,
        **trees.mean(np.array([r.agrees for r in chosen], dtype=float)),
        "who": {name: sum(r.who == name for r in chosen) for name in names},
    }  # fmt: skip


def ceilings(repeats: Sequence[Repeat], seed: int = 0, n_boot: int = 1000) -> Result:
    """``ceiling_of`` all ``pairs``, of all ``scores``, and ``by`` kind, level and dimension."""
    keys = sorted({(r.kind, r.level, r.dimension) for r in repeats})
    return {
        **{kind: ceiling_of(repeats, kind, seed=seed, n_boot=n_boot) for kind in ("pairs", "scores")},
        "by": [
            {"kind": kind, "level": level, "key": dimension, "row": row_of(level, dimension),
             **(ceiling_of(repeats, kind, level, dimension, seed, n_boot) or {})}
            for kind, level, dimension in keys
        ],
    }  # fmt: skip


def _as_scored(pair: PairResult, by: tuple[float, ...] | None) -> PairResult | None:
    if by is None:
        return None
    left, right, *margin = by
    return replace(pair, left=left, right=right, tie_margin=margin[0] if margin else 0.0, spread=None)
