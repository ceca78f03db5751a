"""Queues of things to judge, in SQL. A queue is planned once; its items keep their order and what was shown where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from judge import rubric
from studio import StudioError
from studio.store.connection import Connection, new_id, now

NEWEST = (  # of the judges that were trained here: those of others have their maker in brackets
    "SELECT name FROM judges WHERE CASE WHEN json_valid(config) THEN json_extract(config, '$.kind') END IS NOT 'zero-shot' "
    "AND name NOT GLOB '* (*)' "
    "ORDER BY created_at DESC, rowid DESC LIMIT 1"
)
_ALIVE = (
    "WITH RECURSIVE alive(id, tree_id, parent_id, role, depth) AS ("
    "SELECT id, tree_id, parent_id, role, 1 FROM nodes WHERE parent_id IS NULL AND pruned_at IS NULL{} UNION ALL "
    "SELECT n.id, n.tree_id, n.parent_id, n.role, depth + 1 FROM nodes n JOIN alive a ON n.parent_id = a.id WHERE n.pruned_at IS NULL) "
)
ALIVE, ALIVE_IN = _ALIVE.format(""), _ALIVE.format(" AND tree_id IN (SELECT value FROM json_each(:trees))")

NEXT = """
SELECT id, queue_id, nodes, state, seconds, revealed_at FROM queue_items i WHERE queue_id = ? AND state = 'pending' AND NOT EXISTS (
  WITH RECURSIVE up(parent_id, pruned_at) AS (
    SELECT parent_id, pruned_at FROM nodes WHERE id IN (SELECT value FROM json_each(i.nodes))
    UNION ALL SELECT n.parent_id, n.pruned_at FROM up JOIN nodes n ON n.id = up.parent_id
  )
  SELECT 1 FROM up WHERE pruned_at IS NOT NULL
) ORDER BY ordinal LIMIT 1 OFFSET ?
"""


@dataclass(frozen=True)
class Item:
    """One thing to judge. ``nodes``: one reply, siblings, or ends of dialogues, in the order in which they are shown.

    ``revealed``: in a second pass, whether the first scores have been shown.
    """

    id: str
    queue_id: str
    nodes: tuple[str, ...]
    state: str
    seconds: float | None
    revealed: bool = False


@dataclass(frozen=True)
class Candidate:
    """A whole reply on no pruned branch. ``scenario``: its tree's first tag. ``rated``: dimensions this annotator has scored in this round."""

    id: str
    tree_id: str
    parent_id: str
    depth: int
    model: str
    scenario: str
    leaf: bool
    rated: int
    apart: float | None


