"""Rows of ``images``: what each picture is, where it came from, and what it was made of. The files belong to ``media``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from studio.store.connection import Connection, now


class Images(Connection):
    """One row an image, by the SHA-256 of its stored bytes."""

    def add_image(
        self, sha256: str, mime: str, width: int, height: int, bytes: int, origin: str, **fields: Any
    ) -> None:
        """Record an image; one that is known already keeps its first record. ``params`` as a dict."""
        row = {"sha256": sha256, "mime": mime, "width": width, "height": height, "bytes": bytes, "origin": origin,
               "created_at": now()} | fields  # fmt: skip
        row["params"] = json.dumps(row.get("params") or {})
        with self.write() as db:
            db["images"].insert(row, ignore=True)  # type: ignore[union-attr]

    def images(self, hashes: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Rows by hash; all of them when ``hashes`` is None."""
        if hashes is None:
            rows = self.rows("SELECT * FROM images")
        else:
            sql = "SELECT * FROM images WHERE sha256 IN (SELECT value FROM json_each(?))"
            rows = self.rows(sql, [json.dumps(list(hashes))])
        return {r["sha256"]: r | {"params": json.loads(r["params"])} for r in rows}

    def derived_images(self, hashes: Iterable[str]) -> list[str]:
        """Hashes of the pictures that were made of these, the oldest first; a grid was made of each of its pictures."""
        rows = self.rows(
            "SELECT DISTINCT i.sha256, i.created_at FROM json_each(?) made JOIN images i ON i.source_sha256 = made.value "
            "OR (i.tool LIKE '%grid%' AND instr(i.params, made.value)) ORDER BY i.created_at, i.sha256",
            [json.dumps(list(hashes))],
        )
        return [r["sha256"] for r in rows]

    def image_uses(self, hashes: Iterable[str]) -> list[dict[str, Any]]:
        """The messages that show these pictures: sha256, node_id, tree_id, title, role, model, created_at, caption; 200 at most."""
        return self.rows(
            "SELECT p.image_sha256 AS sha256, n.id AS node_id, n.tree_id, t.title, n.role, n.model, n.created_at, p.caption "
            "FROM json_each(?) wanted JOIN parts p ON p.image_sha256 = wanted.value JOIN nodes n ON n.id = p.node_id "
            "JOIN trees t ON t.id = n.tree_id ORDER BY n.id LIMIT 200",
            [json.dumps(list(hashes))],
        )

    def missing_images(self) -> list[dict[str, Any]]:
        """Image parts whose file was absent at import: node_id, ordinal, reference (``text``), caption."""
        return self.rows(
            "SELECT node_id, ordinal, text AS reference, caption FROM parts "
            "WHERE kind = 'image' AND image_sha256 IS NULL ORDER BY node_id, ordinal"
        )

    def fill_image(self, node_id: str, ordinal: int, sha256: str) -> None:
        """Give an image part its file, which has come now. What judges said here and below is stale now."""
        with self.write() as db:
            db.execute(
                "UPDATE parts SET image_sha256 = ? WHERE node_id = ? AND ordinal = ?", [sha256, node_id, ordinal]
            )
            self.mark_stale(node_id)

    def mark_stale(self, node_id: str) -> None:
        """Mark what judges said of a message and of all below it: they read something else than what stands there now."""
        with self.write() as db:
            self.marked[node_id] = at = now()
            db.execute(
                "WITH RECURSIVE below(id) AS (SELECT ? UNION ALL SELECT n.id FROM nodes n JOIN below b ON n.parent_id = b.id) "
                "UPDATE judge_scores SET stale_at = ? WHERE node_id IN below",
                [node_id, at],
            )
