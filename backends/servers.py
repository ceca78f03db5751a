"""Well-known servers with the OpenAI interface: their base URLs, the variable of their key, and what they do differently.

Owns the table in ``assets/servers.json``. Never connects and never sees a key.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from backends.addresses import is_loopback, origin


@dataclass(frozen=True)
class Preset:
    """A server as its makers start it. ``settings`` are those of ``backends.openai`` that it needs beside the model."""

    name: str
    base_url: str
    key_env: str
    settings: dict[str, Any]
    note: str


@functools.cache
def presets() -> tuple[Preset, ...]:
    """All of them, as the form shows them."""
    table = json.loads(files("assets").joinpath("servers.json").read_text(encoding="utf-8"))
    return tuple(Preset(**row) for row in table)


def preset(name: str) -> Preset | None:
    """The preset of that name; None for another server."""
    return next((p for p in presets() if p.name == name), None)


def belongs_to(key_env: str) -> str | None:
    """The origin that a well-known variable's key is for: it is sent nowhere else. None: not well known."""
    known = (p.base_url for p in presets() if p.key_env == key_env and not is_loopback(p.base_url))
    return next((origin(url) for url in known), None)
