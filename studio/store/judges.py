"""Judges and what they said, in SQL. A judge's row appears when it is trained, and never changes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from judge.examples import NAME
from studio import StudioError
from studio.store import identity
from studio.store.connection import now
from studio.store.images import Images

if TYPE_CHECKING:
    from judge.readings import Reading

ZERO_SHOT = identity.ZERO_SHOT


UNJUDGED = (  # of a reply ``n``; its parameter is the judge
    "role = 'assistant' AND status != 'streaming' AND EXISTS (SELECT 1 FROM parts p WHERE p.node_id = n.id) "
    "AND NOT EXISTS (SELECT 1 FROM judge_scores s WHERE s.judge = ? AND s.node_id = n.id AND s.stale_at IS NULL)"
)


class JudgeScore(NamedTuple):
    """What a judge says of a reply on one row. ``heads``: a value of each bootstrapped head, in the unit of ``value``.

    ``stale``: what stands in or above the reply has changed since. Rows of earlier versions have neither logit nor heads.
    """

    value: float
    spread: float | None = None
    logit: float | None = None
    heads: tuple[float, ...] = ()
    stale: bool = False


class JudgeScoreRow(NamedTuple):
    """The same on its way into the store."""

    node: str
    dimension: str
    value: float
    spread: float | None = None
    logit: float | None = None
    heads: tuple[float, ...] = ()


def score_rows(readings: Mapping[str, Reading]) -> list[JudgeScoreRow]:
    """Readings by node as rows of the store."""
    return [
        JudgeScoreRow(node, row, reading.value(row), reading.spread[row], logit, reading.heads.get(row, ()))
        for node, reading in readings.items()
        for row, logit in reading.logits.items()
    ]


def parse_score(row: Mapping[str, Any]) -> JudgeScore:
    """A row of ``judge_scores``; ``heads`` is a JSON list there."""
    heads = tuple(json.loads(row["heads"])) if row["heads"] else ()
    return JudgeScore(row["value"], row["spread"], row["logit"], heads, row["stale_at"] is not None)


class Judges(Images):
    """Rows of ``judges`` and ``judge_scores``; the weights are files elsewhere."""

    def add_judge(
        self,
        name: str,
        base: str,
        config: dict[str, Any],
        data_hash: str,
        metrics: dict[str, Any],
        path: str,
        weights_hash: str | None = None,
        made_by: str = "",
    ) -> None:
        """Remember a trained judge, with the hash of its weights (of its folder, if none is given); durable on return.

        A judge that is known keeps its row. Another one of that name, from a file, goes on as "name (its maker)".
        """
        weights = weights_hash or identity.weights_hash(self.home, name)
        row = {"name": name, "base": base, "config": json.dumps(config, default=list), "data_hash": data_hash,
               "metrics": json.dumps(metrics), "path": path, "created_at": now(), "weights_hash": weights,
               "made_by": made_by or None}  # fmt: skip
        with self.write() as db:
            local = {r["name"]: dict(r) for r in db.execute("SELECT * FROM judges")}
            if name in local and not identity.belongs(local[name], weights, data_hash):
                self._step_aside(local[name], identity.free_name(name, identity.maker_of(local[name], ""), local))
            db["judges"].insert(row, ignore=True)  # type: ignore[union-attr]

    def _step_aside(self, row: dict[str, Any], name: str) -> None:
        """Inside a transaction: give a judge that came from a file another name, and its scores with it."""
        row = row | {"name": name, "path": None, "made_by": identity.maker_of(row, "")}
        old = identity.base_name(name)
        self._db["judges"].insert(row)  # type: ignore[union-attr]
        self._db.execute("UPDATE judge_scores SET judge = ? WHERE judge = ?", [name, old])
        self._db.execute("DELETE FROM judges WHERE name = ?", [old])

    def judges(self, kind: str = "trained") -> list[dict[str, Any]]:
        """Every judge of a kind, newest first, with config and metrics as dicts: trained, or zero-shot (a chat model with the rubric).
        A name that no judge here can have (a file that was imported may hold any) is left out: names are used as folders.
        """
        rows = [
            r | {"config": json.loads(r["config"]), "metrics": json.loads(r["metrics"])}
            for r in self.rows("SELECT * FROM judges ORDER BY created_at DESC, rowid DESC")
            if NAME.fullmatch(r["name"])
        ]
        return [r for r in rows if (isinstance(r["config"], dict) and r["config"].get("kind") == ZERO_SHOT) == (kind == ZERO_SHOT)]  # fmt: skip

    def save_judge_scores(self, judge: str, scores: Iterable[tuple[Any, ...]], read_at: str | None = None) -> int:
        """Put ``JudgeScoreRow``s (or their beginnings) in place of what the judge said before; returns their number.

        ``read_at``: when the dialogue was read. What has changed since then stays marked as stale.

        Raises StudioError when there is no such judge.
        """
        at = now()
        rows = [
            (judge, r.node, r.dimension, r.value, r.spread, r.logit, _heads(r.heads), at, read_at)
            for r in (JudgeScoreRow(*score) for score in scores)
        ]
        with self.write() as db:
            if not db.execute("SELECT 1 FROM judges WHERE name = ?", [judge]).fetchone():
                raise StudioError(
                    f"There is no judge {judge!r} in this home. Train it with: intermt-studio train --name {judge}"
                )
            db.conn.executemany(
                "INSERT INTO judge_scores (judge, node_id, dimension, value, spread, logit, heads, created_at) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET value = excluded.value, "
                "spread = excluded.spread, logit = excluded.logit, heads = excluded.heads, "
                "created_at = excluded.created_at, stale_at = CASE WHEN stale_at > ?9 THEN stale_at END",
                rows,
            )
            for node in [n for n, when in self.marked.items() if read_at and when > read_at]:
                self.mark_stale(node)  # it changed while the judge read
        return len(rows)

    def judge_scores(self, tree_id: str, judge: str) -> dict[str, dict[str, JudgeScore]]:
        """What a judge said of a tree, by node and row; stale scores are among them, and marked."""
        scores: dict[str, dict[str, JudgeScore]] = {}
        sql = (
            "SELECT s.node_id, s.dimension, s.value, s.spread, s.logit, s.heads, s.stale_at "
            "FROM judge_scores s JOIN nodes n ON n.id = s.node_id WHERE n.tree_id = ? AND s.judge = ?"
        )
        for row in self.rows(sql, [tree_id, judge]):
            scores.setdefault(row["node_id"], {})[row["dimension"]] = parse_score(row)
        return scores

    def unjudged(self, tree_id: str, judge: str) -> list[str]:
        """Replies of a tree that are whole, say something, and have no score by this judge, or a stale one; oldest first."""
        sql = f"SELECT id FROM nodes n WHERE tree_id = ? AND {UNJUDGED} ORDER BY id"
        return [r["id"] for r in self.rows(sql, [tree_id, judge])]

    def unjudged_trees(self, judge: str) -> dict[str, int]:
        """How many such replies each tree has; the tree with the newest of them first."""
        sql = f"SELECT tree_id, count(*) AS n FROM nodes n WHERE {UNJUDGED} GROUP BY tree_id ORDER BY max(id) DESC"
        return {r["tree_id"]: r["n"] for r in self.rows(sql, [judge])}

    def labels_since(self, at: str) -> int:
        """How many scores and comparisons that count were given after this moment."""
        sql = (
            "SELECT (SELECT count(*) FROM current_scores WHERE created_at > :at) "
            "+ (SELECT count(*) FROM current_comparisons WHERE created_at > :at) AS n"
        )
        return int(self.rows(sql, {"at": at})[0]["n"])

    def labels_mark(self) -> tuple[Any, ...]:
        """A value that changes with the labels, or with the dialogues under them; not with what a judge says of them."""
        parts = [
            f"(SELECT count(*) || ' ' || count({ended}) || ' ' || coalesce(max({ended}), '') FROM {table})"
            for table, ended in (("scores", "superseded_at"), ("comparisons", "superseded_at"), ("nodes", "pruned_at"),
                                 ("parts", "image_sha256"), ("proposals", "changed_at"))
        ]  # fmt: skip
        parts.append("(SELECT count(*) FROM queue_items WHERE verdict = 'returned')")
        parts.append("(SELECT count(*) FROM nodes WHERE status = 'streaming')")
        sql = f"SELECT {', '.join(f'{part} AS c{i}' for i, part in enumerate(parts))}"
        return tuple(self.rows(sql)[0].values())

    def rated_trees(self) -> list[str]:
        """Trees in which somebody has scored or compared something: the ones that a judge can learn from."""
        sql = (
            "SELECT DISTINCT tree_id FROM nodes WHERE id IN (SELECT node_id FROM current_scores "
            "UNION SELECT left_node FROM current_comparisons) ORDER BY tree_id"
        )
        return [r["tree_id"] for r in self.rows(sql)]


def _heads(heads: tuple[float, ...]) -> str | None:
    return json.dumps([round(value, 4) for value in heads]) if heads else None
