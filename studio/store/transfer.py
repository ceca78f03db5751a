"""Whole trees as rows, out of one database and into another: ids, times, history and lineage stay."""

from __future__ import annotations

import json
from typing import Any

from studio import StudioError
from studio.store.connection import Connection

IN_TREE = "node_id IN (SELECT id FROM nodes WHERE tree_id = :t)"
LINEAGE = """
WITH RECURSIVE used(sha256) AS (
  SELECT image_sha256 FROM parts WHERE image_sha256 IS NOT NULL AND node_id IN (SELECT id FROM nodes WHERE tree_id = :t)
  UNION SELECT image_sha256 FROM proposals WHERE image_sha256 IS NOT NULL AND node_id IN (SELECT id FROM nodes WHERE tree_id = :t)
  UNION SELECT i.source_sha256 FROM used JOIN images i ON i.sha256 = used.sha256 WHERE i.source_sha256 IS NOT NULL
)
SELECT * FROM images WHERE sha256 IN (SELECT sha256 FROM used)
"""
ROWS = {  # table -> the rows that belong to a tree, each after what it refers to
    "images": LINEAGE,
    "nodes": "SELECT * FROM nodes WHERE tree_id = :t ORDER BY rowid",
    "parts": f"SELECT node_id, ordinal, kind, text, image_sha256, caption FROM parts WHERE {IN_TREE} ORDER BY node_id, ordinal",
    "scores": f"SELECT * FROM scores WHERE {IN_TREE} ORDER BY id",
    "comparisons": "SELECT * FROM comparisons WHERE left_node IN (SELECT id FROM nodes WHERE tree_id = :t) ORDER BY id",
    "feedback": f"SELECT * FROM feedback WHERE {IN_TREE} ORDER BY id",
    "crucial_steps": f"SELECT * FROM crucial_steps WHERE {IN_TREE}",
    "proposals": f"SELECT * FROM proposals WHERE {IN_TREE} ORDER BY id",
    "judges": f"SELECT * FROM judges WHERE name IN (SELECT judge FROM judge_scores WHERE {IN_TREE})",
    "judge_scores": f"SELECT * FROM judge_scores WHERE {IN_TREE}",
}
SAME = {  # what makes two rows the same one
    "trees": ("id",), "images": ("sha256",), "nodes": ("id",), "parts": ("node_id", "ordinal"), "scores": ("id",),
    "comparisons": ("id",), "feedback": ("id",), "crucial_steps": ("leaf_id", "node_id", "annotator", "round", "created_at"),
    "proposals": ("id",), "judges": ("name",), "judge_scores": ("judge", "node_id", "dimension"),
}  # fmt: skip
OF_MESSAGE = ("parts", "proposals")  # what comes with a message, or not at all


class Transfer(Connection):
    """Dumps and loads trees for the studio's own file format."""

    def tree_ids(self) -> list[str]:
        """Ids of all trees, oldest first."""
        return [r["id"] for r in self.rows("SELECT id FROM trees ORDER BY id")]

    def dump_tree(self, tree_id: str) -> dict[str, Any]:
        """A tree as rows by table. Raises StudioError when there is none."""
        head = self.rows("SELECT * FROM trees WHERE id = ?", [tree_id])
        if not head:
            raise StudioError(f"No dialogue has the id {tree_id[:40]!r}.")
        return {"tree": head[0]} | {table: self.rows(sql, {"t": tree_id}) for table, sql in ROWS.items()}

    def load_dump(self, dump: dict[str, Any], where: str) -> dict[str, int]:
        """Add what a dump has and this store lacks; returns new rows by table. Call inside ``write()``.

        Raises:
            StudioError: naming ``where`` when a row is malformed, or its id means something else here.
        """
        added = dict.fromkeys(SAME, 0)
        fresh: set[str] = (
            set()
        )  # of a message that is here the parts are as they are: pictures may stand in other places
        with self.write() as db:
            db.execute(
                "PRAGMA defer_foreign_keys = ON"
            )  # a row may come before the one it refers to; checked at the commit
            for table in SAME:
                rows = [dump["tree"]] if table == "trees" else dump.get(table, [])
                known = {r["name"] for r in db.execute(f"SELECT name FROM pragma_table_info('{table}')")} - (
                    {"id"} if table == "parts" else set()
                )
                for row in rows:
                    if not isinstance(row, dict) or any(row.get(k) is None for k in SAME[table]):
                        raise StudioError(f"{where}: a row of {table} lacks {', '.join(SAME[table])}.")
                    if table in OF_MESSAGE and row.get("node_id") not in fresh:
                        continue
                    new = self._load_row(table, {k: v for k, v in row.items() if k in known}, where)
                    added[table] += new
                    if table == "nodes" and new:
                        fresh.add(row["id"])
        return added

    def _load_row(self, table: str, row: dict[str, Any], where: str) -> int:
        db = self._db
        key = " AND ".join(f"{k} = ?" for k in SAME[table])
        old = db.execute(f"SELECT * FROM {table} WHERE {key}", [row[k] for k in SAME[table]]).fetchone()
        if old is not None:
            if table == "nodes" and (old["tree_id"], old["parent_id"], old["role"]) != (
                row.get("tree_id"),
                row.get("parent_id"),
                row.get("role"),
            ):
                raise StudioError(
                    f"{where}: the message {row['id']} is another one here. Import into an empty home folder instead."
                )
            if row.get("superseded_at") and "superseded_at" in old.keys() and not old["superseded_at"]:  # noqa: SIM118
                db.execute(
                    f"UPDATE {table} SET superseded_at = ? WHERE {key}",
                    [row["superseded_at"], *(row[k] for k in SAME[table])],
                )
            return 0
        if table == "scores" and not row.get("superseded_at"):
            self._settle(row)
        names = ", ".join(row)
        values = [v if not isinstance(v, (dict, list)) else json.dumps(v) for v in row.values()]
        db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", values)
        return 1

    def _settle(self, row: dict[str, Any]) -> None:
        """Two current scores of the same thing by the same person: the later one counts, the other becomes history."""
        key = [row["node_id"], row["dimension"], row["annotator"], row.get("round", 1)]
        where = "node_id = ? AND dimension = ? AND annotator = ? AND round = ? AND superseded_at IS NULL"
        ours = self._db.execute(f"SELECT id, created_at FROM scores WHERE {where}", key).fetchone()
        if ours is None:
            return
        if ours["created_at"] > row["created_at"]:
            row["superseded_at"] = ours["created_at"]
        else:
            self._db.execute("UPDATE scores SET superseded_at = ? WHERE id = ?", [row["created_at"], ours["id"]])
