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

    def missing_images(self) -> list[dict[str, Any]]:
        """Image parts whose file was absent at import: node_id, ordinal, reference (``text``), caption."""
        return self.rows(
            "SELECT node_id, ordinal, text AS reference, caption FROM parts "
            "WHERE kind = 'image' AND image_sha256 IS NULL ORDER BY node_id, ordinal"
        )

    def fill_image(self, node_id: str, ordinal: int, sha256: str) -> None:
        """Give an image part its file, which has come now."""
        with self.write() as db:
            db.execute(
                "UPDATE parts SET image_sha256 = ? WHERE node_id = ? AND ordinal = ?", [sha256, node_id, ordinal]
            )
