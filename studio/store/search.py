"""Full-text search over every part of every branch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from studio.store.connection import Connection
from studio.tree import Role


@dataclass(frozen=True, slots=True)
class Hit:
    """One found part. ``before``, ``match``, ``after`` are plain text around the first match."""

    tree_id: str
    node_id: str
    title: str
    role: Role
    before: str
    match: str
    after: str


class Search(Connection):
    """Words in, places in trees out."""

    def search(self, words: str, limit: int = 50) -> list[Hit]:
        """Parts on any branch that contain every word (the last one as a prefix), best first. Any input is safe."""
        quoted = [f'"{w}"' for w in re.sub(r'["\x00]', " ", words).split()]
        if not quoted:
            return []
        rows = self.rows(
            "SELECT n.tree_id, n.id, t.title, n.role, snippet(parts_fts, -1, char(1), char(2), '…', 14) AS found "
            "FROM parts_fts JOIN parts p ON p.id = parts_fts.rowid JOIN nodes n ON n.id = p.node_id "
            "JOIN trees t ON t.id = n.tree_id WHERE parts_fts MATCH ? ORDER BY rank LIMIT ?",
            [" ".join(quoted) + "*", limit],
        )
        hits = []
        for r in rows:
            before, _, rest = r["found"].partition("\x01")
            match, _, after = rest.partition("\x02")
            after = after.replace("\x01", "").replace("\x02", "")
            hits.append(Hit(r["tree_id"], r["id"], r["title"], r["role"], before, match, after))
        return hits
