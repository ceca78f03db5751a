"""The form of a training: its fields (``assets/training.json``), what fits into each, and the flags it becomes.

Pure: knows no store, no job and no page.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from judge.examples import NAME
from studio import StudioError

MOST_TEXT = 1000  # characters of a path or of a list of layers


@functools.cache
def fields() -> tuple[dict[str, Any], ...]:
    """Each field: ``id``, ``flag``, ``kind``, ``label``, ``default`` (none: may be empty), ``low``, ``high``, ``help``, ``more``."""
    document = json.loads(files("assets").joinpath("training.json").read_text(encoding="utf-8"))
    return tuple(document["fields"])


def values(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled in, checked; a field that is missing has its default, an empty one without a default is None.

    Raises:
        StudioError: an impossible name or value, in one line that says what fits.
    """
    return {field["id"]: _value(field, data.get(field["id"])) for field in fields()}


def arguments(filled: Mapping[str, Any], without: tuple[str, ...] = ()) -> list[str]:
    """The flags of ``intermt-studio train`` for checked values; ``without``: fields left out."""
    flags = []
    for field in fields():
        value = filled[field["id"]]
        if value is None or field["id"] in without:
            continue
        if field["kind"] == "switch":
            flags += [field["flag"]] if value == "no" else []
        else:
            flags.append(f"{field['flag']}={value}")  # one word: a value may begin with a dash
    return flags


def _value(field: Mapping[str, Any], raw: Any) -> Any:
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raw = field.get("default")
        if raw is None and field["kind"] != "name":
            return None
    if field["kind"] == "name":
        return _name(str(raw or "").strip())
    if field["kind"] in ("number", "whole"):
        return _number(field, raw)
    text = str(raw).strip()
    if field["kind"] in ("choice", "switch") and text not in (known := [c[0] for c in field["choices"]]):
        raise StudioError(f"The {_label(field)} is {text[:20]!r}; choose one of {', '.join(known)}.")
    if len(text) > MOST_TEXT:
        raise StudioError(f"The {_label(field)} has {len(text)} characters; at most {MOST_TEXT} fit.")
    return text


def _number(field: Mapping[str, Any], raw: Any) -> float | int:
    span = f"{field['low']:,} to {field['high']:,}"
    try:
        number = float(raw)
    except (TypeError, ValueError) as error:
        raise StudioError(f"The {_label(field)} is {raw!r:.30}; choose a number, {span}.") from error
    if not math.isfinite(number) or not field["low"] <= number <= field["high"]:
        raise StudioError(f"The {_label(field)} is {raw!r:.30}; choose a number, {span}.")
    if field["kind"] == "whole":
        if number != int(number):
            raise StudioError(f"The {_label(field)} is {raw!r:.30}; choose a whole number, {span}.")
        return int(number)
    return number


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise StudioError(
            f"A judge cannot be called {name[:40]!r}: use up to 64 letters, digits, dots, dashes and underscores."
        )
    return name


def _label(field: Mapping[str, Any]) -> str:
    label = str(field["label"])
    return label if label.startswith("LoRA") else label[0].lower() + label[1:]
