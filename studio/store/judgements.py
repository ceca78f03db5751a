"""Scores, comparisons and feedback in SQL. Append-only: a changed mind supersedes the old row, and history stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from judge import standing
from studio import StudioError
from studio.store.connection import Connection, new_id, now

START = (
    "(SELECT substr(text, 1, 60) FROM parts p WHERE p.node_id = {node} AND p.kind = 'text' ORDER BY ordinal LIMIT 1)"
)
HISTORY = f"""
SELECT id, 'score' AS made, dimension AS what, CAST(value AS TEXT) AS value, NULL AS level, dimension, NULL AS span, NULL AS other,
  annotator, round, created_at, superseded_at FROM scores WHERE node_id = :n
UNION ALL SELECT id, 'feedback', kind, text, level, dimension, span, NULL,
  annotator, round, created_at, superseded_at FROM feedback WHERE node_id = :n
UNION ALL SELECT id, 'comparison', dimension,
  CASE WHEN outcome = 'tie' THEN 'as good as' WHEN (outcome = 'left') = (left_node = :n) THEN 'better than' ELSE 'worse than' END,
  level, dimension, NULL, {START.format(node="CASE left_node WHEN :n THEN right_node ELSE left_node END")},
  annotator, round, created_at, superseded_at FROM comparisons WHERE left_node = :n OR right_node = :n
UNION ALL SELECT created_at, 'step', 'crucial step', coalesce(reason, ''), 'global', NULL, NULL, {START.format(node="leaf_id")},
  annotator, round, created_at, superseded_at FROM crucial_steps WHERE node_id = :n
