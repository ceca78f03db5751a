"""A server with the OpenAI interface, from the form to the list of models: fill in, list, try, add.

Owns what the form means. A typed key goes into the OS keyring, or stays in memory until the studio ends; it never reaches
``studio.toml``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends import BackendError, Message, ModelSpec, Options, Pool, keys
from backends.addresses import check_url
from backends.openai import list_models
from backends.servers import preset
from studio import StudioError
from studio.actions.core import Studio
from studio.actions.models import add_model

QUESTION = "What is the capital of France? Answer with one word."
TRIAL = {"timeout_s": 30.0, "retries": 0}  # somebody is looking at the button
TRIAL_TOKENS = 200  # enough to see the end of a short thought
SHOWN = 400  # characters of what came back
# what a person knows of a model and its server does not tell: the words of the form, the setting, and what it is by itself
CAN = (("Sees images", "images", True), ("May ask for pictures (image tools)", "image_tools", False),
       ("Draws in its replies", "images_out", False))  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """How a short question went. Times in milliseconds; ``first_ms`` None: nothing came."""

    text: str
    reasoning: str
    first_ms: float | None
    whole_ms: float
    tokens: int | None

    def sentence(self) -> str:
        """What came back, and how soon."""
        first = f", the first word after {self.first_ms / 1000:.2f} s" if self.first_ms else ""
        count = f", {self.tokens} tokens" if self.tokens is not None else ""
        thought = f"{len(self.reasoning):,} characters of reasoning, and " if self.reasoning else ""
        said = f"“{self.text.strip()[:SHOWN]}”" if self.text.strip() else "no word of a reply"
        return f"It works: {self.whole_ms / 1000:.2f} s{first}{count}. Asked “{QUESTION}”, it sent {thought}{said}."


def fill(name: str) -> tuple[str, str, str] | None:
    """Base URL, variable with the key and a note of a known server; None for another one."""
    known = preset(name or "")
    return (known.base_url, known.key_env, known.note) if known else None


def form(name: str, url: str, key_env: str, key: str, can: Sequence[str] = ("images",)) -> dict[str, Any]:
    """The settings that a filled-in form means, without a model; a typed key is used from now on, for this origin only.

    ``can``: those settings of ``CAN`` that are ticked.

    Raises:
        StudioError: no base URL. BackendError: one that cannot be, or a key that cannot be one.
    """
    if not (url or "").strip():
        raise StudioError("A server needs a base URL. Choose a server, or type its address.")
    known = preset(name or "")
    settings: dict[str, Any] = dict(known.settings) if known else {}
    settings["base_url"] = check_url(url.strip())
    if (key_env or "").strip():
        settings["key_env"] = key_env.strip()
    settings |= {setting: setting in can for _, setting, default in CAN if (setting in can) != default}
    if (key or "").strip():
        keys.use(settings["base_url"], key)
    return settings


def listed(settings: dict[str, Any]) -> list[str]:
    """Names of the models that the server offers. Raises StudioError when it offers none, BackendError as it fails."""
    names = list_models(settings | TRIAL)
    if not names:
        raise StudioError(f"{settings['base_url']} answers, and offers no model. Load one there, or type its name.")
    return names


def try_out(spec: ModelSpec) -> Trial:
    """Ask a model one short question, in a pool of its own. Raises BackendError as it fails."""
    backend, start = Pool().get(spec), time.perf_counter()
    text, reasoning, first, tokens = "", "", None, None
    options = Options(temperature=0.0, max_tokens=TRIAL_TOKENS)
    for delta in backend.stream([Message("user", (QUESTION,))], options, threading.Event()):
        if (delta.text or delta.reasoning) and first is None:
            first = (time.perf_counter() - start) * 1000
        text, reasoning = text + delta.text, reasoning + delta.reasoning
        tokens = delta.completion_tokens if delta.completion_tokens is not None else tokens
    return Trial(text, reasoning, first, (time.perf_counter() - start) * 1000, tokens)


def tried(settings: dict[str, Any], model: str) -> str:
    """Try a model of a server. Raises StudioError without a model, BackendError as it fails."""
    return try_out(ModelSpec(_named(model), "openai", settings | TRIAL | {"model": _named(model)})).sentence()


def add(studio: Studio, settings: dict[str, Any], model: str, name: str, key: str) -> str:
    """Put a server's model into the list, and a typed key into the OS keyring; returns what was done.

    Raises:
        StudioError: no model, or a name that is taken; nothing is kept then. BackendError: an impossible setting.
    """
    typed, why = bool((key or "").strip()), ""
    given = {"model": _named(model)} | settings | ({"keyring": True} if typed else {})
    spec = ModelSpec((name or "").strip() or _named(model), "openai", given)
    Pool().get(spec)  # an impossible setting is said now, not at the first question
    add_model(studio, spec)
    try:
        if typed:
            keys.keep(settings["base_url"], key)
    except BackendError as error:  # the model is there and works: the person learns for how long
        why = f" {error}"
    return f"Added {spec.name!r}.{why or ' Its key is in the OS keyring.' * typed} Choose it below the message."


def _named(model: str | None) -> str:
    if not (model or "").strip():
        raise StudioError("Which model? List the server's models and choose one, or type its name.")
    return str(model).strip()
