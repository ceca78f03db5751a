"""Crucial steps in SQL: the replies on which a dialogue turned, and why. Append-only, like every judgement.

A dialogue is named by its last reply, the leaf. Holds no order: steps are numbered along the path by whoever shows them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from studio.store.connection import Connection, now

KEY = "leaf_id = ? AND node_id = ? AND annotator = ? AND round = ?"


class Steps(Connection):
    """A step that is current has no ``superseded_at``."""

    def mark_step(self, leaf_id: str, node_id: str, reason: str | None, annotator: str, round: int = 1) -> None:
        """Make a reply a crucial step of a dialogue, with a reason that may be empty (None: no step); durable on return.

        The same again is no new row. Raises StudioError when there is no such reply.
        """
        key = [leaf_id, node_id, annotator, round]
        reason = None if reason is None else reason.strip()
        with self.write() as db:
            old = db.execute(
                f"SELECT coalesce(reason, '') AS reason FROM crucial_steps WHERE {KEY} AND superseded_at IS NULL", key
            ).fetchone()
            if (old["reason"] if old else None) == reason:
                return
            # a row is known by its time (see transfer.SAME): two of one step must not share a millisecond
            while db.execute(
                f"SELECT 1 FROM crucial_steps WHERE {KEY} AND created_at = ?", [*key, at := now()]
            ).fetchone():
                time.sleep(0.001)  # fmt: skip
            db.execute(f"UPDATE crucial_steps SET superseded_at = ? WHERE {KEY} AND superseded_at IS NULL", [at, *key])
            if reason is not None:
                db.execute(
                    "INSERT INTO crucial_steps (leaf_id, node_id, annotator, round, reason, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                    [*key, reason, at],
                )

    def steps(self, leaf_ids: Iterable[str], annotator: str, round: int = 1) -> dict[str, dict[str, dict[str, Any]]]:
        """Current crucial steps by one annotator: leaf -> node -> reason and created_at. Leaves without any are absent."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for r in self.rows(
            "SELECT leaf_id, node_id, coalesce(reason, '') AS reason, created_at FROM crucial_steps WHERE superseded_at IS NULL "
            "AND annotator = ? AND round = ? AND leaf_id IN (SELECT value FROM json_each(?)) ORDER BY created_at",
            [annotator, round, json.dumps(list(leaf_ids))],
        ):
            found.setdefault(r["leaf_id"], {})[r["node_id"]] = {"reason": r["reason"], "created_at": r["created_at"]}
        return found
