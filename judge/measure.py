"""Puts a judge to the test on held-out trees: its readings beside the labels, as ``judge.evaluation`` takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from judge import files, report
from judge.evaluation import PairResult, ScoreResult, evaluate
from judge.examples import Comparison, Example, Level, level_of, with_derived
from judge.model import JudgeModel, ScoreHead
from judge.rubric import JudgeError
from judge.scoring import Reading, Scorer

Groups = Mapping[tuple[str, str], str]  # (left, right) of a comparison -> its group


class Reads(Protocol):
    """What can be put to the test: a head, and readings of a tree's replies."""

    @property
    def head(self) -> ScoreHead: ...
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]: ...


def measure(
    scorer: Reads,
    examples: Sequence[Example],
    groups: Groups | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[PairResult], list[ScoreResult]]:
    """Score every labelled reply once and set it beside what people said, on the dimensions that this judge has.

    Raises JudgeError as ``Scorer.tree``.
    """
    margins = dict(zip(scorer.head.rows, scorer.head.tie_margins().tolist(), strict=True))
    pairs: list[PairResult] = []
    scores: list[ScoreResult] = []
    for i, e in enumerate(examples):
        e = replace(e, scores=[s for s in e.scores if s.dimension in margins],
                    comparisons=[c for c in e.comparisons if c.dimension in margins])  # fmt: skip
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


def assess(
    folder: Path, cache: Path, examples: Sequence[Example], progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Test a judge on the test trees of its own split, beside the same backbone untrained; writes ``report.json`` and
    ``report.html`` beside its card, and returns the report.

    ``examples``: the data it was trained with, test trees included. Raises JudgeError when none of them is here.
    """
    model, card = files.load_judge(folder, cache)
    scorer = Scorer(model, max_path=card["settings"]["max_path"])
    level = card["settings"]["level"]
    levels: tuple[Level, ...] = ("local", "global") if level == "both" else (level,)
    wanted = set(card["split"]["test"])
    held_out = [e.restrict(levels) for e in examples if e.tree.id in wanted]
    if card["settings"]["derived"]:
        held_out = [with_derived(e) for e in held_out]
    held_out = [e for e in held_out if e.scores or e.comparisons]
    if not held_out:
        raise JudgeError(
            f"None of the {len(wanted)} test trees of judge {folder.name!r} has a label: rate more dialogues, then train again."
        )
    pairs, scores = measure(scorer, held_out, progress=lambda done, of: progress(done, 2 * of))
    fresh = untrained(model, card)
    plain, _ = measure(
        Scorer(fresh, max_path=scorer.max_path), held_out, progress=lambda done, of: progress(of + done, 2 * of)
    )
    found = evaluate(pairs, scores, others={"untrained backbone": [(p.left, p.right) for p in plain]})
    files.write_whole(folder / "report.json", json.dumps(found, indent=1).encode())
    report.write(found, folder / "report.html", f"Judge {folder.name}")
    return found


def untrained(model: JudgeModel, card: Mapping[str, Any]) -> JudgeModel:
    """``model`` itself, put back to before its first step: LoRA that changes nothing, and the head's first weights."""
    model.reset(card["settings"]["seed"])
    return model
