"""What a second look needs, in SQL: who scored what in a round, what was returned, where people differ, what a pass has found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from studio.store.connection import Connection
from studio.store.queues import ALIVE, ALIVE_IN

APART = 2  # levels between two people's scores that are worth a second look
START = (
    "(SELECT trim(substr(text, 1, 60)) FROM parts p WHERE p.node_id = {} AND p.kind = 'text' ORDER BY ordinal LIMIT 1)"
)


class Second(Connection):
    """Reads judgements of several rounds and people side by side; writes nothing."""

    def scored(self, round: int, nodes: Sequence[str] | None = None) -> dict[str, dict[str, set[str]]]:
        """Replies on no pruned branch -> who scored them in this round, in order of age -> on which dimensions."""
        found: dict[str, dict[str, set[str]]] = {}
        sql = (
            f"{ALIVE if nodes is None else ''}SELECT node_id, annotator, json_group_array(dimension) AS dimensions FROM current_scores "
            "WHERE round = :round AND "
            + ("node_id IN (SELECT id FROM alive) " if nodes is None else "node_id IN (SELECT value FROM json_each(:nodes)) ")
            + "GROUP BY node_id, annotator ORDER BY node_id, min(id)"
        )  # fmt: skip
        for r in self.rows(sql, {"round": round, "nodes": json.dumps(list(nodes or ()))}):
            found.setdefault(r["node_id"], {})[r["annotator"]] = set(json.loads(r["dimensions"]))
        return found

    def returned(self, annotator: str, round: int, node_id: str | None = None) -> list[dict[str, Any]]:
        """What others' (or one's own later) pass returned of what this annotator rated in the round before, oldest first:
        node_id, annotator, text, created_at. With ``node_id`` that reply's alone; otherwise without what was gone through since.
        """
        handled = (
            "AND NOT EXISTS (SELECT 1 FROM queue_items i JOIN queues q ON q.id = i.queue_id WHERE q.rule = 'returned' AND q.annotator = :who "
            "AND i.state = 'done' AND i.done_at > f.created_at AND json_extract(i.nodes, '$[0]') = f.node_id) "
        )
        return self.rows(
            f"{ALIVE}SELECT f.node_id, f.annotator, f.text, f.created_at FROM current_feedback f WHERE f.kind = 'rationale' "
            "AND f.dimension IS NULL AND f.span IS NULL AND f.round = :round AND f.node_id IN (SELECT id FROM alive) "
            "AND EXISTS (SELECT 1 FROM current_scores s WHERE s.node_id = f.node_id AND s.annotator = :who AND s.round = :round - 1) "
            + (handled if node_id is None else "AND f.node_id = :node ")
            + "ORDER BY f.id",
            {"who": annotator, "round": round, "node": node_id},
        )

    def conflicts(self, tree_ids: Sequence[str] | None = None, gap: int = APART) -> list[dict[str, Any]]:
        """Where two people's latest rounds lie ``gap`` or more apart, widest first: node, tree, dimension, scores, gap, text.

        ``scores``: value by annotator; ``text``: how the reply begins. Pruned branches are left out.
        """
        trees = (
            ""
            if tree_ids is None
            else "JOIN nodes t ON t.id = s.node_id AND t.tree_id IN (SELECT value FROM json_each(:trees)) "
        )
        rows = self.rows(
            f"{ALIVE if tree_ids is None else ALIVE_IN}, latest AS ("
            "SELECT s.node_id, s.dimension, s.annotator, s.value, max(s.round) AS round FROM current_scores s "
            f"{trees}GROUP BY s.node_id, s.dimension, s.annotator) "
            "SELECT l.node_id AS node, n.tree_id AS tree, l.dimension, json_group_object(l.annotator, l.value) AS scores, "
            f"max(l.value) - min(l.value) AS gap, coalesce({START.format('l.node_id')}, '') AS text "
            "FROM latest l JOIN alive n ON n.id = l.node_id "
            "GROUP BY l.node_id, l.dimension HAVING max(l.value) - min(l.value) >= :gap ORDER BY gap DESC, node, l.dimension",
            {"gap": gap, "trees": json.dumps(list(tree_ids or ()))},
        )
        return [r | {"scores": json.loads(r["scores"])} for r in rows]

    def verdicts(self, queue_id: str) -> dict[str, int]:
        """How often a second pass said what so far."""
        sql = "SELECT verdict, count(*) AS n FROM queue_items WHERE queue_id = ? AND verdict IS NOT NULL GROUP BY verdict ORDER BY verdict"
        return {r["verdict"]: r["n"] for r in self.rows(sql, [queue_id])}
