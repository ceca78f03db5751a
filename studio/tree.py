"""A tree of dialogue: nodes (questions and replies), their parts, and the paths through them.

Pure: no storage, no models, no screen. Words as in the README: a path runs from the root to one node,
a prefix is the path above a node, siblings share a parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["user", "assistant"]
Status = Literal["done", "streaming", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a node. ``kind`` 'text' uses ``text``; 'image' uses ``image_sha256`` (None: file missing) and ``caption``.

    An image part may keep in ``text`` the reference it was imported with, so that a missing file can be filled in later.
    """

    kind: Literal["text", "image"]
    text: str = ""
    image_sha256: str | None = None
    caption: str = ""


@dataclass(slots=True)
class Node:
    """One message. Times in milliseconds; ``created_at`` and ``pruned_at`` UTC ISO 8601."""

    id: str
    tree_id: str
    parent_id: str | None
    ordinal: int
    role: Role
    parts: list[Part] = field(default_factory=list)
    backend: str | None = None
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    status: Status = "done"
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_ms: float | None = None
    latency_ms: float | None = None
    starred: bool = False
    pruned_at: str | None = None
    created_at: str = ""

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return "\n".join(p.text for p in self.parts if p.kind == "text")

    @property
    def images(self) -> list[Part]:
        """The image parts, in order."""
        return [p for p in self.parts if p.kind == "image"]


class Tree:
    """All branches grown from one seed question. Siblings are kept in order of ``ordinal``, then id (age)."""

    def __init__(
        self,
        id: str,
        title: str = "",
        tags: Iterable[str] = (),
        source: str = "",
        created_at: str = "",
        nodes: Iterable[Node] = (),
    ) -> None:
        self.id, self.title, self.tags, self.source, self.created_at = id, title, list(tags), source, created_at
        self.nodes: dict[str, Node] = {}
        self.children: dict[str | None, list[str]] = {}
        for node in nodes:
            self.nodes[node.id] = node
            self.children.setdefault(node.parent_id, []).append(node.id)
        for ids in self.children.values():
            ids.sort(key=lambda i: (self.nodes[i].ordinal, i))

    def path(self, node_id: str) -> list[Node]:
        """The nodes from the root to ``node_id``, both included. Raises KeyError for an unknown node."""
        found = []
        at: str | None = node_id
        while at is not None:
            found.append(self.nodes[at])
            at = self.nodes[at].parent_id
        return found[::-1]

    def siblings(self, node_id: str) -> list[str]:
        """Ids with the same parent, the node itself included, in order."""
        return self.children[self.nodes[node_id].parent_id]

    def is_pruned(self, node_id: str) -> bool:
        """Whether the node or anything above it was pruned."""
        return any(n.pruned_at for n in self.path(node_id))

    def walk(self, node_id: str | None = None) -> Iterator[Node]:
        """The subtree below ``node_id`` (None: the whole tree), parents before children, siblings in order."""
        pending = [node_id] if node_id else list(reversed(self.children.get(None, [])))
        while pending:
            at = pending.pop()
            yield self.nodes[at]
            pending.extend(reversed(self.children.get(at, [])))

    def leaf(self, node_id: str) -> str:
        """Where the dialogue through ``node_id`` ends: at each step the newest child that goes on, else the newest; none pruned."""
        at = node_id
        while alive := self._alive(at):
            at = max(alive, key=lambda child: (bool(self._alive(child)), child))
        return at

    def _alive(self, node_id: str) -> list[str]:
        return [c for c in self.children.get(node_id, []) if not self.nodes[c].pruned_at]

    def dialogues(self) -> list[str]:
        """Ids of the replies at which a dialogue ends: replies without children."""
        return [n.id for n in self.walk() if n.role == "assistant" and not self.children.get(n.id)]

    def depth(self, node_id: str) -> int:
        """The turn a node belongs to, counted from 1."""
        return (len(self.path(node_id)) + 1) // 2
