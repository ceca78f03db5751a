"""The pictures that a message asks for, as plain dicts for its card: tokens, what was proposed for each, what does not fit.

Pure: takes rows of ``proposals``, touches nothing.
"""

from __future__ import annotations

from typing import Any

from studio import tokens
from studio.tree import Node

SHOWN = ("id", "caption", "tool", "why", "state", "note", "image_sha256", "params")  # of a row


def told(node: Node, proposed: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The pictures that a reply asks for: ``asks``, its tokens without a picture in their place (``part``: where; ``pair``: which part is
    their picture all the same; ``proposal``), ``placed`` (by a part’s number: the proposal and the place of its token), ``loose`` parts,
    and in words what does not fit. ``written``: the text to edit, where pictures stand in it."""
    spots = tokens.spots(node.parts) if node.role == "assistant" else []  # who asks adds pictures by hand
    if not spots and not (node.role == "assistant" and node.images):
        return {"asks": [], "placed": {}, "loose": [], "unfit": ""}
    fit = tokens.matched(node.parts)
    rows = {place: {k: row[k] for k in SHOWN} | {"by": row["decided_by"]} for place, row in proposed.items()}
    placed = {str(s.part): {"place": s.place, "proposal": rows.get(s.place, {}).get("id")} for s in spots if s.image}
    return {
        "asks": [{"place": s.place, "part": s.part, "caption": s.caption, "pair": fit.pairs.get(s.place), "proposal": rows.get(s.place)}
                   for s in spots if not s.image],
        "placed": placed, "loose": fit.loose, "unfit": fit.sentence(),
    } | ({"written": tokens.whole(node.parts)} if placed else {})  # fmt: skip


def growing(proposed: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said of each token while the reply grows: caption, tool and state, in order."""
    return [{k: row[k] for k in ("caption", "tool", "state")} for _, row in sorted(proposed.items())]
