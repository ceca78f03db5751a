"""Keys and values of nodes that a judge has read, within a bound; the least recently used go first. Knows no tree."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Container, Sequence

import torch

from judge.packing import Piece
from studio.tree import Node

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]  # of each layer: (1, key heads, n, d) twice


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


def chain_keys(pieces: Sequence[Piece]) -> list[str]:
    """A key for each node of a path that changes with anything above it, and with where the path was cut."""
    digest, keys = hashlib.sha256(), []
    for piece in pieces:
        digest.update(piece.ids.numpy().tobytes() + "".join(piece.pictures).encode() + b"|")
        keys.append(digest.hexdigest())
    return keys


def content_key(above: str, node: Node, shown: Container[str]) -> str:
    """What a node's tokens depend on: its parts, which of its pictures can be shown, and the key of the node above."""
    parts = [(p.kind, p.text, p.image_sha256 in shown and p.image_sha256, p.caption) for p in node.parts]
    return hashlib.sha256(repr((above, node.role, parts)).encode("utf-8", "surrogatepass")).hexdigest()


def agreeing(some: torch.Tensor, others: torch.Tensor) -> int:
    """With how many tokens both begin."""
    n = min(len(some), len(others))
    differ = (some[:n] != others[:n]).nonzero()
    return int(differ[0]) if len(differ) else n


def _bytes(kept: KeysValues) -> int:
    return sum(k.numel() * k.element_size() + v.numel() * v.element_size() for k, v in kept)
