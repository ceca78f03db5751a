"""Pairs and scores as a judge and a person left them, made by hand, for the tests of what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from judge.evaluation import PairResult, Repeat, ScoreResult, evaluate


def pair(outcome: str, left: float, right: float, tree: str = "t", **more: Any) -> PairResult:
    return PairResult(tree, **{"level": "local", "dimension": "L1", "turn": 0, "depth": 1, **more}, outcome=outcome,
                      left=left, right=right)  # fmt: skip


def score(value: int, expected: float, tree: str = "t", **more: Any) -> ScoreResult:
    return ScoreResult(tree, **{"level": "local", "dimension": "L1", "turn": 0, "depth": 1, **more}, value=value,
                       expected=expected)  # fmt: skip


def full_report(n_boot: int = 100) -> dict[str, Any]:
    """A report with something in every section, of random labels."""
    rng = np.random.default_rng(11)
    kinds = [("local", "<L0>"), ("local", "overall"), ("global", "overall"), ("global", "G3")]
    pairs = [
        pair(["left", "right", "tie"][i % 3], *rng.normal(size=2), f"{i // 6}", level=kinds[i % 4][0], dimension=kinds[i % 4][1],
             turn=i % 4, left_tokens=i, right_tokens=9, tie_margin=0.2, spread=float(rng.uniform(0.1, 1)),
             human_margin=1.0 if i % 5 == 0 else None, annotator=["ann", "bob"][i % 2], cut=i % 7 == 0)
        for i in range(240)
    ]  # fmt: skip
    scores = []
    for i in range(120):
        values = (0, 1, 2, 3) if i % 2 else (-1, 0, 1, 2, 3)
        fitted = rng.dirichlet(np.ones(len(values)))
        scores.append(score(values[i % len(values)], float(fitted @ values), f"{i // 6}", dimension="L4" if i % 2 else "G5",
                            level="local" if i % 2 else "global", values=values, probabilities=tuple(fitted)))  # fmt: skip
    ceiling = [Repeat("local", "overall", f"{i}", "pairs", i % 4 > 0, "ann and bob") for i in range(20)]
    ceiling += [Repeat("local", "L4", f"{i}", "scores", i % 5 > 0, "ann, round 1 and ann, round 2") for i in range(20)]
    others = {"untrained & raw": [(p.right, p.left, p.tie_margin) for p in pairs],
              "zero-shot": [(1.0, 0.0) if i % 3 else None for i in range(len(pairs))]}  # fmt: skip
    return evaluate(pairs, scores, others=others, ceiling=ceiling, n_boot=n_boot)
