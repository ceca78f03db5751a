"""What a judge learns from, kept beside it: the same trees and labels when a run goes on, whatever was rated since.

One JSON file, ``data.json``. Pictures stay where they are, named by their hash; those given as bytes are kept here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from judge import files
from judge.examples import Comparison, Example, Score
from judge.files import DATA as FILE
from judge.files import PICTURES
from judge.labels import prepare
from judge.rubric import JudgeError
from judge.standing import Repeat
from studio.tree import Node, Part, Tree

VERSION = 1


def save(examples: Sequence[Example], folder: Path) -> None:
    """Write the examples into a folder, whole or not at all. Raises OSError."""
    for example in examples:
        for sha, data in example.images.items():
            if isinstance(data, bytes):
                files.write_whole(folder / PICTURES / sha, data)
    written = {"version": VERSION, "examples": [_dump(e) for e in examples]}
    files.write_whole(folder / FILE, json.dumps(written, ensure_ascii=False).encode())


def load(folder: Path, now: Sequence[Example] = ()) -> list[Example]:
    """The examples that ``save`` wrote. ``now``: today's, which know where pictures are that were moved since.

    Raises:
        JudgeError: there are none, or they cannot be read.
    """
    try:
        read = json.loads((folder / FILE).read_text(encoding="utf-8"))
        pictures: dict[str, bytes | Path] = {p.name: p for p in (folder / PICTURES).glob("*")}
        for example in now:
            pictures |= example.images
        return [_load(row, pictures) for row in read["examples"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JudgeError(
            f"What this judge learned from cannot be read from {folder / FILE} ({error}). Train again, under another name."
        ) from error


def of_judge(folder: Path, card: Mapping[str, Any], now: Sequence[Example]) -> list[Example]:
    """What a finished judge learned from and is tested on; of one without a snapshot (an early one), as it is rated today."""
    if (folder / FILE).is_file():
        return load(folder, now)
    level = card["settings"]["level"]
    return prepare(now, ("local", "global") if level == "both" else (level,), card["settings"]["derived"]).examples


def _dump(e: Example) -> dict[str, Any]:
    nodes = [
        {
            "id": n.id,
            "parent_id": n.parent_id,
            "ordinal": n.ordinal,
            "role": n.role,
            "parts": [asdict(p) for p in n.parts],
        }
        for n in e.tree.walk()
    ]
    return {
        "tree": e.tree.id, "title": e.tree.title, "group": e.group, "nodes": nodes,
        "scores": [asdict(s) for s in e.scores], "comparisons": [asdict(c) for c in e.comparisons],
        "repeats": [asdict(r) for r in e.repeats],
        "pictures": {sha: str(data) if isinstance(data, Path) else None for sha, data in e.images.items()},
    }  # fmt: skip


def _load(row: dict[str, Any], pictures: Mapping[str, bytes | Path]) -> Example:
    nodes = [
        Node(n["id"], row["tree"], n["parent_id"], n["ordinal"], n["role"], [Part(**p) for p in n["parts"]])
        for n in row["nodes"]
    ]
    images: dict[str, bytes | Path] = {}
    for sha, path in row["pictures"].items():
        if sha in pictures:
            images[sha] = pictures[sha]
        elif path and Path(path).is_file():
            images[sha] = Path(path)
    return Example(
        Tree(row["tree"], row["title"], nodes=nodes),
        [Score(**s) for s in row["scores"]],
        [Comparison(**c) for c in row["comparisons"]],
        images,
        row["group"],
        [Repeat(**{**r, "nodes": tuple(r.get("nodes", ()))}) for r in row["repeats"]],
    )
