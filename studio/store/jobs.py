"""Long work in SQL: what runs in a process of its own, how far it is, how it ended."""

from __future__ import annotations

import json
from typing import Any

from studio.store.connection import Connection, new_id, now


class Jobs(Connection):
    """Rows of ``jobs``. ``status``: running, done, stopped or failed."""

    def add_job(self, kind: str, payload: dict[str, Any]) -> str:
        """A job that begins now; returns its id."""
        job_id = new_id()
        row = {"id": job_id, "kind": kind, "status": "running", "payload": json.dumps(payload), "started_at": now()}
        with self.write() as db:
            db["jobs"].insert(row)  # type: ignore[union-attr]
        return job_id

    def update_job(self, job_id: str, **changes: Any) -> None:
        """Change columns of a job; a status other than running ends it."""
        if changes.get("status", "running") != "running":
            changes.setdefault("finished_at", now())
        with self.write() as db:
            db["jobs"].update(job_id, changes)  # type: ignore[union-attr]

    def jobs(self, kind: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Jobs, newest first, the payload as a dict."""
        rows = self.rows("SELECT * FROM jobs WHERE ? IN (kind, '') ORDER BY id DESC LIMIT ?", [kind or "", limit])
        return [r | {"payload": json.loads(r["payload"])} for r in rows]