class Queues(Connection):
    """At most one queue is open for an annotator and round; planning another closes it."""

    def candidates(
        self,
        annotator: str,
        round: int,
        level: str,
        tree_ids: Sequence[str] = (),
        models: Sequence[str] = (),
        scenarios: Sequence[str] = (),
    ) -> list[Candidate]:
        """Everything that can be judged, in order of age. ``level``: whose dimensions count as rated; empty filters: no filter.

        ``apart``: how far the newest judge is from this annotator's own scores, at most.
        """
        codes = [code for code, d in rubric.dimensions().items() if d.level == level]
        sql = (
            ALIVE + "SELECT n.id, n.tree_id, n.parent_id, a.depth, coalesce(n.model, '') AS model, "
            "coalesce(json_extract(t.tags, '$[0]'), '') AS scenario, "
            "NOT EXISTS (SELECT 1 FROM nodes c WHERE c.parent_id = n.id AND c.pruned_at IS NULL) AS leaf, coalesce(r.rated, 0) AS rated, "
            "j.apart FROM alive a JOIN nodes n ON n.id = a.id JOIN trees t ON t.id = n.tree_id "
            "LEFT JOIN (SELECT node_id, count(*) AS rated FROM current_scores WHERE annotator = :who AND round = :round "
            "AND dimension IN (SELECT value FROM json_each(:codes)) GROUP BY node_id) r ON r.node_id = n.id "
            "LEFT JOIN (SELECT s.node_id, max(abs(s.value - c.value)) AS apart FROM judge_scores s "
            "LEFT JOIN current_scores c ON c.node_id = s.node_id AND c.dimension = s.dimension AND c.annotator = :who "
            "WHERE s.judge = (" + NEWEST + ") AND s.dimension IN (SELECT value FROM json_each(:codes)) "
            "GROUP BY s.node_id) j ON j.node_id = n.id "
            "WHERE n.role = 'assistant' AND n.parent_id IS NOT NULL AND n.status IN ('done', 'stopped') "
            "AND EXISTS (SELECT 1 FROM parts p WHERE p.node_id = n.id AND (p.kind = 'image' OR trim(p.text, char(9, 10, 13, 32)) != '')) "
            "AND (:trees = '[]' OR n.tree_id IN (SELECT value FROM json_each(:trees))) "
            "AND (:models = '[]' OR coalesce(n.model, '') IN (SELECT value FROM json_each(:models))) "
            "AND (:scenarios = '[]' OR EXISTS (SELECT 1 FROM json_each(t.tags) WHERE value IN "
            "(SELECT value FROM json_each(:scenarios)))) ORDER BY n.id"
        )
        given = {
            "who": annotator,
            "round": round,
            "codes": json.dumps(codes),
            "trees": json.dumps(list(tree_ids)),
            "models": json.dumps(list(models)),
            "scenarios": json.dumps(list(scenarios)),
        }
        return [Candidate(**r | {"leaf": bool(r["leaf"])}) for r in self.rows(sql, given)]

    def queue_filters(self) -> dict[str, list[str]]:
        """What a queue can be narrowed to: models that have answered, and tags of trees. Both sorted."""
        models = (
            "SELECT DISTINCT model AS value FROM nodes WHERE role = 'assistant' AND model IS NOT NULL ORDER BY model"
        )
        tags = "SELECT DISTINCT j.value FROM trees t, json_each(t.tags) j ORDER BY j.value"
        return {
            "models": [r["value"] for r in self.rows(models)],
            "scenarios": [str(r["value"]) for r in self.rows(tags)],
        }

    def compared(self, annotator: str, round: int, level: str) -> set[frozenset[str]]:
        """Pairs that this annotator has compared in this round."""
        sql = "SELECT left_node, right_node FROM current_comparisons WHERE annotator = ? AND round = ? AND level = ?"
        return {frozenset((r["left_node"], r["right_node"])) for r in self.rows(sql, [annotator, round, level])}

    def plan_queue(self, kind: str, rule: str, filters: dict[str, Any], seed: int, annotator: str, round: int, goal: int,
                   groups: Iterable[Sequence[str]]) -> str:  # fmt: skip
        """Make a queue of these groups of nodes and close the one before; returns its id. Durable when this returns."""
        queue_id, at = new_id(), now()
        rows = [(f"{queue_id}-{i}", queue_id, i, json.dumps(list(nodes))) for i, nodes in enumerate(groups)]
        with self.write() as db:
            db.execute("UPDATE queues SET closed_at = ? WHERE annotator = ? AND closed_at IS NULL", [at, annotator])
            row = {"id": queue_id, "kind": kind, "rule": rule, "filters": json.dumps(filters), "seed": seed, "annotator": annotator,
                   "round": round, "goal": goal, "total": len(rows), "created_at": at}  # fmt: skip
            db["queues"].insert(row)  # type: ignore[union-attr]
            db.conn.executemany("INSERT INTO queue_items (id, queue_id, ordinal, nodes) VALUES (?, ?, ?, ?)", rows)
        return queue_id

    def open_queue(self, annotator: str) -> dict[str, Any] | None:
        """The queue that is open, with its filters as a dict."""
        found = self.rows(
            "SELECT * FROM queues WHERE annotator = ? AND closed_at IS NULL ORDER BY id DESC LIMIT 1", [annotator]
        )
        return found[0] | {"filters": json.loads(found[0]["filters"])} if found else None

    def next_item(self, queue_id: str, after: int = 0) -> Item | None:
        """The first item that is not done and of which nothing has been pruned since; ``after``: so many of them passed over."""
        found = self.rows(NEXT, [queue_id, after])
        return _item(found[0]) if found else None

    def queue_item(self, item_id: str) -> Item:
        """One item. Raises StudioError when there is none."""
        found = self.rows(
            "SELECT id, queue_id, nodes, state, seconds, revealed_at FROM queue_items WHERE id = ?", [str(item_id)]
        )
        if not found:
            raise StudioError("This item is in no queue any more. Reload the page.")
        return _item(found[0])

    def item_at_hand(self, item_id: str, annotator: str) -> tuple[Item, dict[str, Any]]:
        """An item and the open queue it belongs to. Raises StudioError when another queue is open, or none."""
        item, queue = self.queue_item(item_id), self.open_queue(annotator)
        if queue is None or queue["id"] != item.queue_id:
            raise StudioError("Another queue has been opened since. Reload the page; what was saved stays.")
        return item, queue

    def reveal_item(self, item_id: str) -> None:
        """Note that the first scores of an item have been shown; that stays true."""
        with self.write() as db:
            db.execute("UPDATE queue_items SET revealed_at = coalesce(revealed_at, ?) WHERE id = ?", [now(), item_id])

    def finish_item(self, item_id: str, seconds: float | None, verdict: str | None = None) -> None:
        """Mark an item as done, once, with what a second pass said of it; durable when this returns."""
        with self.write() as db:
            set_done = (
                "UPDATE queue_items SET state = 'done', seconds = ?, done_at = ?, verdict = ? "
                "WHERE id = ? AND state = 'pending'"
            )
            if db.execute(set_done, [seconds, now(), verdict, item_id]).rowcount:
                db.execute(
                    "UPDATE queues SET done = done + 1 WHERE id = (SELECT queue_id FROM queue_items WHERE id = ?)",
                    [item_id],
                )

    def reopen_item(self, item_id: str) -> None:
        """Put an item back as the next one: what undo does."""
        with self.write() as db:
            first = "coalesce((SELECT min(ordinal) - 1 FROM queue_items o WHERE o.queue_id = queue_items.queue_id AND o.state = 'pending'), 0)"
            again = f"UPDATE queue_items SET state = 'pending', done_at = NULL, verdict = NULL, ordinal = {first} WHERE id = ? AND state = 'done'"
            if db.execute(again, [item_id]).rowcount:
                db.execute(
                    "UPDATE queues SET done = done - 1 WHERE id = (SELECT queue_id FROM queue_items WHERE id = ?)",
                    [item_id],
                )

    def skip_item(self, item_id: str) -> None:
        """Put an item at the end of its queue."""
        with self.write() as db:
            db.execute(
                "UPDATE queue_items SET ordinal = (SELECT max(ordinal) + 1 FROM queue_items o "
                "WHERE o.queue_id = queue_items.queue_id AND o.state = 'pending') WHERE id = ? AND state = 'pending'",
                [item_id],
            )

    def latest_seconds(self, queue_id: str, n: int = 20) -> list[float]:
        """How long the latest items of a queue took, newest first."""
        sql = "SELECT seconds FROM queue_items WHERE queue_id = ? AND done_at IS NOT NULL ORDER BY done_at DESC LIMIT ?"
        return [r["seconds"] for r in self.rows(sql, [queue_id, n]) if r["seconds"] is not None]

    def withdraw_comparisons(self, ids: Iterable[str]) -> None:
        """Supersede comparisons: what undo does. Those they replaced stay superseded."""
        with self.write() as db:
            db.execute("UPDATE comparisons SET superseded_at = ? WHERE superseded_at IS NULL AND id IN (SELECT value FROM json_each(?))",
                       [now(), json.dumps(list(ids))])  # fmt: skip


def _item(row: dict[str, Any]) -> Item:
    nodes = tuple(json.loads(row["nodes"]))
    return Item(row["id"], row["queue_id"], nodes, row["state"], row["seconds"], bool(row["revealed_at"]))
