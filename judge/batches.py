"""Examples as batches: which labels go into which forest, as tensors. Knows the encoder, not the network."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from judge.encoding import Encoder
from judge.examples import Comparison, Example, Score, level_of
from judge.groups import group_of
from judge.labels import Skipped
from judge.packing import Forest, Item, Part, Piece, bundle, pack, plan_items
from judge.rubric import JudgeError, Scales
from studio.tree import Tree

Batch = dict[str, Any]
Placed = tuple[
    Score | Comparison, Sequence[int], torch.Tensor
]  # a label, where its replies stand, its weights (1 + copies,)
OUTCOMES = {"left": 1, "right": -1, "tie": 0}


class Reader:
    """Pieces of some examples' nodes, each encoded once."""

    def __init__(self, encoder: Encoder, examples: Sequence[Example]) -> None:
        self.encoder = encoder
        self.images = {e.tree.id: e.images for e in examples}
        self._pieces: dict[tuple[str, str], Piece] = {}

    def piece(self, tree: Tree, node: str) -> Piece:
        key = (tree.id, node)
        if key not in self._pieces:
            self._pieces[key] = self.encoder.piece(tree.path(node), self.images[tree.id])
        return self._pieces[key]

    def pixels(self, parts: Sequence[Part], pictures: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the model takes beside the tokens for the pictures of some parts."""
        known: dict[str, Any] = {}
        for part in parts:
            known |= self.images[part.tree.id]
        return self.encoder.pixels(pictures, known)


@dataclass
class Step:
    """What is scored at once, so that both replies of every label are there. ``sequences``: parts packed behind one another.

    More than one sequence only where a label's replies do not fit into one; ``items`` are those labels' then.
    """

    sequences: list[list[Part]]
    items: list[Item] | None = None

    @property
    def tokens(self) -> int:
        """Of all sequences."""
        return sum(part.tokens for parts in self.sequences for part in parts)

    def labelled(self) -> list[tuple[Part, Item]]:
        """Each item with a part of its tree."""
        if self.items is not None:
            return [(self.sequences[0][0], item) for item in self.items]
        return [(part, item) for parts in self.sequences for part in parts for item in part.items]


class Forests(Dataset[Batch]):
    """Labelled examples as packed batches of at most ``max_tokens``, the same ones every time.

    ``multiple``: batches without labels are added until their number is a multiple of this, so that several processes
    take equally many. ``skipped``: labels that cannot be read, and those read without their beginning, with the reason.
    """

    def __init__(self, examples: Sequence[Example], encoder: Encoder, scales: Scales, *, max_tokens: int, max_path: int,
                 copies: int = 0, seed: int = 0, multiple: int = 1, empty: bool = False) -> None:  # fmt: skip
        """``scales``: the head's rows; ``empty``: there may be nothing to learn from.

        Raises JudgeError: there is nothing to learn from.
        """
        self.scales = {row: tuple(values) for row, values in scales.items()}
        self.copies, self.seed = copies, seed
        self.reader = Reader(encoder, examples)
        self.groups = {e.tree.id: group_of(e) for e in examples}
        self.labels: dict[tuple[str, Item], list[Score | Comparison]] = defaultdict(list)
        self.skipped: list[Skipped] = []
        self.parts: list[Part] = []
        self.linked: list[Step] = []
        for e in examples:
            self._plan(e, max(max_tokens, max_path), max_path)
        self.tokens = sum(p.tokens for p in self.parts) + sum(s.tokens for s in self.linked)
        if not self.parts and not self.linked:
            self.steps: list[Step] = []
            if empty:
                return
            raise JudgeError("There is nothing to learn from: no score and no comparison. Rate some replies first.")
        self.bundle(max_tokens, multiple)

    def bundle(self, max_tokens: int, multiple: int = 1) -> None:
        """Put the parts together anew, into batches of at most ``max_tokens``; a larger part stands alone."""
        steps = [Step([parts]) for parts in bundle(self.parts, max_tokens)]
        for step in self.linked:
            together = bundle([p for parts in step.sequences for p in parts], max_tokens)
            steps.append(Step(together, step.items))
        smallest = min((p for s in steps for parts in s.sequences for p in parts), key=lambda p: p.tokens)
        while len(steps) % multiple:
            steps.append(Step([[Part(smallest.tree, smallest.root, [], smallest.nodes, smallest.tokens)]]))
        self.steps = steps

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence: what the memory must hold at once."""
        return max((sum(p.tokens for p in parts) for step in self.steps for parts in step.sequences), default=0)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        """Tensors of one step and its labels; ``layout`` is no tensor, and ``more`` holds further sequences."""
        step = self.steps[index]
        forests = [pack(parts, self.reader.piece) for parts in step.sequences]
        at: dict[tuple[int, int], int] = {}  # (sequence, token) -> index among the scored replies
        for i, (parts, forest) in enumerate(zip(step.sequences, forests, strict=True)):
            for part, ends in zip(parts, forest.ends, strict=True):
                for node in dict.fromkeys(n for item in part.items for n in item):
                    at.setdefault((i, ends[node]), len(at))
        if not at:  # a batch that only fills up: something must be scored for the gradient to exist
            at[0, next(iter(forests[0].ends[0].values()))] = 0
        first, *more = [
            self._sequence(parts, forest, [token for j, token in at if j == i])
            for i, (parts, forest) in enumerate(zip(step.sequences, forests, strict=True))
        ]
        return {**first, "more": more, **self._labels(step, forests, at)}

    def _sequence(self, parts: Sequence[Part], forest: Forest, ends: Sequence[int]) -> Batch:
        pixels = self.reader.pixels(parts, forest.pictures)
        return {"ids": forest.ids, "positions": forest.positions, "layout": forest.layout, "images": pixels,
                "ends": torch.tensor(ends, dtype=torch.long)}  # fmt: skip

    def _labels(self, step: Step, forests: Sequence[Forest], at: Mapping[tuple[int, int], int]) -> Batch:
        replies: dict[tuple[str, str, str | None], int] = {}  # (tree, node, root of its part) -> index
        for i, (parts, forest) in enumerate(zip(step.sequences, forests, strict=True)):
            for part, ends in zip(parts, forest.ends, strict=True):
                for node in (n for item in part.items for n in item):
                    root = None if step.items is not None else part.root
                    replies[part.tree.id, node, root] = at[i, ends[node]]
        placed: list[Placed] = []
        for part, item in step.labelled():
            tree, root = part.tree.id, None if step.items is not None else part.root
            weights = resampled(self.groups[tree], self.copies, self.seed)
            for label in self.labels[tree, item]:
                placed.append((label, [replies[tree, n, root] for n in label_nodes(label)], weights))
        return label_tensors(placed, self.scales, self.copies)

    def _plan(self, example: Example, max_tokens: int, max_path: int) -> None:
        labels = labels_of(example)
        for label in labels:
            if row_of_label(label) not in self.scales:
                self.skipped.append(_skipped(example, label, f"the judge has no dimension {label.dimension}"))
        labels = [label for label in labels if row_of_label(label) in self.scales]
        tree = example.tree
        made = plan_items(tree, {_item(label) for label in labels},
                          lambda n: self.reader.piece(tree, n), max_tokens, max_path)  # fmt: skip
        for label in labels:
            item = _item(label)
            if item in made.left_out:
                self.skipped.append(_skipped(example, label, made.left_out[item]))
                continue
            self.labels[tree.id, item].append(label)
            if item in made.cut:
                self.skipped.append(_skipped(example, label, f"cut at its beginning to {max_path:,} tokens"))
        self.parts += made.parts
        self.linked += [Step([parts], items) for parts, items in zip(made.linked, made.linked_items, strict=True)]


def labels_of(example: Example) -> list[Score | Comparison]:
    """A tree's scores, then its comparisons."""
    return [*example.scores, *example.comparisons]


def row_of_label(label: Score | Comparison) -> str:
    """The row of a head that a label is about."""
    return label.dimension if isinstance(label, Score) else label.row


def people_only(skipped: Sequence[Skipped], examples: Sequence[Example]) -> list[Skipped]:
    """Those of the skipped labels that a person gave: pairs which follow from scores are no labels of their own."""
    derived = {
        (e.tree.id, c.left, c.right, c.dimension) for e in examples for c in e.comparisons if c.margin is not None
    }
    return [s for s in skipped if (s.tree, s.node, s.other, s.dimension) not in derived]


def _skipped(example: Example, label: Score | Comparison, reason: str) -> Skipped:
    nodes = label_nodes(label)
    level = level_of(label.dimension) if isinstance(label, Score) else label.level
    other = nodes[1] if len(nodes) > 1 else None
    return Skipped(reason, example.tree.id, nodes[0], other, level, label.dimension)


def label_tensors(labels: Sequence[Placed], scales: Scales, copies: int) -> Batch:
    """Labels as ``judge.losses.label_losses`` takes them; ``scales``: the rows of a head, whatever the rubric says today."""
    rows = {row: i for i, row in enumerate(scales)}
    scores: list[tuple[int, int, int]] = []
    pairs: list[tuple[int, int, int, int]] = []
    margins: list[float] = []
    weights: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for label, at, weight in labels:
        row = rows[row_of_label(label)]
        if isinstance(label, Score):
            scores.append((at[0], row, list(scales[label.dimension]).index(label.value)))
        else:
            pairs.append((at[0], at[1], row, OUTCOMES[label.outcome]))
            span = scales[row_of_label(label)][-1] - scales[row_of_label(label)][0]
            margins.append(-1.0 if label.margin is None else label.margin / span)
        weights[not isinstance(label, Score)].append(weight * label.weight)
    none = torch.zeros(0, 1 + copies)
    return {
        "scores": torch.tensor(scores, dtype=torch.long).reshape(-1, 3),
        "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 4),
        "margins": torch.tensor(margins),
        "score_weights": torch.stack(weights[0]) if weights[0] else none,
        "pair_weights": torch.stack(weights[1]) if weights[1] else none,
    }


def resampled(group: str, copies: int, seed: int) -> torch.Tensor:
    """Weight 1 for the judge, and how often each copy's bootstrap sample drew this group of trees (Poisson, mean 1)."""
    digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.cat([torch.ones(1), torch.poisson(torch.ones(copies), generator=generator)])


def label_nodes(label: Score | Comparison) -> tuple[str, ...]:
    """The replies that a label speaks of."""
    return (label.node,) if isinstance(label, Score) else (label.left, label.right)


def _item(label: Score | Comparison) -> Item:
    return tuple(sorted(label_nodes(label)))


def collate(batch: list[Batch]) -> Batch:
    """A forest is a batch already."""
    (only,) = batch
    return only
