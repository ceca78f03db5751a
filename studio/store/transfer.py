"""Whole trees as rows, out of one database and into another: ids, times, history and lineage stay.

What comes in is checked (``checks``), judges get the name that they have here (``identity``), and of two judgements of the
same thing by the same person the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlite_utils.utils import sqlite3

from studio import StudioError
from studio.store import identity
from studio.store.checks import CHECKS, row_fault, storable, tree_fault
from studio.store.connection import Connection, now

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
JUDGED = tuple(CHECKS)  # tables of what people and judges say; the others are the tree itself
SETTLED = {  # what makes two judgements of one person the same thing: of these one counts
    "scores": ("node_id", "dimension"),
    "comparisons": ("level", "dimension"),  # and the two replies, whichever side they were on
    "feedback": ("node_id", "level", "kind", "dimension", "span"),
    "crucial_steps": ("leaf_id", "node_id"),
}
Row = dict[str, Any]


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
        dump: dict[str, Any] = {"tree": head[0]} | {
            table: self.rows(sql, {"t": tree_id}) for table, sql in ROWS.items()
        }
        for row in dump["judges"]:  # an older version trained it
            row["weights_hash"] = row["weights_hash"] or identity.weights_hash(self.home, row["name"])
        return dump

    def places(self, node_ids: Iterable[str]) -> dict[str, tuple[str, bool]]:
        """The tree of each message that is here, and whether the message is empty."""
        sql = (
            "SELECT id, tree_id, NOT EXISTS (SELECT 1 FROM parts p WHERE p.node_id = n.id) AS empty "
            "FROM nodes n WHERE id IN (SELECT value FROM json_each(?))"
        )
        return {r["id"]: (r["tree_id"], bool(r["empty"])) for r in self.rows(sql, [json.dumps(list(node_ids))])}

    def add_comparison(self, id: str, left: str, right: str, outcome: str, annotator: str) -> int:
        """A local comparison on the overall dimension from elsewhere, known by its ``id``; returns 1 when it is new.

        Raises StudioError: the two are no siblings, or the outcome is none.
        """
        row = {"id": id, "level": "local", "dimension": "overall", "left_node": left, "right_node": right,
               "outcome": outcome, "annotator": annotator, "round": 1, "created_at": now()}  # fmt: skip
        with self.write() as db:
            found = db.execute("SELECT id, parent_id FROM nodes WHERE id IN (?, ?)", [left, right])
            if fault := row_fault("comparisons", row, {r["id"]: r["parent_id"] for r in found}):
                raise StudioError(f"A comparison{_of(row)}: {fault}.")
            return self._load_row("comparisons", row, "import")

    def load_dump(
        self,
        dump: dict[str, Any],
        where: str,
        left_out: list[str] | None = None,
        sender: str = "",
        annotator: str = "",
    ) -> dict[str, int]:
        """Add what a dump has and this store lacks; returns new rows by table. Call inside ``write()``.

        ``left_out``: where a judgement that cannot come in is noted, while the rest comes in; None: it is an error.
        ``sender``: who made the file, ``annotator``: who imports it ("": unknown); they name the judges of others.

        Raises:
            StudioError: naming ``where`` when a row is malformed, or its id means something else here.
        """
        added = dict.fromkeys(SAME, 0)
        with self.write() as db:
            db.execute(
                "PRAGMA defer_foreign_keys = ON"
            )  # a row may come before the one it refers to; checked at the commit
            parents = self._load_messages(dump, where, added)
            names: dict[str, str] = {}  # of the file's judges -> here
            for table in JUDGED:
                for row in self._rows(dump, table, where):
                    try:
                        added[table] += self._load_judged(table, row, where, parents, names, (sender, annotator))
                    except StudioError as error:
                        if left_out is None:
                            raise
                        left_out.append(str(error))
        return added

    def _load_messages(self, dump: dict[str, Any], where: str, added: dict[str, int]) -> dict[str, str | None]:
        """The tree, its pictures and its messages; returns every message of the tree with the one above it."""
        tree_id = dump["tree"].get("id")
        fresh: set[str] = (
            set()
        )  # of a message that is here the parts are as they are: pictures may stand in other places
        for table in SAME:
            if table in JUDGED:
                continue
            for row in self._rows({"trees": [dump["tree"]]} if table == "trees" else dump, table, where):
                self._expect_key(table, row, where)
                if table in OF_MESSAGE and row.get("node_id") not in fresh:
                    continue
                if table == "nodes" and row.get("tree_id") != tree_id:
                    raise StudioError(f"{where}: the message {row['id']!r:.40} is of another tree.")
                new = self._load_row(table, row, where)
                added[table] += new
                if table == "nodes" and new:
                    fresh.add(row["id"])
        here = self._db.execute("SELECT id, parent_id FROM nodes WHERE tree_id = ?", [tree_id])
        parents = {r["id"]: r["parent_id"] for r in here}
        if fault := tree_fault(parents):
            raise StudioError(f"{where}: {fault}. Is the file whole?")
        return parents

    def _rows(self, dump: dict[str, Any], table: str, where: str) -> Iterator[Row]:
        """The rows of a table in a dump, with the columns that are known here; what is no row has none."""
        known = {r["name"] for r in self._db.execute(f"SELECT name FROM pragma_table_info('{table}')")}
        known -= {"id"} if table == "parts" else set()
        rows = dump.get(table, [])
        if not isinstance(rows, list):
            raise StudioError(f"{where}: {table} is no list of rows.")
        for row in rows:
            columns = row.items() if isinstance(row, dict) else ()
            yield {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in columns if k in known}

    def _expect_key(self, table: str, row: Row, where: str) -> None:
        if any(row.get(k) is None for k in SAME[table]):
            raise StudioError(f"{where}: a row of {table}{_of(row)} lacks {', '.join(SAME[table])}.")

    def _load_judged(
        self,
        table: str,
        row: Row,
        where: str,
        parents: dict[str, str | None],
        names: dict[str, str],
        people: tuple[str, str],
    ) -> int:
        """One judgement, checked; returns how many rows are new. ``people``: who made the file, and who imports it."""
        self._expect_key(table, row, where)
        fault = row_fault(table, row, parents)
        if fault is None and table == "judge_scores" and row["judge"] not in names:
            fault = f"its judge {row['judge']!r:.60} is not in the file"
        if fault:
            raise StudioError(f"{where}: {table}{_of(row)}: {fault}.")
        if table == "judges":
            return self._load_judge(row, where, names, *people)
        if table == "judge_scores":
            row["judge"] = names[row["judge"]]
        return self._load_row(table, row, where)

    def _load_judge(self, row: Row, where: str, names: dict[str, str], sender: str, annotator: str) -> int:
        local = {r["name"]: dict(r) for r in self._db.execute("SELECT * FROM judges")}
        name = identity.name_here(row, local, self.home, sender, annotator)
        names[row["name"]] = name
        if name in local:
            return 0
        if name != row["name"]:
            row |= {"name": name, "made_by": identity.maker_of(row, sender), "path": None}
        return self._load_row("judges", row, where)

    def _load_row(self, table: str, row: Row, where: str) -> int:
        db = self._db
        if odd := next((k for k, v in row.items() if not storable(v)), None):
            raise StudioError(f"{where}: {table}: {odd} holds what no database can keep. Is the file whole?")
        key = " AND ".join(f"{k} = ?" for k in SAME[table])
        old = db.execute(f"SELECT * FROM {table} WHERE {key}", [row[k] for k in SAME[table]]).fetchone()
        if old is not None:
            self._meet(table, row, dict(old), where)
            return 0
        if table in SETTLED and not row.get("superseded_at"):
            self._settle(table, row)
        try:
            columns = ", ".join(row)
            db.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
        except sqlite3.IntegrityError as error:
            raise StudioError(f"{where}: {table}{_of(row)} cannot be kept here ({error}).") from error
        return 1

    def _meet(self, table: str, row: Row, old: Row, where: str) -> None:
        """A row that is here already: the same message must be the same; what became history there is history here."""
        if table == "nodes" and any(old[k] != row.get(k) for k in ("tree_id", "parent_id", "role")):
            raise StudioError(
                f"{where}: the message {row['id']} is another one here. Import into an empty home folder instead."
            )
        if row.get("superseded_at") and "superseded_at" in old and not old["superseded_at"]:
            key = " AND ".join(f"{k} = ?" for k in SAME[table])
            self._db.execute(
                f"UPDATE {table} SET superseded_at = ? WHERE {key}",
                [row["superseded_at"], *(row[k] for k in SAME[table])],
            )

    def _settle(self, table: str, row: Row) -> None:
        """Two current judgements of the same thing by the same person: the later counts, the other becomes history."""
        same = {k: row.get(k) for k in (*SETTLED[table], "annotator")} | {"round": row.get("round", 1)}
        where = " AND ".join(f"{k} IS :{k}" for k in same) + " AND superseded_at IS NULL"
        if table == "comparisons":
            same |= {"left": row["left_node"], "right": row["right_node"]}
            where += " AND left_node IN (:left, :right) AND right_node IN (:left, :right)"
        for ours in self._db.execute(f"SELECT rowid AS at, * FROM {table} WHERE {where}", same).fetchall():
            # of two in one millisecond the ids decide, so that both machines come to the same
            if (ours["created_at"], _id(ours)) > (row["created_at"], _id(row)):
                row["superseded_at"] = ours["created_at"]
            else:
                self._db.execute(
                    f"UPDATE {table} SET superseded_at = ? WHERE rowid = ?", [row["created_at"], ours["at"]]
                )


def _id(row: Any) -> str:
    return str(row["id"]) if "id" in row.keys() else ""  # noqa: SIM118 - a row of SQLite is no dict


def _of(row: Row) -> str:
    """Of which message a judgement is, for a line about it."""
    nodes = [row[k] for k in ("leaf_id", "node_id", "left_node", "right_node") if isinstance(row.get(k), str)]
    return f" of {' and '.join(n[:40] for n in nodes)}" if nodes else ""
