"""Whether the rows of another studio's tree may come in: messages that hang together, judgements that say something possible.

Reads rows and the rubric, writes nothing. A fault is said in words that follow the file and the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from judge import rubric

Row = Mapping[str, Any]
Parents = Mapping[str, str | None]  # every message of the tree -> the one above it
LEVELS, OUTCOMES = ("local", "global"), ("left", "right", "tie")
KINDS = ("rationale", "critique", "refinement")
MAX_TEXT = 200  # characters of a name: of a dimension, of an annotator
MAX_INT = 2**63


def score_fault(value: Any, dimension: str) -> str | None:
    """Why ``value`` is no score of ``dimension``; None when it is one. On a dimension unknown here any level that a rubric
    may have is one: it is somebody's own."""
    known = rubric.dimensions().get(dimension)
    legal = known.values if known else range(rubric.LOWEST, rubric.HIGHEST + 1)
    if whole(value) is not None and whole(value) in legal:
        return None
    scale = f"one of {', '.join(map(str, legal))}" if known else f"a whole number from {legal[0]} to {legal[-1]}"
    return f"{dimension[:40]} is {_shown(value)}, which is no score of it: {scale}"


def whole(value: Any) -> int | None:
    """A number without a fraction as an int (2.0 is 2); None for anything else, True and NaN among it."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def tree_fault(parents: Parents) -> str | None:
    """Why these messages are no tree: one answers what is not there, or is among its own ancestors."""
    rooted: set[str] = set()
    for start in parents:
        path: dict[str, None] = {}
        at: str | None = start
        while at is not None and at not in rooted:
            if at in path:
                return f"the message {at[:40]} is among its own ancestors"
            if at not in parents:
                return f"the message {next(reversed(path))[:40]} answers {at[:40]}, which is not there"
            path[at] = None
            at = parents[at]
        rooted |= set(path)
    return None


def row_fault(table: str, row: Row, parents: Parents) -> str | None:
    """Why a judgement cannot come in; None when it can."""
    return next((why for check in CHECKS[table] if (why := check(row, parents))), None)


def storable(value: Any) -> bool:
    """Whether SQLite can keep a value: no number beyond 64 bits, no half of a character."""
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)
    return not isinstance(value, int) or -MAX_INT <= value < MAX_INT


# ---- one thing each: (row, parents) -> why not


def _signed(row: Row, _: Parents) -> str | None:
    if not _name(row.get("annotator")):
        return f"annotator is {_shown(row.get('annotator'))}, which is no name"
    number = row.get("round", 1)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number < MAX_INT:
        return f"round is {_shown(number)}; it must be a whole number from 1"
    return _dated(row, _)


def _dated(row: Row, _: Parents) -> str | None:
    for column in ("created_at", "superseded_at"):
        at = row.get(column)
        if not isinstance(at, str) and (at is not None or column == "created_at"):
            return f"{column} is {_shown(at)}, which is no time"
    return None


def _in_tree(*columns: str) -> Callable[[Row, Parents], str | None]:
    def check(row: Row, parents: Parents) -> str | None:
        for column in columns:
            node = row.get(column)
            if not isinstance(node, str) or node not in parents:
                return f"{column} is {_shown(node)}, which is no message of this tree"
        return None

    return check


def _score(row: Row, _: Parents) -> str | None:
    if not _name(row.get("dimension")):
        return f"dimension is {_shown(row.get('dimension'))}, which is no name"
    return score_fault(row.get("value"), row["dimension"])


def _comparison(row: Row, parents: Parents) -> str | None:
    left, right = row["left_node"], row["right_node"]
    if not _name(row.get("dimension")):
        return f"dimension is {_shown(row.get('dimension'))}, which is no name"
    if row.get("level") not in LEVELS:
        return f"level is {_shown(row.get('level'))}; it must be local or global"
    if row.get("outcome") not in OUTCOMES:
        return f"outcome is {_shown(row.get('outcome'))}; it must be left, right or tie"
    if left == right:
        return "it compares a reply with itself"
    if row["level"] == "local":
        return None if parents[left] == parents[right] else f"{left[:40]} and {right[:40]} are no siblings"
    if _above(left, right, parents) or _above(right, left, parents):
        return f"{left[:40]} and {right[:40]} lie on one path: a dialogue is not compared with its own beginning"
    return None


def _feedback(row: Row, _: Parents) -> str | None:
    if row.get("level") not in LEVELS:
        return f"level is {_shown(row.get('level'))}; it must be local or global"
    if row.get("kind") not in KINDS:
        return f"kind is {_shown(row.get('kind'))}; it must be one of {', '.join(KINDS)}"
    if row.get("dimension") is not None and not _name(row["dimension"]):
        return f"dimension is {_shown(row['dimension'])}, which is no name"
    return None if isinstance(row.get("text"), str) else f"text is {_shown(row.get('text'))}, which is no text"


def _judge(row: Row, _: Parents) -> str | None:
    for column in ("name", "base"):
        if not _name(row.get(column), MAX_TEXT * 5):
            return f"{column} is {_shown(row.get(column))}, which is no name"
    for column in ("config", "metrics"):
        text = row.get(column, "{}")
        if not isinstance(text, dict) and not isinstance(_parsed(text), dict):
            return f"{column} is {_shown(text)}, which is no JSON object"
    return None


def _judge_score(row: Row, _: Parents) -> str | None:
    for column in ("judge", "dimension"):
        if not _name(row.get(column), MAX_TEXT * 5):
            return f"{column} is {_shown(row.get(column))}, which is no name"
    if not _real(row.get("value")):
        return f"{row['dimension'][:40]} is {_shown(row.get('value'))}, which is no number"
    for column in ("spread", "logit"):
        if row.get(column) is not None and not _real(row[column]):
            return f"{column} is {_shown(row[column])}, which is no number"
    heads = row.get("heads")
    values = heads if isinstance(heads, list) or heads is None else _parsed(heads)
    if heads is not None and not (isinstance(values, list) and all(map(_real, values))):
        return f"heads is {_shown(heads)}, which is no list of numbers"
    return None


CHECKS: dict[str, tuple[Callable[[Row, Parents], str | None], ...]] = {
    "scores": (_signed, _in_tree("node_id"), _score),
    "comparisons": (_signed, _in_tree("left_node", "right_node"), _comparison),
    "feedback": (_signed, _in_tree("node_id"), _feedback),
    "crucial_steps": (_signed, _in_tree("leaf_id", "node_id")),
    "judges": (_dated, _judge),
    "judge_scores": (_dated, _in_tree("node_id"), _judge_score),
}


def _above(node: str, other: str, parents: Parents) -> bool:
    at: str | None = other
    while at is not None and at != node:
        at = parents[at]
    return at == node


def _name(value: Any, longest: int = MAX_TEXT) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _shown(value: Any) -> str:
    return f"{value!r:.40}"
