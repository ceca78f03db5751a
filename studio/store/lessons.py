"""What a queue that asks the judge is planned from, in SQL: the judge's scores with their spread, and a person's pace."""

from __future__ import annotations

import json
from collections.abc import Iterable

from studio.store.connection import Connection
from studio.store.judges import JudgeScore, parse_score

LATEST = 500  # items that a pace is taken from


class Lessons(Connection):
    """Reads only."""

    def told(self, judge: str, dimensions: Iterable[str]) -> dict[str, dict[str, JudgeScore]]:
        """All that a judge has said of these rows with a spread and that still holds, by reply and row."""
        sql = (
            "SELECT node_id, dimension, value, spread, logit, heads, stale_at FROM judge_scores "
            "WHERE judge = ? AND spread IS NOT NULL AND stale_at IS NULL "
            "AND dimension IN (SELECT value FROM json_each(?))"
        )
        scores: dict[str, dict[str, JudgeScore]] = {}
        for row in self.rows(sql, [judge, json.dumps(list(dimensions))]):
            scores.setdefault(row["node_id"], {})[row["dimension"]] = parse_score(row)
        return scores

    def work(self, annotator: str, kind: str) -> list[tuple[float, int]]:
        """Seconds and number of replies shown of this person's latest items of a kind, second passes left out."""
        sql = (
            "SELECT i.seconds, json_array_length(i.nodes) AS shown FROM queue_items i JOIN queues q ON q.id = i.queue_id "
            "WHERE q.annotator = ? AND q.kind = ? AND i.state = 'done' AND i.seconds IS NOT NULL AND i.verdict IS NULL "
            "ORDER BY i.done_at DESC LIMIT ?"
        )
        return [(r["seconds"], r["shown"]) for r in self.rows(sql, [annotator, kind, LATEST])]
