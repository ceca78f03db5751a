"""Puts a judge to the test on held-out trees: its readings beside the labels, as ``judge.evaluation`` takes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from judge import files, frozen, report, snapshot
from judge.evaluation import PairResult, ScoreResult, evaluate
from judge.examples import Comparison, Example, Score, level_of
from judge.groups import Split, group_of
from judge.model import JudgeModel, ScoreHead
from judge.packing import chain_tokens
from judge.readings import Reading, paired_spread
from judge.rubric import OVERALL, OVERALL_GLOBAL, JudgeError
from judge.scoring import Scorer

Key = tuple[str, str, str]  # left, right, row
Groups = Mapping[tuple[str, str], str]  # (left, right) of a comparison -> its group
Progress = Callable[[dict[str, Any]], None]
Others = Mapping[str, Mapping[str, Mapping[str, float]]]  # judge -> reply -> row -> reward
FITTED = "frozen backbone, fitted head"


class Reads(Protocol):
    """What can be put to the test: a head, readings of a tree's replies, and how long its nodes are."""

    @property
    def max_path(self) -> int: ...
    @property
    def head(self) -> ScoreHead: ...
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]: ...
    def tokens(self, example: Example, node: str) -> int: ...


def measure(
    scorer: Reads,
    examples: Sequence[Example],
    groups: Groups | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[PairResult], list[ScoreResult]]:
    """Score every labelled reply once and set it beside what people said, on the rows that this judge has.

    A label of a reply that cannot be read (``scorer`` names it) is in neither list, nor is a score on a row that never
    saw one. ``PairResult.tree`` is the group of the tree: that is what bootstraps draw.
    """
    keyed, scores = measure_keyed(scorer, examples, groups, progress)
    return [pair for _, pair in keyed], scores


def measure_keyed(
    scorer: Reads,
    examples: Sequence[Example],
    groups: Groups | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[tuple[Key, PairResult]], list[ScoreResult]]:
    """As ``measure``, with the replies and the row of each pair."""
    pairs: list[tuple[Key, PairResult]] = []
    scores: list[ScoreResult] = []
    for i, example in enumerate(examples):
        nodes = {s.node for s in example.scores} | {n for c in example.comparisons for n in (c.left, c.right)}
        readings = scorer.tree(example, sorted(nodes))
        for c in example.comparisons:
            row = _row(scorer.head, c)
            if row and all(n in readings and row in readings[n].logits for n in (c.left, c.right)):
                group = (groups or {}).get((c.left, c.right), "")
                pairs.append(((c.left, c.right, row), _pair(scorer, example, c, row, readings, group)))
        for s in example.scores:
            if s.node in readings and s.dimension in readings[s.node].expected:
                scores.append(_score(scorer, example, s, readings[s.node]))
        progress(i + 1, len(examples))
    return pairs, scores


def _row(head: ScoreHead, c: Comparison) -> str | None:
    """The row that a comparison is about; judges of an earlier version have one row for both kinds of overall."""
    if c.row in head.rows:
        return c.row
    return OVERALL if c.row == OVERALL_GLOBAL and OVERALL in head.rows else None


def _pair(
    scorer: Reads, e: Example, c: Comparison, row: str, readings: Mapping[str, Reading], group: str
) -> PairResult:
    left, right = readings[c.left], readings[c.right]
    tie = float(scorer.head.tie_margins().detach()[scorer.head.rows.index(row)])
    lengths = chain_tokens(e.tree, c, lambda n: _tokens(scorer, e, n))
    spread = paired_spread(left.head_logits.get(row, ()), right.head_logits.get(row, ()))
    depth = len(e.tree.path(c.left))
    return PairResult(
        group_of(e), c.level, c.dimension, (depth + 1) // 2, depth, c.outcome, left.logits[row], right.logits[row],
        tie_margin=tie, left_tokens=lengths[0], right_tokens=lengths[1], human_margin=c.margin, group=group,
        annotator=c.annotator, spread=spread, cut=_is_cut(scorer, e, (c.left, c.right)),
    )  # fmt: skip


def _score(scorer: Reads, e: Example, s: Score, reading: Reading) -> ScoreResult:
    depth = len(e.tree.path(s.node))
    return ScoreResult(
        group_of(e), level_of(s.dimension), s.dimension, (depth + 1) // 2, depth, s.value, reading.expected[s.dimension],
        annotator=s.annotator, cut=_is_cut(scorer, e, (s.node,)), values=tuple(scorer.head.scales[s.dimension]),
        probabilities=scorer.head.level_probabilities(s.dimension, reading.logits[s.dimension]),
    )  # fmt: skip


def _is_cut(scorer: Reads, e: Example, nodes: Iterable[str]) -> bool:
    """Whether one of the dialogues that end at ``nodes`` is longer than the judge reads, or holds what it cannot read."""
    return any(_cut_at(scorer, e, node) for node in nodes)


