"""Pictures that come into a message, or go: in the place of a token, for a file that was missing, with a caption.

A message's text stays whatever comes and goes: see ``studio.tokens``. What judges said of it is forgotten, what people said stays,
and notes follow their words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from studio import StudioError, tokens
from studio.actions.core import Studio, Undo, not_growing
from studio.tree import Node, Part


def place(studio: Studio, node_id: str, at: int, sha256: str, caption: str) -> None:
    """Put a stored picture in the place of a token.

    Raises:
        StudioError: the message grows, or no token stands there.
    """
    with studio.store.write():
        node = studio.store.node(node_id)
        not_growing(node)
        parts = tokens.take(node.parts, at, sha256, tokens.without_signs(caption))
        if parts is None:
            raise StudioError("No token stands there any more. Reload the page.")
        _rearrange(studio, node, parts)


def give_back(studio: Studio, node_id: str, at: int) -> bool:
    """Put the token back in its place; the picture stays in the store. False when no picture stood there."""
    with studio.store.write():
        node = studio.store.node(node_id)
        not_growing(node)
        parts = tokens.give_back(node.parts, at)
        if parts is not None:
            _rearrange(studio, node, parts)
    return parts is not None


def set_picture(studio: Studio, node_id: str, part: int, sha256: str | None, caption: str) -> Undo | None:
    """Give a picture of a message its file, or another caption; None when nothing changed.

    Raises:
        StudioError: the message grows, that part is no picture, or the store has none of that hash.
    """
    with studio.store.write():
        node = studio.store.node(node_id)
        not_growing(node)
        old = node.parts[part] if 0 <= part < len(node.parts) else Part("text")
        if old.kind != "image":
            raise StudioError(f"Part {part} of this message is no picture. Reload the page.")
        if sha256 is not None and sha256 not in studio.store.images([sha256]):
            raise StudioError(f"No picture has the hash {sha256[:16]!r} here. Add it again, or choose another.")
        new = replace(old, image_sha256=sha256, caption=tokens.without_signs(caption))
        if new == old:
            return None
        _rearrange(studio, node, [*node.parts[:part], new, *node.parts[part + 1 :]])
    said = "Filled in the missing picture" if old.image_sha256 is None else "Changed what the picture is called"
    args = {"node": node_id, "part": part, "sha256": old.image_sha256, "caption": old.caption}
    return Undo(said, "set_picture", args)


def without(studio: Studio, node_id: str, place: int | None, part: int | None) -> str:
    """A copy of a reply as a new sibling, without the token at a place or the picture that is a part; returns its id.

    Raises:
        StudioError: it grows, is a question, has no such token or picture, or nothing would be left.
    """
    node = studio.store.node(node_id)
    not_growing(node)
    if node.role != "assistant":
        raise StudioError("A question is not changed by itself: its replies answer it as it is. Edit it instead.")
    spot = next((s for s in tokens.spots(node.parts) if s.place == place and not s.image), None)
    if spot:
        text = node.parts[spot.part].text
        cut = text[: spot.start].rstrip(" ") + text[spot.start + len(spot.raw) :]
        parts = [replace(p, text=cut) if i == spot.part else p for i, p in enumerate(node.parts)]
    elif part is not None and 0 <= part < len(node.parts) and node.parts[part].kind == "image":
        parts = [p for i, p in enumerate(node.parts) if i != part]
    else:
        raise StudioError("There is no such token or picture in this reply. Reload the page.")
    parts = [p for p in parts if p.kind == "image" or p.text.strip()]
    if not parts:
        raise StudioError("Nothing would be left of this reply. Prune it instead.")
    return studio.store.add_node(node.tree_id, node.parent_id, "assistant", parts, model=studio.config.annotator, backend="person",
                                 params={"edited_from": node.id})  # fmt: skip


def _rearrange(studio: Studio, node: Node, parts: Sequence[Part]) -> None:
    def follow(span: str) -> str:
        try:
            at: dict[str, Any] = json.loads(span)
            there = tokens.moved(node.parts, parts, at["part"], at["start"], at["end"])
        except (ValueError, TypeError, KeyError, RecursionError):  # on a picture, or an imported row that says anything
            return span
        return span if there is None else json.dumps(
            at | dict(zip(("part", "start", "end"), there, strict=True)), sort_keys=True, ensure_ascii=False
        )  # fmt: skip

    studio.store.rearrange(node.id, parts, follow)
