"""What can be set for a model on a server, checked in one place.

Owns names, defaults and limits. Never holds a key: only the name of its variable, or that the OS keyring has it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import Any

from backends.addresses import check_url
from backends.base import SAMPLING, BackendError
from backends.keys import check_variable

TIMEOUT_S = 120.0
OPENAI = "https://api.openai.com/v1"
SECRET = re.compile(r"key|secret|password|authorization", re.IGNORECASE)
OURS = ("model", "messages", "stream")  # what a setting must not put others into


@dataclass(frozen=True)
class Settings:
    """One model on one server, as ``studio.toml`` says it.

    ``key_env`` names the variable with the key; ``keyring``: it is in the OS keyring. ``timeout_s``: seconds of silence until
    it counts as lost; ``connect_s``: until a connection does. ``retries``: how often a busy server is asked again. ``images``
    False sends captions instead; ``images_out`` asks for pictures; ``image_tools`` offers tools that make some. ``n``: several replies
    in one request; None tries it.
    ``penalty``: what the server calls the repetition penalty. ``sampling``: the options it follows; unset, it is asked for all.
    ``price_in``, ``price_out``: per million tokens. ``extra``: more of the request, as the server knows it.
    """

    model: str = ""
    base_url: str = OPENAI
    key_env: str | None = None
    keyring: bool = False
    timeout_s: float = TIMEOUT_S
    connect_s: float = 10.0
    retries: int = 3
    images: bool = True
    images_out: bool = False
    image_tools: bool = False
    n: bool | None = None
    logprobs: bool = False
    penalty: str = "repetition_penalty"
    sampling: list[str] = field(default_factory=lambda: list(SAMPLING))
    price_in: float | None = None
    price_out: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def checked(given: dict[str, Any]) -> Settings:
    """These settings, with defaults for the others.

    Raises:
        BackendError: an unknown or impossible setting, a base URL that cannot be one, a key that would go astray.
    """
    known = [f.name for f in fields(Settings)]
    if unknown := [name for name in given if name not in known]:
        raise BackendError(f"A server model has no setting {', '.join(unknown)}. It knows {', '.join(known)}.")
    if not isinstance(given.get("model"), str) or not given["model"]:
        raise BackendError('A server model needs the name of the model. Add model = "..." to its entry in studio.toml.')
    for name in ("timeout_s", "connect_s", "price_in", "price_out"):
        _number(name, given.get(name))
    for name in ("keyring", "images", "images_out", "image_tools", "n", "logprobs"):
        if name in given and type(given[name]) is not bool and not (name == "n" and given[name] is None):
            raise BackendError(f"{name} = {given[name]!r} is neither true nor false. Mend it in studio.toml.")
    if type(given.get("retries", 0)) is not int or not 0 <= given.get("retries", 0) <= 10:
        raise BackendError(f"A server model cannot be asked retries = {given['retries']!r} times again. Give 0 to 10.")
    follows = given.get("sampling", [])
    if not isinstance(follows, list) or any(name not in SAMPLING for name in follows):
        raise BackendError(f"sampling = {follows!r:.80} is no list of {', '.join(SAMPLING)}. Mend it in studio.toml.")
    _extra(given.get("extra", {}))
    key_env = given.get("key_env") or None
    if key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key_env)):
        raise BackendError("key_env is the name of an environment variable, such as OPENAI_API_KEY, never the key.")
    base_url = check_url(given.get("base_url", OPENAI))
    check_variable(key_env, base_url)
    return Settings(**given | {"base_url": base_url, "key_env": key_env})


def _number(name: str, value: Any) -> None:
    price = name.startswith("price")
    if value is None:
        return
    if type(value) not in (int, float) or not (value >= 0 if price else value > 0):
        what = "cost" if price else "wait"
        least = "0 or more, for a million tokens" if price else "seconds, more than 0"
        raise BackendError(f"A server model cannot {what} {name} = {value!r}. Give {least}.")


def _extra(extra: Any) -> None:
    if not isinstance(extra, dict) or any(name in OURS for name in extra):
        raise BackendError(
            f"extra is a table of more for the request, without {', '.join(OURS)}. Mend it in studio.toml."
        )
    if SECRET.search(" ".join(extra)):
        raise BackendError(
            "extra is kept with every reply, so it may hold no key. Name a variable with key_env instead."
        )
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BackendError(f"extra has what JSON cannot say ({error}). Mend it in studio.toml.") from error
