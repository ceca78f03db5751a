"""Questions that wait for a reply to end, in SQL: put down, changed, claimed once, and what became of them.

``state``: waiting, asking (claimed by the one who asks), held (until the person says so; ``note`` tells why), asked, taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from studio.store.connection import Connection, new_id, now

OPEN = ("waiting", "held")


class Waiting(Connection):
    """Rows of ``waiting``. ``parts``, ``how`` and ``replies`` are JSON there, and plain values here."""

    def add_waiting(self, tree_id: str, reply_id: str, parts: list[dict[str, Any]], how: dict[str, Any]) -> str:
        """A question that waits for a reply; returns its id, durable then."""
        at = now()
        row = {"id": new_id(), "tree_id": tree_id, "reply_id": reply_id, "parts": json.dumps(parts, ensure_ascii=False),
               "how": json.dumps(how, ensure_ascii=False), "state": "waiting", "created_at": at, "changed_at": at}  # fmt: skip
        with self.write() as db:
            db["waiting"].insert(row)  # type: ignore[union-attr]
        return str(row["id"])

    def change_waiting(self, waiting_id: str, *, only: Sequence[str], **changes: Any) -> bool:
        """Change columns of a question that is in one of the states ``only``; whether it was. So one claims it, once."""
        plain = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in changes.items()}
        sets = ", ".join(f"{name} = ?" for name in (*plain, "changed_at"))
        marks = ", ".join("?" * len(only))
        with self.write() as db:
            sql = f"UPDATE waiting SET {sets} WHERE id = ? AND state IN ({marks})"
            return bool(db.execute(sql, [*plain.values(), now(), waiting_id, *only]).rowcount)

    def waiting(self, reply_ids: Iterable[str], states: Sequence[str] = OPEN) -> list[dict[str, Any]]:
        """The questions that wait for these replies, in the order in which they were put down."""
        return self._waiting("reply_id", reply_ids, states)

    def waiting_by_id(
        self, ids: Iterable[str], states: Sequence[str] = (*OPEN, "asking", "asked", "taken")
    ) -> list[dict[str, Any]]:
        """The questions of these ids."""
        return self._waiting("id", ids, states)

    def waiting_in(self, states: Sequence[str]) -> list[dict[str, Any]]:
        """Every question in one of these states."""
        return self._waiting("state", states, states)

    def _waiting(self, column: str, values: Iterable[str], states: Sequence[str]) -> list[dict[str, Any]]:
        rows = self.rows(
            f"SELECT * FROM waiting WHERE {column} IN (SELECT value FROM json_each(?)) "
            "AND state IN (SELECT value FROM json_each(?)) ORDER BY id",
            [json.dumps(list(values)), json.dumps(list(states))],
        )
        return [r | {k: json.loads(r[k]) for k in ("parts", "how", "replies")} for r in rows]
