"""Scores replies with a trained judge: a whole tree in one pass, or one new reply at the cost of its own tokens.

Keeps the keys and values of nodes it has read, within a bound; the least recently used go first. One thread at a time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from judge import files
from judge.encoding import Images
from judge.examples import Example
from judge.losses import preference
from judge.model import JudgeModel, ScoreHead
from judge.packing import Piece, bundle, pack, plan
from judge.rubric import JudgeError
from studio.tree import Node

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # of each layer: (1, key heads, n, d) twice


@dataclass(frozen=True)
class Reading:
    """What a judge says of one reply, by dimension. ``logits`` compare; ``expected`` is on the dimension's scale;
    ``spread`` is the standard deviation of ``expected`` over the bootstrapped heads."""

    logits: dict[str, float]
    expected: dict[str, float]
    spread: dict[str, float]

    def better_than(self, other: Reading, dimension: str = "overall") -> float:
        """Probability that this reply is the better one of the two, given that one is."""
        return float(preference(torch.tensor(self.logits[dimension] - other.logits[dimension])))


class NodeCache:
    """Keys and values of nodes by what leads to them, at most ``max_bytes`` of them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._kept: OrderedDict[str, tuple[torch.Tensor, KeysValues]] = OrderedDict()

    def get(self, key: str) -> tuple[torch.Tensor, KeysValues] | None:
        """Tokens and their keys and values; counts as a use."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: str, ids: torch.Tensor, kept: KeysValues) -> None:
        """Keep a node's; older ones go if there is no room, and it itself does if it alone is too large."""
        self.drop(key)
        self._kept[key] = (ids, kept)
        self.bytes += _bytes(kept)
        while self.bytes > self.max_bytes:
            self.drop(next(iter(self._kept)))

    def drop(self, key: str) -> None:
        """Forget a node."""
        if key in self._kept:
            self.bytes -= _bytes(self._kept.pop(key)[1])

    def __len__(self) -> int:
        return len(self._kept)


