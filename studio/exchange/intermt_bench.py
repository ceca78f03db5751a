"""Rows of InterMT and InterMT-Bench: each a whole dialogue; rows that share their first uuids share those nodes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judge import rubric
from studio.exchange.records import NodeRecord, Report, TreeRecord, expect, read_json, rows_of
from studio.store.checks import score_fault

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
    row = functools.partial(_row, left_out=report.skipped if skip_bad else None)
    for record in rows_of(path, read_json(path), row, skip_bad, report):
        last = record.nodes[-1]
        met[last.source_id] += 1
        last.round = met[last.source_id]
        yield record


def _row(where: str, row: Any, left_out: list[str] | None) -> TreeRecord:
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
    annotation = row.get("annotation") or {}
    expect(isinstance(annotation, dict), where, "its annotation is no object")
    _annotate(where, nodes[-1], annotation, left_out)
    return TreeRecord(nodes[0].text[:60], "intermt-bench", ["InterMT-Bench"], "intermt", nodes)


def _annotate(where: str, last: NodeRecord, annotation: dict[str, Any], left_out: list[str] | None) -> None:
    """``left_out``: where a score that is none is noted; None: it is an error."""
    for dimension in rubric.dimensions().values():
        value = annotation.get(dimension.key)
        if value is None:
            continue
        if fault := score_fault(value, dimension.code):
            expect(left_out is not None, where, f"{dimension.key}: {fault}")
            assert left_out is not None
            left_out.append(f"{where}: {dimension.key}: {fault}.")
            continue
        last.scores[dimension.code] = int(value)
        last.rationale = str(annotation.get(f"reason_{dimension.key}") or "")


def _images(value: Any) -> list[str]:
    """A list of references; no image is written ``[""]``."""
    return [v for v in value or [] if isinstance(v, str) and v]
