"""InterMT's nine dimensions as data: codes, names, the question each asks, and what each level means.

The text lives in ``assets/rubric.json``. Dimensions: InterMT, arXiv 2505.23950.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal


class JudgeError(Exception):
    """Something about judging that the person can mend, in one line."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension. ``values`` are the legal scores, lowest first; ``levels`` says what each means."""

    code: str
    key: str
    name: str
    level: Literal["local", "global"]
    values: tuple[int, ...]
    asks: str
    levels: dict[int, str]
    notes: tuple[str, ...]


@functools.cache
def document() -> dict[str, Any]:
    """The whole rubric file, as the screens read it."""
    loaded: dict[str, Any] = json.loads(files("assets").joinpath("rubric.json").read_text(encoding="utf-8"))
    return loaded


@functools.cache
def dimensions() -> dict[str, Dimension]:
    """Every dimension by its code, in the rubric's order."""
    return {
        d["code"]: Dimension(d["code"], d["key"], d["name"], d["level"], tuple(d["values"]), d["asks"],
                             {int(k): v for k, v in d["levels"].items()}, tuple(d["notes"]))
        for d in document()["dimensions"]
    }  # fmt: skip


def check(code: str, value: int | None) -> Dimension:
    """The dimension of ``code``, once ``value`` is known to be legal on it (None: not judged).

    Raises:
        JudgeError: no such dimension, or no such level; both named.
    """
    dimension = dimensions().get(code)
    if dimension is None:
        raise JudgeError(f"No dimension is called {str(code)[:20]!r}. The rubric has {', '.join(dimensions())}.")
    if value is not None and (isinstance(value, bool) or value not in dimension.values):
        legal = ", ".join(map(str, dimension.values))
        raise JudgeError(f"{code} takes one of {legal}, not {str(value)[:20]!r}.")
    return dimension
