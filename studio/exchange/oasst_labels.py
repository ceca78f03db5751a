"""OpenAssistant's label averages as scores of own dimensions: five steps, in the home's ``rubric.json``.

An entry that is missing is written; one that is there with another meaning is never changed.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from judge import rubric
from studio import StudioError
from studio.config import load_rubric
from studio.store import Store

STEPS = 4  # above 0: averages lie between 0 and 1


def chosen(names: Iterable[str]) -> dict[str, str]:
    """Label -> code of its dimension, for these labels ("all": every one). Raises StudioError: there is no such label."""
    known = {label: entry["code"] for label, entry in _entries().items()}
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if names == ["all"]:
        return known
    if odd := next((name for name in names if name not in known), None):
        raise StudioError(f"OpenAssistant has no label {odd!r:.40}. Choose of {', '.join(known)}, or all.")
    return {name: known[name] for name in names}


def add_dimensions(store: Store, labels: Iterable[str]) -> int:
    """Put the labels' dimensions into the home's rubric and into force; returns how many were written.

    Raises:
        StudioError: the file is broken, full, or has such a dimension with another meaning.
    """
    load_rubric(store.home)  # a broken file is told before anything is written into it
    path = store.home / rubric.OWN_FILE
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"dimensions": []}
    wanted = [_dimension(label, _entries()[label]) for label in labels]
    missing = []
    for row in wanted:
        here = rubric.dimensions().get(row["code"])
        if here is None:
            missing.append(row)
        elif (here.key, here.level, list(here.values)) != (row["key"], row["level"], row["values"]):
            raise StudioError(
                f"{path} has a dimension {row['code']} with another meaning. Give yours another code, or import without --labels."
            )
    if len(document["dimensions"]) + len(missing) > rubric.MOST_OWN:
        raise StudioError(
            f"{path} can hold {rubric.MOST_OWN} dimensions and has {len(document['dimensions'])}. Ask for fewer labels."
        )
    if missing:
        document["dimensions"] += missing
        _write(path, document)
        load_rubric(store.home)
        store.know_dimensions({code: d.level for code, d in rubric.dimensions().items()})
    return len(missing)


def averages(where: str, labels: Any) -> dict[str, float]:
    """Label -> average over raters, 0 to 1, from an object of objects or from parallel lists.

    Raises StudioError: naming ``where`` and the label that is no such number.
    """
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise StudioError(f"{where}: its labels are no object.")
    names, values = labels.get("name"), labels.get("value")
    if isinstance(names, list):
        if not isinstance(values, list) or len(values) != len(names):
            raise StudioError(f"{where}: its labels have {len(names)} names and other values.")
        pairs = list(zip(names, values, strict=True))
    else:
        pairs = [(name, entry.get("value") if isinstance(entry, dict) else entry) for name, entry in labels.items()]
    for name, value in pairs:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not isinstance(name, str) or not number or not math.isfinite(value) or not 0 <= value <= 1:
            raise StudioError(f"{where}: its label {name!r:.30} is {value!r:.30}, which is no average from 0 to 1.")
    return {name: float(value) for name, value in pairs}


def step(average: float) -> tuple[int, bool]:
    """The step nearest to an average, and whether it was rounded (.5 goes up)."""
    exact = average * STEPS
    nearest = math.floor(exact + 0.5)
    return nearest, abs(exact - nearest) > 1e-6


@functools.cache
def _entries() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("assets").joinpath("oasst_labels.json").read_text(encoding="utf-8"))
    entries: dict[str, Any] = loaded["labels"]
    return entries


def _dimension(label: str, entry: dict[str, Any]) -> dict[str, Any]:
    texts = [f"average {i / STEPS:.2f}" for i in range(STEPS + 1)]
    texts[0], texts[-1] = f"{entry['ends'][0]} (0.00)", f"{entry['ends'][1]} (1.00)"
    return {
        "code": entry["code"],
        "key": f"oasst_{label}",
        "name": entry["name"],
        "level": "local",
        "values": list(range(STEPS + 1)),
        "asks": entry["asks"],
        "levels": {str(i): text for i, text in enumerate(texts)},
        "notes": ["An average over OpenAssistant's raters from 0 to 1, rounded to five steps."],
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        os.replace(temp, path)
    except OSError as error:
        raise StudioError(
            f"Cannot write {path}: {error.strerror}. Free some space, or import without --labels."
        ) from error
