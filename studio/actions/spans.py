"""Where in a reply feedback points: a passage of its text, a picture, or a region of one. Checks, and plain JSON.

A passage is ``{"part", "start", "end", "quote"}``: the number of a text part, counted from 0, and characters of its source
(not of what is drawn; code points, ``end`` not included). A picture is ``{"image": sha256}``; a region of it adds
``x, y, w, h`` in pixels of the stored file, from its top left corner. Reads nothing and stores nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from studio import StudioError
from studio.tree import Node

BOX = ("x", "y", "w", "h")


def checked(node: Node, span: Any, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The span with its own fields only, once it is known to lie within the reply.

    Args:
        sizes: width and height in pixels of the reply's pictures, by their hash.

    Raises:
        StudioError: outside the text or the picture, other words than those that stand there, or no span at all.
    """
    if isinstance(span, dict) and "image" in span:
        return _picture(span, sizes)
    if isinstance(span, dict) and "part" in span:
        return _passage(node, span)
    raise StudioError(f"A place in a reply is a passage or a picture, not {span!r:.40}. Select it again.")


def canonical(span: dict[str, Any] | None) -> str | None:
    """The one way a span is written down: two notes on the same place have the same text."""
    return None if span is None else json.dumps(span, sort_keys=True, ensure_ascii=False)


def parsed(node: Node, text: str, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any] | None:
    """A stored span, or None when it does not fit: a row that came from elsewhere may say anything."""
    try:
        return checked(node, json.loads(text), sizes)
    except (StudioError, ValueError, RecursionError):
        return None


def _passage(node: Node, span: dict[str, Any]) -> dict[str, Any]:
    part, start, end = (_whole(span, name) for name in ("part", "start", "end"))
    if not 0 <= part < len(node.parts) or node.parts[part].kind != "text":
        raise StudioError(f"Part {part} of this reply is no text. Select the words again.")
    text = node.parts[part].text
    if not 0 <= start < end <= len(text):
        raise StudioError(
            f"Characters {start} to {end} are not within the {len(text)} of this text. Select the words again."
        )
    if span.get("quote") != text[start:end]:
        raise StudioError(
            f"Characters {start} to {end} read {text[start:end]!r:.40}, not {span.get('quote')!r:.40}. Select the words again."
        )
    return {"part": part, "start": start, "end": end, "quote": text[start:end]}


def _picture(span: dict[str, Any], sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    image = span["image"]
    if not isinstance(image, str) or image not in sizes:
        raise StudioError(f"This reply has no picture {image!r:.20}. Choose one of its own.")
    if not any(name in span for name in BOX):
        return {"image": image}
    x, y, w, h = (_whole(span, name) for name in BOX)
    width, height = sizes[image]
    if not (x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height):
        raise StudioError(
            f"The box at {x}, {y} of {w} × {h} is not within the picture of {width} × {height} pixels. Draw it again."
        )
    return {"image": image, "x": x, "y": y, "w": w, "h": h}


def _whole(span: dict[str, Any], name: str) -> int:
    value = span.get(name)
    if type(value) is not int:  # bool is an int, and no place
        raise StudioError(f"The {name} of a place is a whole number, not {value!r:.20}. Select it again.")
    return value
