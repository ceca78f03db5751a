"""Trees, nodes and parts in SQL: growing them, walking them, searching them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from studio import StudioError
from studio.store.connection import Connection, new_id, now
from studio.tree import Node, Part, Role, Tree

NODE_FIELDS = ("backend", "model", "params", "status", "error", "prompt_tokens", "completion_tokens", "first_token_ms",
               "latency_ms", "starred", "pruned_at", "created_at", "source_id")  # fmt: skip
PATH = """
WITH RECURSIVE up(id, parent_id, height) AS (
  SELECT id, parent_id, 0 FROM nodes WHERE id = ?
  UNION ALL SELECT n.id, n.parent_id, up.height + 1 FROM up JOIN nodes n ON n.id = up.parent_id
)
SELECT nodes.* FROM up JOIN nodes ON nodes.id = up.id ORDER BY up.height DESC
"""
LEAF = """
WITH RECURSIVE down(id) AS (
  SELECT ?
  UNION ALL SELECT (
    SELECT c.id FROM nodes c WHERE c.parent_id = down.id AND c.pruned_at IS NULL
    ORDER BY EXISTS (SELECT 1 FROM nodes g WHERE g.parent_id = c.id AND g.pruned_at IS NULL) DESC, c.id DESC LIMIT 1
  ) FROM down WHERE down.id IS NOT NULL
)
SELECT id FROM down WHERE id IS NOT NULL
"""
SUBTREE = """
WITH RECURSIVE sub(id) AS (SELECT ? UNION ALL SELECT n.id FROM sub JOIN nodes n ON n.parent_id = sub.id)
"""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of the list of dialogues. ``rated`` counts replies with at least one score; ``last_at`` is UTC ISO 8601."""

    id: str
    title: str
    tags: list[str]
    source: str
    questions: int
    replies: int
    rated: int
    removed: bool
    last_at: str


def as_node(row: dict[str, Any], parts: Iterable[Part] = ()) -> Node:
    """A row of ``nodes`` as a Node."""
    fields = {k: v for k, v in row.items() if k in Node.__dataclass_fields__}
    fields |= {"params": json.loads(row["params"] or "{}"), "starred": bool(row["starred"]), "parts": list(parts)}
    return Node(**fields)


