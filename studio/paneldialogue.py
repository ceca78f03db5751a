"""One dialogue as several judges see it: its replies in order, what each judge says, what blind mode hides, where they part.

Plain dicts for ``studio.panel``. Reads scores that are rows; runs no judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from judge.rubric import OVERALL, OVERALL_GLOBAL, dimensions
from studio import readings
from studio.actions import Studio
from studio.panelwork import Judge

MOST_APART = 12
Row = dict[str, Any]


def rows(studio: Studio, tree: str, leaf: str | None) -> list[Row]:
    """The replies of a tree that are whole and not pruned: the path to ``leaf`` first, the others turn by turn."""
    outline = studio.store.outline(tree)
    children: dict[str | None, list[Row]] = {}
    for r in outline:
        if not r["pruned_at"]:
            children.setdefault(r["parent_id"], []).append(r)
    above = {r["id"]: r["parent_id"] for r in outline}
    path, at = set(), leaf if leaf in above else None
    while at is not None:
        path.add(at)
        at = above[at]
    mine = studio.store.scores(above, studio.config.annotator)
    rows, level, turn = [], children.get(None, []), 0
    while level:
        turn += any(r["role"] == "user" for r in level)
        rows += [
            {"id": r["id"], "start": r["label"] or "", "picture": bool(r["image"]), "turn": turn, "path": r["id"] in path,
             "end": r["id"] not in children, "mine": mine.get(r["id"], {})}
            for r in level if r["role"] == "assistant" and r["status"] != "streaming"
        ]  # fmt: skip
        level = [c for r in level for c in children.get(r["id"], [])]
    return sorted(rows, key=lambda r: not r["path"])


def facts(studio: Studio, judge: Judge) -> readings.Facts:
    """What a judge learned from. A chat model gives the scores themselves, so each of its rows is on its scale."""
    if judge.kind != "trained":
        return readings.Facts(any_scale=True)
    row = next((r for r in studio.store.judges() if r["name"] == judge.name), None)
    return readings.facts(row["metrics"]) if row else readings.Facts()


def shown(studio: Studio, tree: str, judge: Judge) -> dict[str, dict[str, Row]]:
    """What a judge says of a tree's replies, each beside its siblings."""
    stored = {n: readings.as_rows(rows) for n, rows in studio.store.judge_scores(tree, judge.name).items()}
    families: dict[str | None, list[str]] = {}
    for r in studio.store.outline(tree):
        families.setdefault(r["parent_id"], []).append(r["id"])
    return readings.of_families(stored, families.values(), facts(studio, judge))


def hidden(row: Row) -> set[str]:
    """What blind mode hides of a reply: a level's dimensions until the person has rated all of them; overall goes with the local ones."""
    hidden: set[str] = set()
    for level in ("local", "global"):
        codes = {code for code, d in dimensions().items() if d.level == level}
        if not codes <= row["mine"].keys():
            hidden |= codes | {OVERALL if level == "local" else OVERALL_GLOBAL}
    return hidden


def seen(row: Row, said: Mapping[str, Row], hidden: set[str]) -> dict[str, Row]:
    """What is shown of a judge's scores: global ones only where a dialogue ends, or where the person gave one."""
    known = dimensions()
    ends = {code for code, d in known.items() if d.level == "global"} | {OVERALL_GLOBAL}
    fits = {c for c in said if c not in ends or row["end"] or c in row["mine"]}
    return {code: said[code] for code in said if code in fits - hidden}


def apart(rows: Iterable[Row]) -> list[Row]:
    """Where the judges part: the replies with the largest ``gap`` between two of them, as a share of the range (of the scale,
    or of last to first among siblings), and on which dimension."""
    found = []
    for row in rows:
        codes = {code for said in row["said"].values() for code in said}
        gaps = {}
        for code in codes:
            known = [said[code] for said in row["said"].values() if code in said]
            places = [one["share"] for one in known if "share" in one]
            if len(places) > 1 and len({"value" in one for one in known}) == 1:  # a rank and a score do not compare
                gaps[code] = max(places) - min(places)
        if gaps:
            most = max(sorted(gaps), key=gaps.__getitem__)
            found.append({"id": row["id"], "start": row["start"], "turn": row["turn"], "dimension": most, "gap": gaps[most],
                          "said": {name: said[most] for name, said in row["said"].items() if most in said}})  # fmt: skip
    return sorted((f for f in found if f["gap"] > 0), key=lambda f: -f["gap"])[:MOST_APART]
