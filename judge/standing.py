"""Which labels of a studio file's tree stand, when several people or several passes judged the same thing.

- The latest round stands: a correction in a second pass replaces the first score, and an agreement repeats it.
- What a second pass returned counts nothing until its first rater has scored it again.
- Several people's labels of one reply or one pair share the weight of one label, whichever side each of them saw.

Rows in, rows out. Knows no tree and computes no loss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from judge.rubric import dimensions

Outcome = Literal["left", "right", "tie"]
Row = dict[str, Any]
MIRRORED: dict[Outcome, Outcome] = {"left": "right", "right": "left", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Repeat:
    """Two people, or two rounds, that judged the same thing: do they agree? The ceiling of what a judge can reach.

    ``kind``: pairs (the same outcome) or scores (the same value); ``who``: the two, in order of their names; ``nodes``: the
    replies that were judged.
    """

    level: str
    dimension: str
    tree: str
    kind: str
    agrees: bool
    who: str = ""
    nodes: tuple[str, ...] = ()


def standing_scores(dump: Mapping[str, Any]) -> list[tuple[Row, float]]:
    """The score rows that count, each with its weight. Raises KeyError: a row lacks a column."""
    returns = _returns(dump)
    things: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _current(dump, "scores", "value"):
        if not _returned(row, returns):
            things[row["node_id"], row["dimension"]].append(row)
    return _shared(things.values())


def standing_comparisons(dump: Mapping[str, Any]) -> list[tuple[Row, float]]:
    """The comparison rows that count, each with its weight; left is the reply whose id comes first."""
    things: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in _current(dump, "comparisons", "outcome"):
        one = _canonical(row)
        things[one["left_node"], one["right_node"], one["level"], one["dimension"]].append(one)
    return _shared(things.values())


def given_back(score: Row, feedback: Iterable[Row]) -> bool:
    """Whether some feedback on its reply gave a score back, and it has not been given again since: it counts nothing."""
    return _returned(score, _returns({"feedback": feedback}))


def repeats(dump: Mapping[str, Any]) -> list[Repeat]:
    """Every two current judgements of the same thing by two people, or by one in two rounds."""
    tree = dump["tree"]["id"]
    scored: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _current(dump, "scores", "value"):
        scored[row["node_id"], row["dimension"]].append(row)
    compared: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in map(_canonical, _current(dump, "comparisons", "outcome")):
        compared[row["left_node"], row["right_node"], row["level"], row["dimension"]].append(row)
    known = dimensions()
    made = []
    for (node, dimension), rows in scored.items():
        where = known[dimension].level if dimension in known else "local"
        made += [
            Repeat(where, dimension, tree, "scores", a["value"] == b["value"], _who(a, b), (node,))
            for a, b in combinations(rows, 2)
        ]
    for (left, right, level, dimension), rows in compared.items():
        made += [
            Repeat(level, dimension, tree, "pairs", a["outcome"] == b["outcome"], _who(a, b), (left, right))
            for a, b in combinations(rows, 2)
        ]
    return made


def _current(dump: Mapping[str, Any], table: str, column: str) -> list[Row]:
    rows: list[Row] = dump.get(table, [])
    return [r for r in rows if r.get("superseded_at") is None and r[column] is not None]


def _canonical(row: Row) -> Row:
    left, right = row["left_node"], row["right_node"]
    if left <= right:
        return row
    return {**row, "left_node": right, "right_node": left, "outcome": MIRRORED[row["outcome"]]}


def _shared(things: Iterable[list[Row]]) -> list[tuple[Row, float]]:
    """The rows of each thing that no later round replaces, which share its weight."""
    kept = []
    for rows in things:
        standing = [r for r in rows if not any(_replaces(later, r, rows) for later in rows)]
        kept += [(r, 1.0 / len(standing)) for r in standing]
    return kept


def _replaces(later: Row, row: Row, rows: Sequence[Row]) -> bool:
    """Whether a row of a later round takes another's place: one's own, or anybody's where one only came to verify."""
    if (later.get("round") or 1) <= (row.get("round") or 1):
        return False
    own = [r.get("round") or 1 for r in rows if r["annotator"] == later["annotator"]]
    return later["annotator"] == row["annotator"] or min(own) > (row.get("round") or 1)


def _returns(dump: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Reply -> the feedback rows by which a later round gave it back (see ``studio.verification``)."""
    returns: dict[str, list[Row]] = defaultdict(list)
    for row in dump.get("feedback", []):
        whole = row.get("dimension") is None and row.get("span") is None
        later = (row.get("round") or 1) > 1 and row.get("superseded_at") is None
        if row.get("kind") == "rationale" and whole and later:
            returns[row["node_id"]].append(row)
    return returns


def _returned(row: Row, returns: Mapping[str, list[Row]]) -> bool:
    """Whether a score was given back, or is that of the pass which gave it back, and nobody has scored it again."""
    known = dimensions().get(row["dimension"])
    for back in returns.get(row["node_id"], ()):
        if back["level"] == "global" and known is not None and known.level == "local":
            continue  # the item was about the dialogue alone
        rounds = (row.get("round") or 1) - back["round"]
        if rounds == 0 and row["annotator"] == back["annotator"]:
            return True
        if rounds == -1 and row["created_at"] <= back["created_at"]:
            return True
    return False


def _who(a: Row, b: Row) -> str:
    names = [
        f"{r['annotator']}, round {r['round']}" if a["annotator"] == b["annotator"] else r["annotator"] for r in (a, b)
    ]
    return " and ".join(sorted(names))