class Scorer:
    """A judge at work. ``cache_mb``: memory for keys and values; ``max_tokens``: a packed sequence."""

    def __init__(self, model: JudgeModel, *, max_tokens: int = 4096, max_path: int = 2048, cache_mb: int = 512,
                 trained: Mapping[str, int] | None = None) -> None:  # fmt: skip
        """``trained``: how many labels of each dimension the judge learned from; it is silent on the others. None: on none."""
        self.model = model.eval()
        self.trained = trained
        self.max_tokens, self.max_path = max_tokens, max_path
        self.cache = NodeCache(cache_mb * 2**20)

    @classmethod
    def load(cls, folder: Path, cache: Path, **settings: Any) -> Scorer:
        """A judge from its folder; paths are cut where they were in training. Raises JudgeError."""
        model, card = files.load_judge(folder, cache)
        return cls(model, **{"max_path": card["settings"]["max_path"], "trained": trained_on(card), **settings})

    @property
    def memory_mb(self) -> float:
        """Of weights and kept keys and values."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return (weights + self.cache.bytes) / 2**20

    @torch.no_grad()
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]:
        """Readings of a tree's replies (or of some of them), each token of the tree encoded once.

        Raises:
            JudgeError: a reply longer than the judge reads, or a picture that cannot be read.
        """
        tree, pieces = example.tree, {}

        def piece(node: str) -> Piece:
            if node not in pieces:
                pieces[node] = self.model.encoder.piece(tree.path(node), example.images)
            return pieces[node]

        wanted = [n.id for n in tree.walk() if n.role == "assistant"] if nodes is None else list(nodes)
        found: dict[str, Reading] = {}
        room = max(self.max_tokens, self.max_path)
        for group in bundle(plan(tree, [(n,) for n in wanted], piece, room, self.max_path), room):
            forest = pack(group, lambda _, node: piece(node))
            forest.images = self.model.encoder.pixels(forest.pictures, example.images)
            asked = [(i, item[0]) for i, part in enumerate(group) for item in part.items]
            scalars = self.model.read(forest, [forest.ends[i][n] for i, n in asked])
            found |= {n: self.reading(scalars[j]) for j, (_, n) in enumerate(asked)}
        return found

    @torch.no_grad()
    def reply(self, path: Sequence[Node], images: Images | None = None, growing: bool = False) -> Reading:
        """The reading of the last node of ``path``, given the ones above; costs the tokens that were not read before.

        ``growing``: the reply is not done; the next call reads on from where its tokens still agree.

        Raises:
            JudgeError: the reply is longer than the judge reads.
        """
        images = images or {}
        pieces = [self.model.encoder.piece(path[: i + 1], images) for i in range(len(path))]
        start = _first_kept(pieces, self.max_path)
        pieces = pieces[start:]
        keys, partial = _chain(pieces), f"growing {path[-1].id}"
        if growing:
            keys[-1] = partial
        read: list[KeysValues] = []
        for key in keys[:-1]:
            if (known := self.cache.get(key)) is None:
                break
            read.append(known[1])
        fresh, agreed = pieces[len(read) :], 0
        if len(fresh) == 1 and (known := self.cache.get(keys[-1]) or self.cache.get(partial)) is not None:
            agreed = _agree(known[0], fresh[0].ids)
            agreed = min(agreed, len(fresh[0]) - 1)
            if agreed and not fresh[0].pictures:
                read.append([(k[:, :, :agreed], v[:, :, :agreed]) for k, v in known[1]])
            else:
                agreed = 0
        hidden, computed = self._extend(pieces, fresh, agreed, read, images)
        before = read.pop() if agreed else None
        at = 0
        for key, piece in zip(keys[-len(fresh) :], fresh, strict=True):
            n = len(piece) - (agreed if piece is fresh[-1] else 0)
            own = [(k[:, :, at : at + n].clone(), v[:, :, at : at + n].clone()) for k, v in computed]
            if before is not None and piece is fresh[-1]:
                own = [(torch.cat([a, k], 2), torch.cat([b, v], 2)) for (a, b), (k, v) in zip(before, own, strict=True)]
            self.cache.put(key, piece.ids, own)
            at += n
        if not growing:
            self.cache.drop(partial)
        return self.reading(self.model.head(hidden[-1:].float())[0])

    def _extend(
        self, pieces: Sequence[Piece], fresh: Sequence[Piece], agreed: int, read: Sequence[KeysValues], images: Images
    ) -> tuple[torch.Tensor, KeysValues]:
        """Run the fresh tokens over what was read. Returns hidden states (n, h) and the new keys and values."""
        from transformers import DynamicCache

        past = DynamicCache()
        for layer in range(len(read[0]) if read else 0):
            past.update(torch.cat([r[layer][0] for r in read], 2), torch.cat([r[layer][1] for r in read], 2), layer)
        prefix = past.get_seq_length()
        first = sum(p.advance for p in pieces[: len(pieces) - len(fresh)])
        ids, positions = [], []
        for piece in fresh:
            skip = agreed if piece is fresh[-1] else 0
            ids.append(piece.ids[skip:])
            positions.append(piece.positions[..., skip:] + first)
            first += piece.advance
        where = torch.cat(positions, -1)
        pictures = [s for p in fresh for s in p.pictures]
        out = self.model.backbone(
            input_ids=torch.cat(ids)[None].to(self.model.device),
            position_ids=(where[None] if where.dim() == 1 else where[:, None]).to(self.model.device),
            past_key_values=past, use_cache=True, **self.model.placed(self.model.encoder.pixels(pictures, images)),
        )  # fmt: skip
        kept = [(layer.keys[:, :, prefix:], layer.values[:, :, prefix:]) for layer in out.past_key_values.layers]
        return out.last_hidden_state[0], kept

    @property
    def head(self) -> ScoreHead:
        """What turns hidden states into scores."""
        return self.model.head

    def reading(self, scalars: torch.Tensor) -> Reading:
        """Scalars (1 + copies, rows) in words a person reads."""
        return read_off(self.head, scalars, self.trained)


def read_off(head: ScoreHead, scalars: torch.Tensor, trained: Mapping[str, int] | None = None) -> Reading:
    """Scalars (1 + copies, rows) as a reading; ``trained``: labels by dimension, silent on those without (None: on none)."""
    expected = head.expected(scalars)
    spread = expected[1:].std(0) if len(scalars) > 2 else torch.zeros_like(expected[0])
    rows = [(i, r) for i, r in enumerate(head.rows) if trained is None or trained.get(r)]
    return Reading(*({r: float(x[i]) for i, r in rows} for x in (scalars[0], expected[0], spread)))


def trained_on(card: Mapping[str, Any]) -> dict[str, int]:
    """Labels of each dimension that a judge was trained on, from its card; dimensions without any are absent."""
    counts: dict[str, int] = {}
    for row in card["data"]["rows"]:
        n = sum(v for k, v in row.items() if k.startswith("train_"))
        if n:
            counts[row["dimension"]] = counts.get(row["dimension"], 0) + n
    return counts


def _first_kept(pieces: Sequence[Piece], max_path: int) -> int:
    room, start = max_path - len(pieces[-1]), len(pieces) - 1
    if room < 0:
        raise JudgeError(f"A reply of {len(pieces[-1])} tokens is longer than the {max_path} that this judge reads.")
    while start and len(pieces[start - 1]) <= room:
        start -= 1
        room -= len(pieces[start])
    return start


def _chain(pieces: Sequence[Piece]) -> list[str]:
    """A key for each node that changes with anything above it."""
    digest, keys = hashlib.sha256(), []
    for piece in pieces:
        digest.update(piece.ids.numpy().tobytes() + "".join(piece.pictures).encode() + b"|")
        keys.append(digest.hexdigest())
    return keys


def _agree(some: torch.Tensor, others: torch.Tensor) -> int:
    n = min(len(some), len(others))
    differ = (some[:n] != others[:n]).nonzero()
    return int(differ[0]) if len(differ) else n


def _bytes(kept: KeysValues) -> int:
    return sum(k.numel() * k.element_size() + v.numel() * v.element_size() for k, v in kept)