ORDER BY created_at DESC, id DESC
"""
ON_ONE_PATH = """
WITH RECURSIVE up(start, id) AS (
  SELECT id, parent_id FROM nodes WHERE id IN (:a, :b)
  UNION ALL SELECT up.start, n.parent_id FROM up JOIN nodes n ON n.id = up.id
)
SELECT 1 FROM up WHERE id IN (:a, :b) LIMIT 1
"""


class Judgements(Connection):
    """A score, comparison or feedback that is current has no ``superseded_at``."""

    def know_dimensions(self, levels: Mapping[str, str]) -> None:
        """Keep which dimensions are local and which global, for SQL; those of another day stay, as their labels do."""
        if set(levels.items()) - {(r["code"], r["level"]) for r in self.rows("SELECT code, level FROM dimensions")}:
            with self.write() as db:
                db["dimensions"].upsert_all([{"code": c, "level": v} for c, v in levels.items()], pk="code")  # type: ignore[union-attr]

    def rate(self, node_id: str, dimension: str, value: int | None, annotator: str, round: int = 1) -> str | None:
        """Make ``value`` the current score (None: not judged); durable when this returns. Returns the new row's id.

        The same value again is no new row, unless a second pass gave the score back: then it is confirmed by one.
        Raises StudioError when there is no such node.
        """
        key = [node_id, dimension, annotator, round]
        where = "node_id = ? AND dimension = ? AND annotator = ? AND round = ? AND superseded_at IS NULL"
        at = now()
        with self.write() as db:
            old = db.execute(f"SELECT * FROM scores WHERE {where}", key).fetchone()
            if old and old["value"] == value and not self._given_back(old):
                return str(old["id"])
            if old:
                db.execute("UPDATE scores SET superseded_at = ? WHERE id = ?", [at, old["id"]])
            if value is None:
                return None
            row_id = new_id()
            db.execute(
                "INSERT INTO scores (id, node_id, dimension, value, annotator, round, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [row_id, node_id, dimension, value, annotator, round, at],
            )
            return row_id

    def _given_back(self, score: Any) -> bool:
        sql = (
            "SELECT * FROM current_feedback WHERE node_id = ? AND kind = 'rationale' "
            "AND dimension IS NULL AND span IS NULL AND round = ?"
        )
        returns = self._db.execute(sql, [score["node_id"], score["round"] + 1])
        return standing.given_back(dict(score), [dict(r) for r in returns])

    def say(self, node_id: str, level: str, kind: str, text: str, annotator: str, dimension: str | None = None,
            round: int = 1, span: str | None = None) -> None:  # fmt: skip
        """Make ``text`` the current feedback of its kind, dimension and place (empty: none); durable when this returns.

        ``span``: the place as canonical JSON (``studio.actions.spans``); None: about all of the reply or dialogue.
        """
        names = ("node_id", "level", "kind", "dimension", "annotator", "round", "span")
        row = dict(zip(names, (node_id, level, kind, dimension, annotator, round, span), strict=True))
        where = " AND ".join(f"{name} IS :{name}" for name in names) + " AND superseded_at IS NULL"
        text, at = text.strip(), now()
        with self.write() as db:
            old = db.execute(f"SELECT text FROM feedback WHERE {where} ORDER BY id DESC", row).fetchone()
            if (old["text"] if old else "") == text:
                return
            db.execute(f"UPDATE feedback SET superseded_at = :at WHERE {where}", row | {"at": at})
            if text:
                db["feedback"].insert(row | {"id": new_id(), "text": text, "created_at": at})  # type: ignore[union-attr]

    def compare(self, level: str, dimension: str, left: str, right: str, outcome: str, annotator: str,
                round: int = 1, shown_left: str | None = None, seconds: float | None = None) -> str:  # fmt: skip
        """Make ``outcome`` (left, right or tie) the current comparison of two replies; returns the row's id.

        Raises:
            StudioError: local and not siblings, global and not of one tree or on one path, or the same reply twice.
        """
        with self.write() as db:
            pair = {
                r["id"]: r
                for r in db.execute("SELECT id, tree_id, parent_id FROM nodes WHERE id IN (?, ?)", [left, right])
            }
            if len(pair) != 2:
                raise StudioError("A comparison needs two different replies that exist. Choose two.")
            shared = "parent_id" if level == "local" else "tree_id"
            if pair[left][shared] != pair[right][shared]:
                raise StudioError(
                    f"A {level} comparison needs two replies of one {'question' if level == 'local' else 'tree'}."
                )
            if level == "global" and db.execute(ON_ONE_PATH, {"a": left, "b": right}).fetchone():
                raise StudioError("A dialogue cannot be compared with its own beginning. Choose two that part.")
            at, row_id = now(), new_id()
            db.execute(
                "UPDATE comparisons SET superseded_at = ? WHERE level = ? AND dimension = ? AND annotator = ? AND round = ? "
                "AND superseded_at IS NULL AND ((left_node = ? AND right_node = ?) OR (left_node = ? AND right_node = ?))",
                [at, level, dimension, annotator, round, left, right, right, left],
            )
            row = {"id": row_id, "level": level, "dimension": dimension, "left_node": left, "right_node": right,
                   "outcome": outcome, "annotator": annotator, "round": round, "shown_left": shown_left or left,
                   "seconds": seconds, "created_at": at}  # fmt: skip
            db["comparisons"].insert(row)  # type: ignore[union-attr]
        return row_id

    def scores(self, node_ids: Iterable[str], annotator: str, round: int = 1) -> dict[str, dict[str, int]]:
        """Current scores by one annotator: node id -> dimension -> value. Nodes without any are absent."""
        found: dict[str, dict[str, int]] = {}
        for r in self.rows(
            "SELECT node_id, dimension, value FROM current_scores WHERE annotator = ? AND round = ? "
            "AND node_id IN (SELECT value FROM json_each(?))",
            [annotator, round, json.dumps(list(node_ids))],
        ):
            found.setdefault(r["node_id"], {})[r["dimension"]] = r["value"]
        return found

    def words(self, node_ids: Iterable[str], annotator: str, round: int = 1) -> dict[str, list[dict[str, Any]]]:
        """Every current feedback by one annotator, oldest first, by node: rows of ``feedback``. Nodes without are absent."""
        found: dict[str, list[dict[str, Any]]] = {}
        for r in self.rows(
            "SELECT * FROM current_feedback WHERE annotator = ? AND round = ? "
            "AND node_id IN (SELECT value FROM json_each(?)) ORDER BY id",
            [annotator, round, json.dumps(list(node_ids))],
        ):
            found.setdefault(r["node_id"], []).append(r)
        return found

    def feedback(
        self, node_ids: Iterable[str], annotator: str, round: int = 1
    ) -> dict[str, dict[tuple[str, str], str]]:
        """Current feedback on whole replies and dialogues by one annotator: node id -> (level, kind) -> text."""
        found: dict[str, dict[tuple[str, str], str]] = {}
        for node, rows in self.words(node_ids, annotator, round).items():
            for r in rows:
                if r["dimension"] is None and r["span"] is None:
                    found.setdefault(node, {})[(r["level"], r["kind"])] = r["text"]
        return found

    def history(self, node_id: str) -> list[dict[str, Any]]:
        """Every judgement ever made of a node, newest first.

        Rows of id, made (score, feedback, comparison, step), what (the dimension or the kind), value, level, dimension, span,
        other (the start of the reply compared with, or of the dialogue's last one), annotator, round, created_at, superseded_at.
        """
        return self.rows(HISTORY, {"n": node_id})

    def others(self, node_ids: Iterable[str], annotator: str) -> dict[str, list[dict[str, Any]]]:
        """Current scores by everyone else, by node: rows of dimension, value, annotator (imported ratings, say)."""
        found: dict[str, list[dict[str, Any]]] = {}
        for r in self.rows(
            "SELECT node_id, dimension, value, annotator FROM current_scores WHERE annotator != ? "
            "AND node_id IN (SELECT value FROM json_each(?)) ORDER BY annotator, dimension",
            [annotator, json.dumps(list(node_ids))],
        ):
            found.setdefault(r.pop("node_id"), []).append(r)
        return found
