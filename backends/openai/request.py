"""The body of a chat completion request: messages with their pictures, and the sampling options that were set.

Owns its form and what is left out for a server that refuses it. Never sends anything and never sees a key.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from backends.base import Content, Image, Message, Options
from backends.openai.settings import Settings
from backends.openai.tools import schema

REFUSED = re.compile(
    r"unsupported|not support|not permitted|not allowed|unrecogni[sz]ed|unknown|unexpected", re.IGNORECASE
)
OPTIONAL = (
    "stream_options",
    "temperature",
    "top_p",
    "logprobs",
    "modalities",
    "tools",
)  # others were asked for by a person


def body(settings: Settings, messages: list[Message], options: Options, n: int, without: set[str]) -> dict[str, Any]:
    """The request for ``n`` replies. ``without``: names that this server is known to refuse."""
    wanted: dict[str, Any] = {
        "model": settings.model,
        "messages": sent(messages, settings.images),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        **_asked_for(settings, options),
    }
    if n > 1:
        wanted["n"] = n
    if settings.logprobs:
        wanted["logprobs"] = True
    if settings.image_tools:
        wanted["tools"] = schema()
    if settings.images_out:
        wanted["modalities"] = ["image", "text"]
    if "max_tokens" in without:
        wanted["max_completion_tokens"] = wanted["max_tokens"]
    return {k: v for k, v in wanted.items() if k not in without} | settings.extra


def _asked_for(settings: Settings, options: Options) -> dict[str, Any]:
    """Options that many servers do not know: sent when somebody set them, never else."""
    asked: dict[str, Any] = {
        "seed": options.seed,
        "top_p": options.top_p if options.top_p != 1 else None,
        "top_k": options.top_k,
        "min_p": options.min_p,
        settings.penalty: options.repetition_penalty if options.repetition_penalty != 1 else None,
        "stop": list(options.stop_strings) or None,
        "grammar": options.grammar or None,
    }
    if options.json_schema is not None:
        schema = {"name": "reply", "schema": options.json_schema, "strict": True}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    return {name: value for name, value in asked.items() if value is not None}


def refused(wanted: dict[str, Any], said: str) -> str | None:
    """What to leave out of a request that a server refused with these words; None: nothing that may be left out.

    'n' and 'max_tokens' are named too: several requests, or another name, say the same.
    """
    if "max_completion_tokens" in said and "max_tokens" in wanted:
        return "max_tokens"
    if "n" in wanted and re.search(r"(?<![\w'])n(?![\w'])|['\"`]n['\"`]", said):
        return "n"
    if "stream_options" in wanted and "stream_options" in said:
        return "stream_options"
    if not REFUSED.search(said):
        return None
    return next((name for name in OPTIONAL if name in wanted and re.search(rf"\b{name}\b", said)), None)


def sent(messages: list[Message], images: bool) -> list[dict[str, Any]]:
    """The messages in the server's form. It takes images from users only: a reply's go with the next question."""
    found: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for message in messages:
        parts = [_part(c, images) for c in message.content]
        shown = [p for p in parts if p["type"] == "image_url"]
        content: str | list[dict[str, Any]] = message.as_text()
        if message.role != "user":
            waiting += shown
        elif waiting or shown:
            content, waiting = [*waiting, *parts], []
        found.append({"role": message.role, "content": content})
    return found


def _part(content: Content, images: bool) -> dict[str, Any]:
    if isinstance(content, str):
        return {"type": "text", "text": content}
    data = _read_image(content) if images else None
    if data is None:
        return {"type": "text", "text": content.as_text()}
    url = f"data:{content.mime};base64,{base64.b64encode(data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _read_image(image: Image) -> bytes | None:
    try:
        return image.path.read_bytes() if image.path else None
    except OSError:  # deleted since: the caption goes instead, as for an image that never had a file
        return None
