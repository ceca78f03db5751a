"""What the statistics are counted from, in SQL. Reads only; every judgement counts, also on pruned branches, coverage excepted."""

from __future__ import annotations

from typing import Any

from studio.store.connection import Connection

Row = dict[str, Any]

TURNS = (
    "WITH RECURSIVE down(id, role, status, turn) AS ("
    "SELECT id, role, status, role = 'assistant' FROM nodes WHERE parent_id IS NULL AND pruned_at IS NULL UNION ALL "
    "SELECT n.id, n.role, n.status, turn + (n.role = 'assistant') FROM down d JOIN nodes n ON n.parent_id = d.id "
    "WHERE n.pruned_at IS NULL) "
)


class Figures(Connection):
    """Read-only queries over judgements of all annotators."""

    def ratings(self) -> list[Row]:
        """Every current score, oldest first: node, tree, dimension, annotator, round, value, created_at."""
        return self.rows(
            "SELECT s.node_id AS node, n.tree_id AS tree, s.dimension, s.annotator, s.round, s.value, s.created_at "
            "FROM current_scores s JOIN nodes n ON n.id = s.node_id ORDER BY s.id"
        )

    def overlaps(self) -> list[Row]:
        """Every two raters (an annotator in a round) with ``n`` scores on the same node and dimension: a, a_round, b, b_round, n.

        Two rounds of one annotator come first, then most in common.
        """
        return self.rows(
            "SELECT a.annotator AS a, a.round AS a_round, b.annotator AS b, b.round AS b_round, count(*) AS n "
            "FROM current_scores a JOIN current_scores b ON b.node_id = a.node_id AND b.dimension = a.dimension "
            "AND (a.annotator, a.round) < (b.annotator, b.round) "
            "GROUP BY a.annotator, a.round, b.annotator, b.round ORDER BY a.annotator = b.annotator DESC, n DESC, a, b"
        )

    def coverage(self, annotator: str) -> list[Row]:
        """Whole replies on no pruned branch by turn, and how many have a score by anyone, and by ``annotator``."""
        return self.rows(
            TURNS + "SELECT turn, count(*) AS replies, "
            "sum(EXISTS (SELECT 1 FROM current_scores s WHERE s.node_id = down.id)) AS rated, "
            "sum(EXISTS (SELECT 1 FROM current_scores s WHERE s.node_id = down.id AND s.annotator = ?)) AS mine "
            "FROM down WHERE role = 'assistant' AND status IN ('done', 'stopped') GROUP BY turn ORDER BY turn",
            [annotator],
        )

    def touched(self, annotator: str) -> Row:
        """How many trees there are, and how many hold a current score or comparison by anyone, and by ``annotator``."""
        return self.rows(
            "WITH judged(tree_id, annotator) AS ("
            "SELECT n.tree_id, s.annotator FROM current_scores s JOIN nodes n ON n.id = s.node_id UNION "
            "SELECT n.tree_id, c.annotator FROM current_comparisons c JOIN nodes n ON n.id = c.left_node) "
            "SELECT (SELECT count(*) FROM trees) AS trees, (SELECT count(DISTINCT tree_id) FROM judged) AS touched, "
            "(SELECT count(DISTINCT tree_id) FROM judged WHERE annotator = ?) AS mine",
            [annotator],
        )[0]

    def comparison_counts(self) -> list[Row]:
        """Current comparisons by level and dimension: left, right, tie; and how many of the ``shown`` decided ones the side
        shown on the left won."""
        return self.rows(
            "SELECT level, dimension, sum(outcome = 'left') AS left, sum(outcome = 'right') AS right, sum(outcome = 'tie') AS tie, "
            "sum(outcome <> 'tie' AND shown_left IS NOT NULL) AS shown, "
            "coalesce(sum(outcome <> 'tie' AND shown_left = CASE outcome WHEN 'left' THEN left_node ELSE right_node END), 0) AS shown_left "
            "FROM current_comparisons GROUP BY level, dimension ORDER BY level DESC, dimension"
        )

    def pair_counts(self) -> list[Row]:
        """``preference_pairs`` by level and dimension: decided comparisons, ties, and pairs derived from scores."""
        return self.rows(
            "SELECT level, dimension, sum(source = 'comparison' AND NOT tie) AS explicit, sum(tie) AS ties, "
            "sum(source = 'score') AS derived FROM preference_pairs GROUP BY level, dimension ORDER BY level DESC, dimension"
        )

    def times_taken(self) -> list[Row]:
        """What was timed, and the seconds: current comparisons by level, items of a queue by its kind."""
        return self.rows(
            "SELECT 'comparison' AS what, level AS kind, seconds FROM current_comparisons WHERE seconds IS NOT NULL UNION ALL "
            "SELECT 'item', q.kind, i.seconds FROM queue_items i JOIN queues q ON q.id = i.queue_id "
            "WHERE i.seconds IS NOT NULL AND i.state = 'done'"
        )

    def judgement_times(self) -> list[tuple[str, str]]:
        """(time, annotator) of every score, comparison and feedback ever made: a changed mind is work too."""
        found = self.rows(
            "SELECT created_at, annotator FROM scores UNION ALL SELECT created_at, annotator FROM comparisons "
            "UNION ALL SELECT created_at, annotator FROM feedback"
        )
        return [(r["created_at"], r["annotator"]) for r in found]
