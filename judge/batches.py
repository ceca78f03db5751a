"""Examples as batches: which labels go into which forest, as tensors. Knows the encoder, not the network."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from judge.encoding import Encoder
from judge.examples import Comparison, Example, Score
from judge.packing import Item, Part, Piece, bundle, pack, plan
from judge.rubric import JudgeError, check, dimensions
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


class Forests(Dataset[Batch]):
    """Labelled examples as packed batches of at most ``max_tokens``, the same ones every time.

    ``multiple``: batches without labels are added until their number is a multiple of this, so that several processes
    take equally many.
    """

    def __init__(self, examples: Sequence[Example], encoder: Encoder, rows: Sequence[str], *, max_tokens: int, max_path: int,
                 copies: int = 0, seed: int = 0, multiple: int = 1) -> None:  # fmt: skip
        """Raises JudgeError: nothing to learn from, a reply too long, a dimension that the head lacks."""
        self.rows = {row: i for i, row in enumerate(rows)}
        self.copies, self.seed = copies, seed
        self.reader = Reader(encoder, examples)
        self.labels: dict[tuple[str, Item], list[Score | Comparison]] = defaultdict(list)
        parts: list[Part] = []
        for e in examples:
            labels: list[Score | Comparison] = [*e.scores, *e.comparisons]
            for label in labels:
                self._check(e, label)
                self.labels[e.tree.id, _item(label)].append(label)
            items = sorted({_item(label) for label in labels})
            parts += plan(e.tree, items, lambda n, e=e: self.reader.piece(e.tree, n), max_tokens, max_path)  # type: ignore[misc]
        if not parts:
            raise JudgeError("There is nothing to learn from: no score and no comparison. Rate some replies first.")
        self.parts, self.bundles = parts, [[part] for part in parts]
        self.tokens = sum(p.tokens for p in parts)
        self.bundle(max_tokens, multiple)

    def bundle(self, max_tokens: int, multiple: int = 1) -> None:
        """Put the parts together anew, into batches of at most ``max_tokens`` (or of the largest part)."""
        smallest, largest = (pick(self.parts, key=lambda p: p.tokens) for pick in (min, max))
        self.bundles = bundle(self.parts, max(max_tokens, largest.tokens))
        while len(self.bundles) % multiple:
            self.bundles.append([Part(smallest.tree, smallest.root, [], smallest.nodes, smallest.tokens)])

    def __len__(self) -> int:
        return len(self.bundles)

    def __getitem__(self, index: int) -> Batch:
        """Tensors of one forest and its labels; ``layout`` is no tensor."""
        parts = self.bundles[index]
        forest = pack(parts, self.reader.piece)
        forest.images = self.reader.pixels(parts, forest.pictures)
        return {"ids": forest.ids, "positions": forest.positions, "layout": forest.layout, "images": forest.images,
                **self._labels(parts, forest.ends)}  # fmt: skip

    def _labels(self, parts: Sequence[Part], ends: Sequence[dict[str, int]]) -> Batch:
        at: dict[int, int] = {}  # token -> index among the scored replies
        found: list[Placed] = []
        for i, part in enumerate(parts):
            weights = resampled(part.tree.id, self.copies, self.seed)
            for label in (one for item in part.items for one in self.labels[part.tree.id, item]):
                found.append((label, [at.setdefault(ends[i][n], len(at)) for n in label_nodes(label)], weights))
        if not at:  # a batch that only fills up: something must be scored for the gradient to exist
            at[next(iter(ends[0].values()))] = 0
        return {"ends": torch.tensor(list(at)), **label_tensors(found, self.rows, self.copies)}

    def _check(self, example: Example, label: Score | Comparison) -> None:
        if label.dimension not in self.rows:
            raise JudgeError(f"The judge has no dimension {label.dimension!r}. It has {', '.join(self.rows)}. "
                             "If it is an own one of somebody else, take over their rubric.json.")  # fmt: skip
        if isinstance(label, Score) and label.dimension in dimensions():
            check(label.dimension, label.value)
        for node in label_nodes(label):
            if node not in example.tree.nodes:
                raise JudgeError(
                    f"A label of tree {example.tree.id} names {node!r}, which is not in it. Export the tree again."
                )


def label_tensors(labels: Sequence[Placed], rows: Mapping[str, int], copies: int) -> Batch:
    """Labels as ``judge.losses.label_losses`` takes them; ``rows``: where a head has each dimension."""
    scores: list[tuple[int, int, int]] = []
    pairs: list[tuple[int, int, int, int]] = []
    margins: list[float] = []
    weights: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for label, at, weight in labels:
        row = rows[label.dimension]
        if isinstance(label, Score):
            known = dimensions().get(label.dimension)
            scores.append((at[0], row, known.values.index(label.value) if known else label.value))
        else:
            pairs.append((at[0], at[1], row, OUTCOMES[label.outcome]))
            margins.append(-1.0 if label.margin is None else label.margin / 3)
        weights[not isinstance(label, Score)].append(weight * label.weight)
    none = torch.zeros(0, 1 + copies)
    return {
        "scores": torch.tensor(scores, dtype=torch.long).reshape(-1, 3),
        "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 4),
        "margins": torch.tensor(margins),
        "score_weights": torch.stack(weights[0]) if weights[0] else none,
        "pair_weights": torch.stack(weights[1]) if weights[1] else none,
    }


def resampled(tree_id: str, copies: int, seed: int) -> torch.Tensor:
    """Weight 1 for the judge, and how often each copy's bootstrap sample drew this tree (Poisson, mean 1)."""
    digest = hashlib.sha256(f"{seed} {tree_id}".encode()).digest()
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
