"""One sequence for many replies: each token and each image of a tree once. Decides what goes together; knows no model.

Words: a *piece* is a node as tokens; an *item* is a set of replies that one label speaks of; a *part* is the piece of a
tree that some items need, its root a node whose own prefix was cut off or the tree's root; a *forest* is several parts
behind one another in one sequence.

A path longer than ``max_path`` tokens is cut at its beginning: whole nodes go, the oldest first, until the rest fits. The
reply judged is never cut; one that alone is longer is left out and named. Two replies whose paths share nothing within
``max_path``, or that do not fit into one sequence together, are *linked*: scored in two sequences of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from judge.attention import Layout
from judge.examples import Comparison
from judge.rubric import JudgeError
from studio.tree import Tree

Item = tuple[str, ...]


TOO_LONG = "tokens, over"  # in the reason why a label is left out


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


@dataclass
class Plan:
    """What becomes of a tree's items. ``parts`` fit into a sequence each; every list of ``linked`` is scored in one step.

    ``linked_items``: the items of each list of ``linked``; ``cut``: items that are read without the beginning of their
    dialogue; ``left_out``: item -> why it cannot be read at all.
    """

    parts: list[Part] = field(default_factory=list)
    linked: list[list[Part]] = field(default_factory=list)
    linked_items: list[list[Item]] = field(default_factory=list)
    cut: set[Item] = field(default_factory=set)
    left_out: dict[Item, str] = field(default_factory=dict)


def plan_items(
    tree: Tree, items: Iterable[Item], piece: Callable[[str], Piece], max_tokens: int, max_path: int
) -> Plan:
    """Divide a tree into parts of at most ``max_tokens`` that repeat only prefixes. Neighbouring items share a part.

    ``max_tokens`` is at least ``max_path``. Nothing raises: see ``Plan`` for what does not fit.
    """
    order = {n.id: i for i, n in enumerate(tree.walk())}
    plan, apart = Plan(), []
    open_parts: dict[str, Part] = {}
    for item in sorted(set(items), key=lambda item: sorted(order[n] for n in item)):
        paths = {n: [p.id for p in tree.path(n)] for n in item}
        try:
            if (longest := max(len(piece(n)) for n in item)) > max_path:
                plan.left_out[item] = f"reply of {longest:,} {TOO_LONG} {max_path:,}"
                continue
            starts = {n: _start(path, piece, max_path) for n, path in paths.items()}
        except JudgeError as error:  # a picture that is broken, a template that refuses the dialogue
            plan.left_out[item] = str(error)
            continue
        if any(starts[n] != path[0] for n, path in paths.items()):
            plan.cut.add(item)
        root = max(starts.values(), key=order.__getitem__)
        if not all(root in path for path in paths.values()):
            apart.append(item)
            continue
        needed = dict.fromkeys(n for path in paths.values() for n in path[path.index(root) :])
        if sum(len(piece(n)) for n in needed) > max_tokens:
            apart.append(item)
            continue
        _place(plan.parts, open_parts, Part(tree, root, [item], needed), piece, max_tokens)
    for items_of_step in _connected(apart):
        parts: list[Part] = []
        opened: dict[str, Part] = {}
        for node in sorted({n for item in items_of_step for n in item}, key=order.__getitem__):
            path = [p.id for p in tree.path(node)]
            root = _start(path, piece, max_path)
            alone = Part(tree, root, [(node,)], dict.fromkeys(path[path.index(root) :]))
            _place(parts, opened, alone, piece, max_tokens)
        plan.linked.append(parts)
        plan.linked_items.append(items_of_step)
    return plan


def plan(
    tree: Tree, items: Iterable[Item], piece: Callable[[str], Piece], max_tokens: int, max_path: int
) -> list[Part]:
    """``plan_items`` for items of one reply each, of which every one must be readable.

    Raises:
        JudgeError: a reply alone is longer than ``max_path``.
    """
    made = plan_items(tree, items, piece, max_tokens, max_path)
    for item, why in made.left_out.items():
        raise JudgeError(f"A {why}, cannot be read. It begins: {tree.nodes[item[0]].text[:60]!r}")
    return made.parts + [part for parts in made.linked for part in parts]


def _place(
    parts: list[Part], opened: dict[str, Part], new: Part, piece: Callable[[str], Piece], max_tokens: int
) -> None:
    """Add what a new part needs to the open part with the same root, or open another one."""
    part = opened.get(new.root)
    fresh = sum(len(piece(n)) for n in new.nodes if part is None or n not in part.nodes)
    if part is None or part.tokens + fresh > max_tokens:
        part = opened[new.root] = Part(new.tree, new.root)
        parts.append(part)
        fresh = sum(len(piece(n)) for n in new.nodes)
    part.items += new.items
    part.nodes.update(new.nodes)
    part.tokens += fresh


def _start(path: Sequence[str], piece: Callable[[str], Piece], max_path: int) -> str:
    """The first node of a path that is read: the oldest from which on everything fits."""
    room, start = max_path - len(piece(path[-1])), path[-1]
    for node in reversed(path[:-1]):
        room -= len(piece(node))
        if room < 0:
            break
        start = node
    return start


def _connected(items: Sequence[Item]) -> list[list[Item]]:
    """Items that share replies, together: each reply of a group is then encoded once."""
    groups: list[tuple[set[str], list[Item]]] = []
    for item in items:
        touching = [g for g in groups if not g[0].isdisjoint(item)]
        nodes = set(item).union(*(g[0] for g in touching))
        joined = [one for g in touching for one in g[1]] + [item]
        groups = [g for g in groups if g not in touching] + [(nodes, joined)]
    return [members for _, members in groups]


def bundle(parts: Sequence[Part], max_tokens: int) -> list[list[Part]]:
    """Parts into forests of at most ``max_tokens``: the largest first, each where it fits most tightly; a larger one alone."""
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


def chain_tokens(tree: Tree, label: Comparison, tokens: Callable[[str], int]) -> tuple[int, int]:
    """How long what is compared is on either side: of replies their own tokens, of dialogues all below the last common node."""
    if label.level == "local":
        return tokens(label.left), tokens(label.right)
    left, right = ([n.id for n in tree.path(node)] for node in (label.left, label.right))
    shared = sum(a == b for a, b in zip(left, right, strict=False))
    return sum(map(tokens, left[shared:])), sum(map(tokens, right[shared:]))
