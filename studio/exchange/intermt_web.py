"""The dialogues of the InterMT web page: a flat list of turns, with ``group`` telling which belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.exchange.records import NodeRecord, Report, TreeRecord, expect, read_json, rows_of

NAME = "dataset_examples.json"


def fits(data: Any) -> bool:
    """Whether a loaded JSON file looks like this format."""
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], dict)
        and {"group", "imageP", "imageR"} <= set(data[0])
    )


def files(path: Path) -> list[Path]:
    """The file itself, or every one in a folder of scenarios."""
    return [path] if path.is_file() else sorted(path.rglob(NAME))


def read(path: Path, skip_bad: bool, report: Report) -> Iterator[TreeRecord]:
    """One tree a group, a chain of turns. Raises StudioError naming the row that is not as it should be."""
    scenario = path.parent.name
    groups: dict[Any, list[dict[str, Any]]] = {}
    for turn in rows_of(path, read_json(path), _turn, skip_bad, report):
        groups.setdefault(turn["group"], []).append(turn)
    for group, turns in groups.items():
        nodes: list[NodeRecord] = []
        for i, turn in enumerate(turns):
            here = f"intermt-web:{scenario}/{group}/{i}"
            nodes.append(
                NodeRecord(
                    f"{here}/question",
                    nodes[-1].source_id if nodes else None,
                    "user",
                    turn["prompt"],
                    _images(turn["imageP"]),
                )
            )
            nodes.append(
                NodeRecord(f"{here}/reply", f"{here}/question", "assistant", turn["response"], _images(turn["imageR"]))
            )
        title = str(turns[0].get("group_name") or turns[0]["prompt"][:60])
        yield TreeRecord(title, "intermt-web", [str(turns[0].get("category") or scenario)], "intermt", nodes)


def _turn(where: str, row: Any) -> dict[str, Any]:
    expect(isinstance(row, dict), where, "it is no turn")
    for key in ("group", "prompt", "response", "imageP", "imageR"):
        expect(key in row, where, f"{key!r} is missing")
    expect(
        isinstance(row["prompt"], str) and isinstance(row["response"], str), where, "prompt and response must be text"
    )
    return dict(row)


def _images(value: Any) -> list[str]:
    """A path, '#' for none, or a list of paths."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, str) and v not in ("#", "")]
