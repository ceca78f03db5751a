"""Image tools that a model on a server may call: what it is told of them, and its calls as ``<Image, caption>`` tokens.

A call becomes a token at the end of what the model wrote, the one form in which replies ask for pictures: whoever reads the reply,
a person, a judge or a model that knows no tools, sees what was asked for. Nothing is run here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

TOOLS = {"generate_image": "generate", "edit_image": "edit", "find_image": "retrieve"}
ABOUT = {
    "generate_image": "Let a model draw a picture. It is put into your reply.",
    "edit_image": "Change a picture of this dialogue. The result is put into your reply.",
    "find_image": "Find a picture of something real in the person's folders. It is put into your reply.",
}
CAPTION = {"type": "string", "description": "What the picture shows, or how it differs, in one line"}
PICTURE = {
    "type": "integer",
    "description": "Which picture of the dialogue to change, counted from 1; the last one when left out",
}
LONGEST = 600  # characters of a caption


def schema() -> list[dict[str, Any]]:
    """The tools as a request names them."""
    found = []
    for name, about in ABOUT.items():
        known = {"caption": CAPTION} | ({"picture": PICTURE} if name == "edit_image" else {})
        given = {"type": "object", "properties": known, "required": ["caption"]}
        found.append({"type": "function", "function": {"name": name, "description": about, "parameters": given}})
    return found


def split(calls: Iterable[dict[str, str]]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Calls of image tools, each ``{"tool", "caption", "picture"}`` (0: none named), and the others, which nobody runs; a call
    without a caption is one of those."""
    found, others = [], []
    for call in calls:
        given = _arguments(call)
        caption = given.get("caption") if call["name"] in TOOLS else None
        line = " ".join(re.sub(r"[<>]", " ", caption).split())[:LONGEST].strip() if isinstance(caption, str) else ""
        if line:
            number = given.get("picture")
            which = number if type(number) is int and number > 0 else 0
            found.append({"tool": TOOLS[call["name"]], "caption": line, "picture": which})
        else:
            others.append(call)
    return found, others


def _arguments(call: dict[str, str]) -> dict[str, Any]:
    try:
        given = json.loads(call["arguments"] or "{}")
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def as_tokens(calls: Iterable[dict[str, Any]], after: bool) -> str:
    """Calls as tokens, a line each; ``after`` what the model wrote."""
    lines = [f"<Image, {call['caption']}>" for call in calls]
    return "\n\n" * (after and bool(lines)) + "\n\n".join(lines)
