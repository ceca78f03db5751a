"""The rubric as data: InterMT's nine dimensions, and a person's own beside them. Codes, names, questions, meanings of levels.

The nine live in ``assets/rubric.json`` (dimensions: InterMT, arXiv 2505.23950) and never change; own ones come from a file
of the same shape that ``load_own`` reads. Judges nothing, keeps no scores, and writes no file.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

OVERALL = "overall"  # what a comparison is about when it names no dimension: a reply
OVERALL_GLOBAL = "overall_global"  # the same of whole dialogues: a row of its own in every head
OWN_FILE = "rubric.json"  # in the home folder
MOST_OWN, MOST_TEXT = 24, 2000  # own dimensions; characters of one text
LOWEST, HIGHEST = -1, 9  # every level is one key: - for -1, else its digit
Scales = Mapping[str, Sequence[int]]  # row of a judge's head -> the levels of its scale, lowest first
CODE, KEY = re.compile(r"[A-Za-z0-9_]{1,12}"), re.compile(r"[A-Za-z0-9_]{1,60}")
FIELDS = ("code", "key", "name", "level", "values", "asks", "levels", "notes")


def row_of(level: str, dimension: str) -> str:
    """The row of a judge's head that a label of this level and dimension belongs to."""
    return OVERALL_GLOBAL if dimension == OVERALL and level == "global" else dimension


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


@dataclass(frozen=True)
class _Rubric:
    """What is in force: replaced as a whole, so that a thread sees the old one or the new one and never a mixture."""

    document: dict[str, Any]
    dimensions: dict[str, Dimension]


@functools.cache
def _nine() -> _Rubric:
    loaded: dict[str, Any] = json.loads(files("assets").joinpath("rubric.json").read_text(encoding="utf-8"))
    return _Rubric(loaded, {d["code"]: _dimension(d) for d in loaded["dimensions"]})


_with_own: _Rubric | None = None


def load_own(path: Path | None) -> None:
    """Put the dimensions of a file beside the nine, in place of those of any file before; no such file, or None: the nine alone.

    Raises:
        JudgeError: naming the file, the dimension and the field that is wrong; what was in force stays.
    """
    global _with_own
    rows = _read(path) if path is not None and path.exists() else []
    nine = _nine()
    found = dict(nine.dimensions)
    keys = {d.key.casefold() for d in found.values()}
    for i, row in enumerate(rows, 1):
        own = _checked(f"{path}: dimension {i}", row, {c.casefold() for c in found} | {OVERALL}, keys)
        found[own.code] = own
        keys.add(own.key.casefold())
    shown = [{"notes": [], **row, "own": True} for row in rows]
    _with_own = _Rubric({**nine.document, "dimensions": [*nine.document["dimensions"], *shown]}, found)


def document() -> dict[str, Any]:
    """The whole rubric, as the screens read it; ``own`` marks the dimensions that are not of the nine."""
    return (_with_own or _nine()).document


def dimensions() -> dict[str, Dimension]:
    """Every dimension by its code: the nine in the rubric's order, then own ones in their file's."""
    return (_with_own or _nine()).dimensions


def the_nine() -> dict[str, Dimension]:
    """InterMT's dimensions by their code, whatever a home adds."""
    return _nine().dimensions


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


# ---- a file of own dimensions: each mistake is one line


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JudgeError(f"Cannot read {path}: {error.strerror}. Mend or remove the file.") from error
    except (ValueError, RecursionError) as error:
        raise JudgeError(f"{path} is no JSON file ({str(error)[:80]}). Mend or remove it.") from error
    rows = found.get("dimensions") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise JudgeError(f'{path} has no list called "dimensions". Write {{"dimensions": [...]}} around them.')
    if len(rows) > MOST_OWN:
        raise JudgeError(f"{path} has {len(rows)} dimensions; at most {MOST_OWN} can be added. Take some out.")
    return rows


def _checked(where: str, row: Any, codes: set[str], keys: set[str]) -> Dimension:
    _expect(isinstance(row, dict), where, "it", row, "an object with code, key, name, level, values, asks and levels")
    where = f"{where} ({str(row.get('code'))[:20]})"
    for name in ("code", "key", "name", "asks"):
        text = row.get(name)
        fits = isinstance(text, str) and 0 < len(text.strip()) <= MOST_TEXT
        _expect(fits, where, name, text, f"a text of 1 to {MOST_TEXT} characters")
    _expect(CODE.fullmatch(row["code"]), where, "code", row["code"], "1 to 12 letters, digits or _")
    _expect(row["code"].casefold() not in codes, where, "code", row["code"], "a code that no other dimension has")
    _expect(KEY.fullmatch(row["key"]), where, "key", row["key"], "1 to 60 letters, digits or _")
    _expect(row["key"].casefold() not in keys, where, "key", row["key"], "a key that no other dimension has")
    _expect(row.get("level") in ("local", "global"), where, "level", row.get("level"), '"local" or "global"')
    values = row.get("values")
    whole = isinstance(values, list) and 2 <= len(values) <= 7 and all(type(v) is int for v in values)
    _expect(whole and all(a < b for a, b in pairwise(values)) and values[0] >= LOWEST and values[-1] <= HIGHEST,
            where, "values", values, f"2 to 7 whole numbers from {LOWEST} to {HIGHEST}, each above the one before")  # fmt: skip
    levels = row.get("levels")
    _expect(isinstance(levels, dict) and set(levels) == {str(v) for v in values}, where, "levels", levels,
            f"one text for each of {', '.join(map(str, values))}")  # fmt: skip
    notes = row.get("notes", [])
    _expect(isinstance(notes, list), where, "notes", notes, "a list of texts")
    for name, texts in (("levels", levels.values()), ("notes", notes)):
        for text in texts:
            _expect(
                isinstance(text, str) and len(text) <= MOST_TEXT,
                where,
                name,
                text,
                f"texts up to {MOST_TEXT} characters",
            )
    odd = sorted(map(str, set(row) - set(FIELDS)))
    if odd:
        raise JudgeError(f"{where}: no field is called {odd[0][:40]!r}; it has {', '.join(FIELDS)}.")
    return _dimension({"notes": [], **row})


def _expect(fits: Any, where: str, field: str, value: Any, wanted: str) -> None:
    if not fits:
        raise JudgeError(f"{where}: {field} is {json.dumps(value, ensure_ascii=False)[:60]}; it must be {wanted}.")


def _dimension(row: dict[str, Any]) -> Dimension:
    return Dimension(row["code"], row["key"], row["name"], row["level"], tuple(row["values"]), row["asks"],
                     {int(k): v for k, v in row["levels"].items()}, tuple(row["notes"]))  # fmt: skip
