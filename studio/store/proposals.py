"""Rows of ``proposals``: what was proposed for a token of a message, and what became of it; and a message's parts around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from studio import StudioError
from studio.store.connection import new_id, now
from studio.store.images import Images
from studio.store.trees import Trees
from studio.tree import Part

BROKEN_OFF = "The studio was closed while this was at work. Run it again."


class Proposals(Trees, Images):
    """One current row a token: its message and its place there. What came before stays, superseded."""

    def propose(self, node_id: str, place: int, caption: str, tool: str, decided_by: str, why: str = "",
                params: dict[str, Any] | None = None, note: str = "") -> str:  # fmt: skip
        """Keep a proposal for a token, in the place of an earlier one; returns its id. ``note``: what stands in its way."""
        at = now()
        row = {"id": new_id(), "node_id": node_id, "place": place, "caption": caption, "tool": tool, "decided_by": decided_by, "why": why,
               "params": json.dumps(params or {}, ensure_ascii=False), "state": "proposed", "note": note, "created_at": at,
               "changed_at": at}  # fmt: skip
        with self.write() as db:
            db.execute("UPDATE proposals SET superseded_at = ? WHERE node_id = ? AND place = ? AND superseded_at IS NULL",
                       [at, node_id, place])  # fmt: skip
            db["proposals"].insert(row)  # type: ignore[union-attr]
        return str(row["id"])

    def proposal(self, proposal_id: str) -> dict[str, Any]:
        """One row, ``params`` as a dict. Raises StudioError when there is none."""
        rows = self.rows("SELECT * FROM proposals WHERE id = ?", [str(proposal_id)])
        if not rows:
            raise StudioError(f"No picture was proposed under {str(proposal_id)[:40]!r}. Reload the page.")
        return rows[0] | {"params": json.loads(rows[0]["params"])}

    def proposals(self, node_ids: Iterable[str]) -> dict[str, dict[int, dict[str, Any]]]:
        """The current rows of messages, by node and place."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        sql = "SELECT * FROM proposals WHERE superseded_at IS NULL AND node_id IN (SELECT value FROM json_each(?))"
        for row in self.rows(sql, [json.dumps(list(node_ids))]):
            found.setdefault(row["node_id"], {})[row["place"]] = row | {"params": json.loads(row["params"])}
        return found

    def turn_proposal(self, proposal_id: str, state: str, states: Sequence[str], note: str = "",
                      image_sha256: str | None = None) -> bool:  # fmt: skip
        """Bring a proposal from one of ``states`` to another; False, and nothing changed, when it is in none of them."""
        with self.write() as db:
            return bool(db.execute(
                "UPDATE proposals SET state = ?, note = ?, image_sha256 = coalesce(?, image_sha256), changed_at = ? "
                "WHERE id = ? AND superseded_at IS NULL AND state IN (SELECT value FROM json_each(?))",
                [state, note, image_sha256, now(), proposal_id, json.dumps(list(states))]).rowcount)  # fmt: skip

    def break_off(self) -> int:
        """Say of what was at work when the studio ended that it was broken off. Call at start only."""
        with self.write() as db:
            return db.execute(
                "UPDATE proposals SET state = 'failed', note = ?, changed_at = ? WHERE state = 'running'",
                [BROKEN_OFF, now()],
            ).rowcount

    def rearrange(self, node_id: str, parts: Sequence[Part], follow: Callable[[str], str]) -> None:
        """Give a message other parts, because a picture came or went. What judges said here and below is stale: they had
        not seen it. ``follow`` tells, of a place that feedback points to (JSON), where it is now."""
        with self.write() as db:
            self._set_parts(node_id, parts)
            for row in db.execute(
                "SELECT id, span FROM feedback WHERE node_id = ? AND span IS NOT NULL", [node_id]
            ).fetchall():
                if (there := follow(row["span"])) != row["span"]:
                    db.execute("UPDATE feedback SET span = ? WHERE id = ?", [there, row["id"]])
            self.mark_stale(node_id)
