"""One sequence for many replies: each token and each image of a tree once. Decides what goes together; knows no model.

Words: a *piece* is a node as tokens; an *item* is a set of replies that one label speaks of; a *part* is the piece of a
tree that some items need, its root a node whose own prefix was cut off or the tree's root; a *forest* is several parts
behind one another in one sequence.

A path longer than ``max_path`` tokens is cut at its start: whole nodes go, the oldest first, until the rest fits. The
reply judged is never cut; one that alone is longer is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from judge.attention import Layout
from judge.rubric import JudgeError
from studio.tree import Tree

Item = tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A node as tokens. ``positions``: (n,), or (3, n) for M-RoPE, from 0; the next node's start ``advance`` later."""

    ids: torch.Tensor
    positions: torch.Tensor
    advance: int
    pictures: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass
class Part:
    """Nodes of one tree, parents first, and the items among them. ``root`` has no prefix here."""

    tree: Tree
    root: str
    items: list[Item] = field(default_factory=list)
    nodes: dict[str, None] = field(default_factory=dict)  # an ordered set
    tokens: int = 0


@dataclass
class Forest:
    """A sequence of ``T`` tokens. ``ids`` (1, T); ``positions`` (1, T) or (3, 1, T); ``ends[i][node]``: last token of a node of part i."""

    ids: torch.Tensor
    positions: torch.Tensor
    layout: Layout
    ends: list[dict[str, int]]
    pictures: tuple[str, ...]
    images: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[1]


def plan(
    tree: Tree, items: Iterable[Item], piece: Callable[[str], Piece], max_tokens: int, max_path: int
) -> list[Part]:
    """Divide a tree into parts of at most ``max_tokens`` that repeat only prefixes. Neighbouring items share a part.

    Raises:
        JudgeError: a reply alone is longer than ``max_path``, or one item's paths are longer than ``max_tokens``.
    """
    order = {n.id: i for i, n in enumerate(tree.walk())}
    open_parts: dict[str, Part] = {}
    parts: list[Part] = []
    for item in sorted(set(items), key=lambda item: sorted(order[n] for n in item)):
        paths = {n: [p.id for p in tree.path(n)] for n in item}
        root = max((_start(tree, path, piece, max_path) for path in paths.values()), key=order.__getitem__)
        if not all(root in path for path in paths.values()):
            raise JudgeError(
                f"Two replies of one comparison are so long that their paths share nothing within {max_path} tokens. "
                "Raise max_path, or leave the comparison out."
            )
        needed = dict.fromkeys(n for path in paths.values() for n in path[path.index(root) :])
        part = open_parts.get(root)
        fresh = sum(len(piece(n)) for n in needed if part is None or n not in part.nodes)
        if part is None or part.tokens + fresh > max_tokens:
            part = open_parts[root] = Part(tree, root)
            parts.append(part)
            fresh = sum(len(piece(n)) for n in needed)
        if fresh > max_tokens:
            raise JudgeError(
                f"One label needs {fresh} tokens at once, over {max_tokens}. Raise max_tokens, or lower max_path."
            )
        part.items.append(item)
        part.nodes.update(needed)
        part.tokens += fresh
    return parts


def _start(tree: Tree, path: Sequence[str], piece: Callable[[str], Piece], max_path: int) -> str:
    room = max_path - len(piece(path[-1]))
    if room < 0:
        raise JudgeError(
            f"A reply of {len(piece(path[-1]))} tokens is longer than the {max_path} that a path may have. "
            f"Raise max_path, or prune it. It begins: {tree.nodes[path[-1]].text[:60]!r}"
        )
    start = path[-1]
    for node in reversed(path[:-1]):
        room -= len(piece(node))
        if room < 0:
            break
        start = node
    return start


def bundle(parts: Sequence[Part], max_tokens: int) -> list[list[Part]]:
    """Parts into forests of at most ``max_tokens``: the largest first, each where it fits most tightly."""
    bins: list[list[Part]] = []
    rooms: list[int] = []
    for part in sorted(parts, key=lambda p: -p.tokens):
        fitting = [i for i, room in enumerate(rooms) if room >= part.tokens]
        if fitting:
            best = min(fitting, key=rooms.__getitem__)
            bins[best].append(part)
            rooms[best] -= part.tokens
        else:
            bins.append([part])
            rooms.append(max_tokens - part.tokens)
    return bins


def pack(parts: Iterable[Part], piece: Callable[[Tree, str], Piece]) -> Forest:
    """The parts behind one another. Nodes in one line without a branch make one segment of the layout."""
    ids: list[torch.Tensor] = []
    positions: list[torch.Tensor] = []
    pictures: list[str] = []
    lengths: list[int] = []
    above: list[tuple[int, ...]] = []
    ends: list[dict[str, int]] = []
    at = 0
    for part in parts:
        ends.append({})
        children: dict[str, list[str]] = {n: [] for n in part.nodes}
        for n in part.nodes:
            if n != part.root:
                children[_parent(part.tree, n)].append(n)
        pending: list[tuple[str, int, int | None]] = [(part.root, 0, None)]  # node, first position, segment above
        while pending:
            node, first, up = pending.pop()
            segment = len(lengths)
            lengths.append(0)
            above.append(() if up is None else (*above[up], up))
            while True:
                p = piece(part.tree, node)
                ids.append(p.ids)
                positions.append(p.positions + first)
                pictures.extend(p.pictures)
                at, first = at + len(p), first + p.advance
                lengths[segment] += len(p)
                ends[-1][node] = at - 1
                if len(children[node]) != 1:
                    break
                node = children[node][0]
            pending.extend((child, first, segment) for child in reversed(children[node]))
    joined = torch.cat(positions, dim=-1)
    return Forest(torch.cat(ids)[None], joined[None] if joined.dim() == 1 else joined[:, None],
                  Layout(tuple(lengths), tuple(above)), ends, tuple(pictures))  # fmt: skip


def _parent(tree: Tree, node: str) -> str:
    parent = tree.nodes[node].parent_id
    assert parent is not None  # only a root has none, and a part's root is not asked about
    return parent


def path_tokens(parts: Iterable[Part], piece: Callable[[Tree, str], Piece]) -> int:
    """Tokens that one-by-one encoding of every item's replies would need: what packing saves is this over its own."""
    total = 0
    for part in parts:
        for item in part.items:
            for node in item:
                path: list[Any] = [n.id for n in part.tree.path(node)]
                total += sum(len(piece(part.tree, n)) for n in path[path.index(part.root) :])
    return total
