"""Rows of InterMT and InterMT-Bench: each a whole dialogue; rows that share their first uuids share those nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judge import rubric
from studio.exchange.records import NodeRecord, Report, TreeRecord, expect, read_json, rows_of

TURN = {"prompt": str, "prompt_uuid": str, "response": str, "response_uuid": str}


def fits(data: Any) -> bool:
    """Whether a loaded JSON file looks like this format."""
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], dict)
        and "conversations" in data[0]
        and "annotation" in data[0]
    )


def read(path: Path, skip_bad: bool, report: Report) -> Iterator[TreeRecord]:
    """One record a row. Scores go to the last reply; annotator is 'intermt'; a dialogue's second row is a second round."""
    met: Counter[str] = Counter()
    for record in rows_of(path, read_json(path), _row, skip_bad, report):
        last = record.nodes[-1]
        met[last.source_id] += 1
        last.round = met[last.source_id]
        yield record


def _row(where: str, row: Any) -> TreeRecord:
    expect(
        isinstance(row, dict) and isinstance(row.get("conversations"), list) and row["conversations"],
        where,
        "it has no conversations",
    )
    nodes: list[NodeRecord] = []
    for turn in row["conversations"]:
        expect(isinstance(turn, dict), where, "a turn is no object")
        for key, kind in TURN.items():
            expect(isinstance(turn.get(key), kind), where, f"{key!r} is missing or no text")
        parent = nodes[-1].source_id if nodes else None
        question = f"intermt:{turn['prompt_uuid']}"
        nodes.append(NodeRecord(question, parent, "user", turn["prompt"], _images(turn.get("prompt_images"))))
        nodes.append(
            NodeRecord(
                f"intermt:{turn['response_uuid']}",
                question,
                "assistant",
                turn["response"],
                _images(turn.get("response_images")),
            )
        )
    _annotate(where, nodes[-1], row.get("annotation") or {})
    return TreeRecord(nodes[0].text[:60], "intermt-bench", ["InterMT-Bench"], "intermt", nodes)


def _annotate(where: str, last: NodeRecord, annotation: dict[str, Any]) -> None:
    for dimension in rubric.dimensions().values():
        value = annotation.get(dimension.key)
        if value is None:
            continue
        expect(value in dimension.values, where, f"{dimension.key} is {value!r:.20}, which is no score of it")
        last.scores[dimension.code] = value
        last.rationale = str(annotation.get(f"reason_{dimension.key}") or "")


def _images(value: Any) -> list[str]:
    """A list of references; no image is written ``[""]``."""
    return [v for v in value or [] if isinstance(v, str) and v]