class Trees(Connection):
    """Nodes are only ever added: an edit or a retry is a new sibling. Pruning marks, and can be undone."""

    # ---- reading

    def node(self, node_id: str) -> Node:
        """One node with its parts. Raises StudioError when there is none."""
        return self._nodes(self.rows("SELECT * FROM nodes WHERE id = ?", [node_id]), str(node_id))[0]

    def path(self, node_id: str) -> list[Node]:
        """The nodes from the root to ``node_id``, both included. Raises StudioError when there is no such node."""
        return self._nodes(self.rows(PATH, [node_id]), str(node_id))

    def leaf(self, node_id: str) -> str:
        """Where the dialogue through ``node_id`` ends: at each step the newest child that goes on, else the newest; none pruned."""
        found = self.rows(LEAF, [node_id])
        return str(found[-1]["id"])

    def siblings(self, nodes: Sequence[Node]) -> dict[str, list[str]]:
        """For each node the ids that share its parent, itself included, in order."""
        rows = self.rows(
            "SELECT me.value AS me, n.id FROM json_each(?) me JOIN nodes m ON m.id = me.value "
            "JOIN nodes n ON n.tree_id = m.tree_id AND n.parent_id = m.parent_id ORDER BY n.ordinal, n.id",
            [json.dumps([n.id for n in nodes if n.parent_id])],
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["me"], []).append(row["id"])
        for root in (n for n in nodes if n.parent_id is None):
            mine = "SELECT id FROM nodes WHERE tree_id = ? AND parent_id IS NULL ORDER BY ordinal, id"
            found[root.id] = [r["id"] for r in self.rows(mine, [root.tree_id])]
        return found

    def tree(self, tree_id: str) -> Tree:
        """A whole tree with its parts. Raises StudioError when there is none."""
        head = self.rows("SELECT * FROM trees WHERE id = ?", [tree_id])
        if not head:
            raise StudioError(
                f"No dialogue has the id {tree_id[:40]!r}: it may be in another home folder. Choose one from the list."
            )
        rows = self.rows("SELECT * FROM nodes WHERE tree_id = ? ORDER BY id", [tree_id])
        nodes = self._nodes(rows) if rows else []
        return Tree(
            tree_id, head[0]["title"], json.loads(head[0]["tags"]), head[0]["source"], head[0]["created_at"], nodes
        )

    def title(self, tree_id: str) -> str:
        """The title of a tree, '' when there is none."""
        return "".join(r["title"] for r in self.rows("SELECT title FROM trees WHERE id = ?", [tree_id]))

    def outline(self, tree_id: str) -> list[dict[str, Any]]:
        """Every node of a tree in one cheap query, parents first: what a map needs, without whole texts.

        ``label`` is at most 120 characters; ``rated`` counts the current L1-L4 scores by any annotator.
        """
        return self.rows(
            "SELECT n.id, n.parent_id, n.role, n.status, n.starred, n.pruned_at, n.model, "
            "(SELECT substr(text, 1, 120) FROM parts p WHERE p.node_id = n.id AND p.kind = 'text' ORDER BY ordinal LIMIT 1) AS label, "
            "(SELECT image_sha256 FROM parts p WHERE p.node_id = n.id AND p.image_sha256 IS NOT NULL ORDER BY ordinal LIMIT 1) AS image, "
            "(SELECT count(DISTINCT dimension) FROM current_scores s WHERE s.node_id = n.id AND dimension IN ('L1','L2','L3','L4')) AS rated "
            "FROM nodes n WHERE n.tree_id = ? ORDER BY n.ordinal, n.id",
            [tree_id],
        )

    def trees(self, removed: bool = False, limit: int = 500) -> list[TreeRow]:
        """The list of dialogues, last used first. ``removed``: those whose every root was pruned, instead of the others."""
        rows = self.rows(
            "SELECT t.*, count(n.id) FILTER (WHERE n.role = 'user') AS questions, "
            "count(n.id) FILTER (WHERE n.role = 'assistant') AS replies, "
            "(SELECT count(DISTINCT s.node_id) FROM nodes m JOIN current_scores s ON s.node_id = m.id WHERE m.tree_id = t.id) AS rated, "
            "count(n.id) FILTER (WHERE n.parent_id IS NULL AND n.pruned_at IS NULL) AS roots, "
            "coalesce(max(n.created_at), t.created_at) AS last_at "
            "FROM trees t LEFT JOIN nodes n ON n.tree_id = t.id GROUP BY t.id "
            "HAVING (count(n.id) > 0 AND roots = 0) = ? ORDER BY max(coalesce(max(n.id), ''), t.id) DESC LIMIT ?",
            [removed, limit],
        )
        return [TreeRow(r["id"], r["title"], json.loads(r["tags"]), r["source"], r["questions"], r["replies"],
                        r["rated"], removed, r["last_at"]) for r in rows]  # fmt: skip

    def streaming(self, tree_id: str | None = None) -> list[str]:
        """Ids of the replies that are still growing."""
        where, args = (" AND tree_id = ?", [tree_id]) if tree_id else ("", [])
        return [r["id"] for r in self.rows(f"SELECT id FROM nodes WHERE status = 'streaming'{where}", args)]

    def by_source(self, source_ids: Iterable[str]) -> dict[str, str]:
        """Node ids of what was imported before, by the id it has at its source."""
        sql = "SELECT source_id, id FROM nodes WHERE source_id IN (SELECT value FROM json_each(?))"
        return {r["source_id"]: r["id"] for r in self.rows(sql, [json.dumps(list(source_ids))])}

    def counts(self) -> dict[str, int]:
        """Rows of every table that holds the person's work."""
        names = (
            "trees",
            "nodes",
            "parts",
            "images",
            "scores",
            "comparisons",
            "feedback",
            "crucial_steps",
            "judges",
            "jobs",
        )
        return {n: self.rows(f"SELECT count(*) AS n FROM {n}")[0]["n"] for n in names}

    # ---- growing

    def create_tree(self, title: str = "", tags: Iterable[str] = (), source: str = "", **fields: Any) -> str:
        """A new, empty tree; returns its id. ``fields`` may give id and created_at (for an import)."""
        row = {
            "id": new_id(),
            "title": title,
            "tags": json.dumps(list(tags)),
            "source": source,
            "created_at": now(),
        } | fields
        with self.write() as db:
            db["trees"].insert(row)  # type: ignore[union-attr]
        return str(row["id"])

    def rename_tree(self, tree_id: str, title: str) -> None:
        """Give a tree another title."""
        with self.write() as db:
            db.execute("UPDATE trees SET title = ? WHERE id = ?", [title, tree_id])

    def add_node(
        self, tree_id: str, parent_id: str | None, role: Role, parts: Sequence[Part] = (), **fields: Any
    ) -> str:
        """A new last sibling; returns its id. ``fields``: columns of ``nodes`` (params as a dict), ``id`` for an import."""
        row = {"id": fields.pop("id", None) or new_id(), "tree_id": tree_id, "parent_id": parent_id, "role": role,
               "created_at": now()} | {k: fields[k] for k in NODE_FIELDS if fields.get(k) is not None}  # fmt: skip
        row["params"] = json.dumps(row.get("params", {}), ensure_ascii=False)
        names = ", ".join(row)
        with self.write() as db:
            db.execute(
                f"INSERT INTO nodes ({names}, ordinal) SELECT {', '.join('?' * len(row))}, "
                "(SELECT count(*) FROM nodes WHERE tree_id = ? AND parent_id IS ?)",
                [*row.values(), tree_id, parent_id],
            )
            self._set_parts(str(row["id"]), parts)
        return str(row["id"])

    def grow(self, node_id: str, parts: Sequence[Part], facts: dict[str, Any] | None = None, **fields: Any) -> None:
        """Replace the parts of a reply that is still growing, add ``facts`` to its params, and set columns (status, token
        counts, times), durably."""
        with self.write() as db:
            self._set_parts(node_id, parts)
            if facts:
                patch = json.dumps(facts, ensure_ascii=False)
                db.execute("UPDATE nodes SET params = json_patch(params, ?) WHERE id = ?", [patch, node_id])
            if fields:
                sets = ", ".join(f"{k} = ?" for k in fields if k in NODE_FIELDS)
                db.execute(f"UPDATE nodes SET {sets} WHERE id = ?", [*fields.values(), node_id])

    def recover(self) -> int:
        """Mark replies that were growing when the studio was killed as stopped, their text kept. Call at start only."""
        with self.write() as db:
            message = "The studio was closed while this reply was growing."
            return db.execute(
                "UPDATE nodes SET status = 'stopped', error = ? WHERE status = 'streaming'", [message]
            ).rowcount

    # ---- marking

    def star(self, node_id: str, on: bool) -> None:
        """Star a node, or take the star away."""
        with self.write() as db:
            db.execute("UPDATE nodes SET starred = ? WHERE id = ?", [on, node_id])

    def prune(self, node_id: str) -> int:
        """Mark a node, and so all below it, as pruned; returns how many nodes that hides."""
        with self.write() as db:
            db.execute("UPDATE nodes SET pruned_at = ? WHERE id = ? AND pruned_at IS NULL", [now(), node_id])
        return int(self.rows(SUBTREE + "SELECT count(*) AS n FROM sub", [node_id])[0]["n"])

    def restore(self, node_id: str) -> None:
        """Take a prune back, on the node and on everything above it."""
        ids = [n.id for n in self.path(node_id)]
        with self.write() as db:
            db.execute(
                "UPDATE nodes SET pruned_at = NULL WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(ids)]
            )

    # ---- inside

    def _nodes(self, rows: list[dict[str, Any]], wanted: str | None = None) -> list[Node]:
        if not rows and wanted is not None:
            raise StudioError(
                f"No message has the id {wanted[:40]!r}: it may be in another home folder. Reload the page."
            )
        parts: dict[str, list[Part]] = {}
        for p in self.rows(
            "SELECT node_id, kind, text, image_sha256, caption FROM parts "
            "WHERE node_id IN (SELECT value FROM json_each(?)) ORDER BY node_id, ordinal",
            [json.dumps([r["id"] for r in rows])],
        ):
            parts.setdefault(p["node_id"], []).append(Part(p["kind"], p["text"], p["image_sha256"], p["caption"]))
        return [as_node(r, parts.get(r["id"], ())) for r in rows]

    def _set_parts(self, node_id: str, parts: Sequence[Part]) -> None:
        """Inside a transaction: make the parts of a node these, touching only what changed."""
        db = self._db
        old = [tuple(r) for r in db.execute(
            "SELECT kind, text, image_sha256, caption FROM parts WHERE node_id = ? ORDER BY ordinal", [node_id])]  # fmt: skip
        for i, p in enumerate(parts):
            new = (p.kind, p.text, p.image_sha256, p.caption)
            if i >= len(old):
                db.execute("INSERT INTO parts (kind, text, image_sha256, caption, node_id, ordinal) VALUES (?, ?, ?, ?, ?, ?)",
                           [*new, node_id, i])  # fmt: skip
            elif old[i] != new:
                db.execute("UPDATE parts SET kind = ?, text = ?, image_sha256 = ?, caption = ? WHERE node_id = ? AND ordinal = ?",
                           [*new, node_id, i])  # fmt: skip
        db.execute("DELETE FROM parts WHERE node_id = ? AND ordinal >= ?", [node_id, len(parts)])
