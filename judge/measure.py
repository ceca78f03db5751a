"""Puts a judge to the test on held-out trees: its readings beside the labels, as ``judge.evaluation`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from judge.evaluation import PairResult, ScoreResult
from judge.examples import Comparison, Example, level_of
from judge.scoring import Reading, Scorer

Groups = Mapping[tuple[str, str], str]  # (left, right) of a comparison -> its group


def measure(
    scorer: Scorer,
    examples: Sequence[Example],
    groups: Groups | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[PairResult], list[ScoreResult]]:
    """Score every labelled reply once and set it beside what people said. Raises JudgeError as ``Scorer.tree``."""
    margins = dict(zip(scorer.model.head.rows, scorer.model.head.tie_margins().tolist(), strict=True))
    pairs: list[PairResult] = []
    scores: list[ScoreResult] = []
    for i, e in enumerate(examples):
        wanted = {s.node for s in e.scores} | {n for c in e.comparisons for n in (c.left, c.right)}
        found = scorer.tree(e, sorted(wanted))
        pairs += [
            _pair(e, c, found, margins[c.dimension], (groups or {}).get((c.left, c.right), "")) for c in e.comparisons
        ]
        for s in e.scores:
            depth = len(e.tree.path(s.node))
            scores.append(ScoreResult(e.tree.id, level_of(s.dimension), s.dimension, (depth + 1) // 2, depth, s.value,
                                      found[s.node].expected[s.dimension]))  # fmt: skip
        progress(i + 1, len(examples))
    return pairs, scores


def _pair(e: Example, c: Comparison, found: Mapping[str, Reading], tie: float, group: str) -> PairResult:
    left, right = (found[n].logits[c.dimension] for n in (c.left, c.right))
    words = [len(e.tree.nodes[n].text.split()) for n in (c.left, c.right)]
    depth = len(e.tree.path(c.left))
    return PairResult(e.tree.id, c.level, c.dimension, (depth + 1) // 2, depth, c.outcome, left, right, tie_margin=tie,
                      left_tokens=words[0], right_tokens=words[1], human_margin=c.margin, group=group)  # fmt: skip
