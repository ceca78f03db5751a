"""Judges and what they said, in SQL. A judge's row appears when it is trained, and never changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from judge.examples import NAME
from studio import StudioError
from studio.store.connection import Connection, now

ZERO_SHOT = "zero-shot"  # what the config of a judge that was never trained calls its kind


class Judges(Connection):
    """Rows of ``judges`` and ``judge_scores``; the weights are files elsewhere."""

    def add_judge(
        self, name: str, base: str, config: dict[str, Any], data_hash: str, metrics: dict[str, Any], path: str
    ) -> None:
        """Remember a trained judge; a name that is known keeps its row. Durable when this returns."""
        row = {"name": name, "base": base, "config": json.dumps(config, default=list), "data_hash": data_hash,
               "metrics": json.dumps(metrics), "path": path, "created_at": now()}  # fmt: skip
        with self.write() as db:
            db["judges"].insert(row, ignore=True)  # type: ignore[union-attr]

    def judges(self, kind: str = "trained") -> list[dict[str, Any]]:
        """Every judge of a kind, newest first, with config and metrics as dicts: trained, or zero-shot (a chat model with the rubric).
        A name that no judge here can have (a file that was imported may hold any) is left out: names are used as folders.
        """
        rows = [
            r | {"config": json.loads(r["config"]), "metrics": json.loads(r["metrics"])}
            for r in self.rows("SELECT * FROM judges ORDER BY created_at DESC, rowid DESC")
            if NAME.fullmatch(r["name"])
        ]
        return [r for r in rows if (isinstance(r["config"], dict) and r["config"].get("kind") == ZERO_SHOT) == (kind == ZERO_SHOT)]  # fmt: skip

    def save_judge_scores(self, judge: str, scores: Iterable[tuple[str, str, float, float | None]]) -> int:
        """Put (node, dimension, value, spread) in place of what the judge said before; returns their number.

        Raises StudioError when there is no such judge.
        """
        at = now()
        rows = [(judge, node, dimension, value, spread, at) for node, dimension, value, spread in scores]
        with self.write() as db:
            if not db.execute("SELECT 1 FROM judges WHERE name = ?", [judge]).fetchone():
                raise StudioError(
                    f"There is no judge {judge!r} in this home. Train it with: intermt-studio train --name {judge}"
                )
            db.conn.executemany(
                "INSERT INTO judge_scores (judge, node_id, dimension, value, spread, created_at) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET value = excluded.value, spread = excluded.spread, created_at = excluded.created_at",
                rows,
            )
        return len(rows)

    def judge_scores(self, tree_id: str, judge: str) -> dict[str, dict[str, tuple[float, float | None]]]:
        """What a judge said of a tree: value and spread by node and dimension."""
        found: dict[str, dict[str, tuple[float, float | None]]] = {}
        sql = (
            "SELECT s.node_id, s.dimension, s.value, s.spread FROM judge_scores s JOIN nodes n ON n.id = s.node_id "
            "WHERE n.tree_id = ? AND s.judge = ?"
        )
        for r in self.rows(sql, [tree_id, judge]):
            found.setdefault(r["node_id"], {})[r["dimension"]] = (r["value"], r["spread"])
        return found

    def unjudged(self, tree_id: str, judge: str) -> list[str]:
        """Replies of a tree that are whole, say something, and have no score by this judge yet; oldest first."""
        sql = (
            "SELECT id FROM nodes n WHERE tree_id = ? AND role = 'assistant' AND status != 'streaming' "
            "AND EXISTS (SELECT 1 FROM parts p WHERE p.node_id = n.id) "
            "AND NOT EXISTS (SELECT 1 FROM judge_scores s WHERE s.judge = ? AND s.node_id = n.id) ORDER BY id"
        )
        return [r["id"] for r in self.rows(sql, [tree_id, judge])]

    def labels_since(self, at: str) -> int:
        """How many scores and comparisons that count were given after this moment."""
        sql = (
            "SELECT (SELECT count(*) FROM current_scores WHERE created_at > :at) "
            "+ (SELECT count(*) FROM current_comparisons WHERE created_at > :at) AS n"
        )
        return int(self.rows(sql, {"at": at})[0]["n"])

    def rated_trees(self) -> list[str]:
        """Trees in which somebody has scored or compared something: the ones that a judge can learn from."""
        sql = (
            "SELECT DISTINCT tree_id FROM nodes WHERE id IN (SELECT node_id FROM current_scores "
            "UNION SELECT left_node FROM current_comparisons) ORDER BY tree_id"
        )
        return [r["tree_id"] for r in self.rows(sql)]