def _cut_at(scorer: Reads, e: Example, node: str) -> bool:
    try:
        return sum(scorer.tokens(e, n.id) for n in e.tree.path(node)) > scorer.max_path
    except JudgeError:  # the reply itself was read, so this stands above the cut
        return True


def _tokens(scorer: Reads, e: Example, node: str) -> int:
    """How long a node is; what the judge cannot read, above its cut, is of no length."""
    try:
        return scorer.tokens(e, node)
    except JudgeError:
        return 0


def assess(
    folder: Path,
    cache: Path,
    examples: Sequence[Example] = (),
    progress: Progress = lambda line: None,
    others: Others | None = None,
    states: Path | None = None,
) -> dict[str, Any]:
    """Test a judge on the test trees of its own split; writes ``report.json`` and ``report.html``, and returns the report.

    Beside it stand the same backbone with a head fitted to its frozen states on the same training trees, and ``others``:
    rewards that other judges gave (zero-shot ones, say), where they gave any. ``examples``: where the pictures are, and
    the data of a judge that kept no snapshot of it. ``states``: a folder where frozen states are kept for the next time.

    Raises:
        JudgeError: no label in the test trees can be read.
    """
    model, card = files.load_judge(folder, cache)
    prepared = snapshot.of_judge(folder, card, examples)
    parts = Split.load(card["split"])
    held_out = parts.of(prepared, "test")
    scorer = Scorer.of(model, card)
    keyed, scores = measure_keyed(scorer, held_out, progress=_stage(progress, "test"))
    keys, pairs = [key for key, _ in keyed], [pair for _, pair in keyed]
    if not pairs and not scores:
        raise JudgeError(
            f"None of the {len(parts.test)} test trees of judge {folder.name!r} has a label that can be read: "
            "rate more dialogues, then train again."
        )
    rivals, failed = {}, {}
    try:
        fitted, margins = fitted_head(model, card, prepared, parts, states, progress)
        rivals[FITTED] = _rewards(keys, fitted, margins)
    except JudgeError as error:  # what was measured stands without it
        failed = {"baseline_failed": f"The frozen backbone with a fitted head could not be measured beside it: {error}"}
    rivals |= {name: _rewards(keys, by_node) for name, by_node in (others or {}).items()}
    ceiling = [replace(r, tree=group_of(e)) for e in held_out for r in e.repeats]
    result = evaluate(pairs, scores, others=rivals, ceiling=ceiling) | {"data": card["data"]} | failed
    files.write_whole(folder / "report.json", json.dumps(result, indent=1).encode())
    report.write(result, folder / "report.html", f"Judge {folder.name}")
    return result


def fitted_head(
    model: JudgeModel, card: Mapping[str, Any], examples: Sequence[Example], parts: Split,
    states: Path | None = None, progress: Progress = lambda line: None,
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:  # fmt: skip
    """Rewards of the test trees' replies by the plain backbone with a head fitted to the training trees' labels.

    Reply -> row -> reward, and the tie margin of each row. ``model`` loses its LoRA and its head by this.

    Raises:
        JudgeError: there is nothing to fit to.
    """
    model.reset(card["settings"]["seed"])
    train, test = parts.of(examples, "train"), parts.of(examples, "test")
    vectors = frozen.read(
        model, [*train, *test], card["settings"]["max_path"], states,
        lambda done, of, left: progress({"stage": "read", "done": done, "of": of, "eta_s": left}),
    )  # fmt: skip
    judge = frozen.fit(frozen.States.of(vectors, train), train, model.head.scales)
    rewards: dict[str, dict[str, float]] = {}
    for example in test:
        rewards |= {node: reading.logits for node, reading in judge.tree(example).items()}
    return rewards, dict(zip(judge.head.rows, judge.head.tie_margins().detach().tolist(), strict=True))


def _rewards(
    keys: Sequence[Key], by_node: Mapping[str, Mapping[str, float]], margins: Mapping[str, float] | None = None
) -> list[tuple[float, ...] | None]:
    """Another judge's (left, right) rewards of each compared pair, and its tie margin where it has one; None without rewards."""
    rewards: list[tuple[float, ...] | None] = []
    for left, right, row in keys:
        a, b = (by_node.get(node, {}).get(row) for node in (left, right))
        rewards.append(None if a is None or b is None else (a, b, margins[row]) if margins else (a, b))
    return rewards


def _stage(progress: Progress, stage: str) -> Callable[[int, int], None]:
    started = time.monotonic()

    def tell(done: int, of: int) -> None:
        left = (time.monotonic() - started) / done * (of - done) if done else None
        progress({"stage": stage, "done": done, "of": of, "eta_s": left})

    return tell
