"""How a page asks: the composer's settings as an ``Ask``, checked, and which options the models at hand can follow.

Owns names, limits and how they are typed. Never asks anything: ``studio.actions`` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backends import SAMPLING, BackendError, Options
from studio import StudioError
from studio.actions import Ask, Studio

STOPS = 16  # strings; some servers take four
LONGEST_STOP, LONGEST_RULES = 200, 100_000  # characters
LIMITS = {"top_p": (float, 0, 1), "top_k": (int, 0, 100_000), "min_p": (float, 0, 1), "repetition_penalty": (float, 0.1, 10)}  # fmt: skip
CALLED = {"top_p": "Top-p", "top_k": "Top-k", "min_p": "Min-p", "repetition_penalty": "The repetition penalty"}
ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


def how_to_ask(
    models: Any, replies: Any, temperature: Any, max_tokens: Any, seed: Any, system: Any, more: Any = None
) -> Ask:
    """The composer's settings as an ``Ask``; ``more`` as in ``further``. Raises StudioError when one cannot be."""
    try:
        options = Options(temperature=float(temperature), max_tokens=int(max_tokens), **further(more or {}),
                          seed=None if seed in (None, "") or int(seed) < 0 else int(seed))  # fmt: skip
        count = int(replies)
    except (TypeError, ValueError) as error:
        raise StudioError(f"Replies, temperature, length and seed are numbers ({error}).") from error
    if not 0 <= options.temperature <= 2 or not 1 <= options.max_tokens <= 32_768:
        raise StudioError(
            f"Temperature is 0 to 2 and length 1 to 32,768 tokens; not {options.temperature} and {options.max_tokens}."
        )
    return Ask(tuple(str(m) for m in models or ()), count, options, str(system or ""))


def further(given: Mapping[str, Any] | str) -> dict[str, Any]:
    """The options that were set, ready for ``Options``.

    Args:
        given: a table, or it in JSON: numbers as they were typed, by name; ``stop``: one string a line, with \\n and \\t as such; ``rules``: a
            grammar in GBNF, or a JSON schema when ``follow`` is 'json_schema'. What is empty or missing is not set.

    Raises:
        StudioError: no number, outside its limits, too many or too long strings, no grammar, no schema.
    """
    if isinstance(given, str):
        given = json.loads(given)
    if not isinstance(given, Mapping):
        raise StudioError("The sampling options did not arrive as a table. Reload the page.")
    typed = {name: "" if given.get(name) is None else str(given[name]).strip() for name in LIMITS}
    found: dict[str, Any] = {name: _number(name, text) for name, text in typed.items() if text}
    stops = [_unescaped(line) for line in str(given.get("stop") or "").splitlines() if line]
    if len(stops) > STOPS or any(len(s) > LONGEST_STOP for s in stops):
        raise StudioError(
            f"At most {STOPS} stop strings of {LONGEST_STOP} characters, one a line; there are {len(stops)}."
        )
    if stops:
        found["stop_strings"] = tuple(stops)
    rules = str(given.get("rules") or "").strip()
    if len(rules) > LONGEST_RULES:
        raise StudioError(f"The grammar has {len(rules):,} characters; at most {LONGEST_RULES:,} are sent. Shorten it.")
    if rules:
        found |= {"json_schema": _schema(rules)} if given.get("follow") == "json_schema" else {"grammar": _gbnf(rules)}
    return found


def able(studio: Studio) -> dict[str, list[str]]:
    """Which of ``SAMPLING`` each model in the list follows; one that cannot be opened says so when it is asked."""
    found = {}
    for spec in studio.config.models:
        try:
            found[spec.name] = list(studio.pool.get(spec).capabilities.sampling)
        except BackendError:
            found[spec.name] = list(SAMPLING)
    return found


def _number(name: str, typed: str) -> float | int:
    kind, least, most = LIMITS[name]
    try:
        value = kind(typed.replace(",", "."))
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise StudioError(
            f"{CALLED[name]} is {what} from {least} to {most:,}, not {typed!r:.40}. Leave it empty for the model's own."
        )
    return value


def _unescaped(line: str) -> str:
    return re.sub(r"\\[nt\\]", lambda found: ESCAPES[found[0]], line)


def _gbnf(text: str) -> str:
    if not re.search(r"^\s*root\s*::=", text, re.MULTILINE):
        raise StudioError("A grammar in GBNF needs a rule that begins with root ::=. Add one, or choose JSON schema.")
    return text


def _schema(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudioError(f"The JSON schema is no JSON: {error}. Mend it, or choose grammar.") from error
    if not isinstance(found, dict):
        raise StudioError(f'A JSON schema is an object in braces, not {text!r:.40}. Begin it with {{"type": …}}.')
    return found


def remembered(studio: Studio, kept: str) -> list[Any]:
    """The composer's settings that a browser kept, in their order, each None where it cannot be taken up.

    Models that are gone are left out; with none left the first of the list is chosen.
    """
    try:
        given = json.loads(kept or "[]")
        models, replies, temperature, max_tokens, seed, system, *_ = given
        ask = how_to_ask(models, replies, temperature, max_tokens, seed, system)
    except (StudioError, ValueError, TypeError):
        ask, given = Ask(()), None
    names = [spec.name for spec in studio.config.models]
    chosen = [name for name in ask.models if name in names] or names[:1]
    options = ask.options
    numbers = [
        ask.replies,
        options.temperature,
        options.max_tokens,
        "" if options.seed is None else str(options.seed),
        ask.system,
    ]
    return [chosen, *(numbers if given else [None] * 5)]
