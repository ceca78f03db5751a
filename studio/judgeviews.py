"""What the live judge says, as plain dicts for Explore: scores beside their siblings, what they rest on, what it is doing.

Reads the store and the live judge; runs no judge and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio import readings
from studio.actions import Studio

MOST_GROWN = 64  # growing replies whose last reading is kept
_grown: dict[str, tuple[Any, dict[str, dict[str, Any]]]] = {}  # by reply: the live judge's reading, and as it is shown


def live_judge(studio: Studio, tree: str) -> dict[str, Any]:
    """The live judge's name (None without one) and, by row, what it learned from: labels of people, derived pairs, scores."""
    about = facts(studio)
    return {"judge": studio.judge.name, "trained": dict(about.trained), "derived": dict(about.derived_labels),
            "scored": dict(about.scored), "judge_state": state(studio, tree)}  # fmt: skip


def state(studio: Studio, tree: str | None = None) -> dict[str, Any] | None:
    """What the live judge is doing, for the line on Explore: its name and ``LiveJudge.state``; None without one.

    ``unread``: replies of ``tree`` that it cannot read, and why.
    """
    name = studio.judge.name
    if name is None:
        return None
    return {"judge": name, **studio.judge.state, "unread": studio.judge.unread(tree) if tree else {}}


def facts(studio: Studio) -> readings.Facts:
    """What the live judge learned from; nothing without one."""
    return readings.facts(studio.judge.facts) if studio.judge.name else readings.Facts()


def scores(studio: Studio, tree_id: str, families: Sequence[Sequence[str]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What the live judge says of the replies in some families of siblings, as ``readings.shown``; nothing without one."""
    name = studio.judge.name
    if not name:
        return {}
    stored = {n: readings.as_rows(rows) for n, rows in studio.store.judge_scores(tree_id, name).items()}
    return readings.of_families(stored, {tuple(f) for f in families}, facts(studio))


def growing_scores(studio: Studio, node: str) -> dict[str, dict[str, Any]] | None:
    """What the live judge says of a reply that grows, beside its siblings that are whole; None before its first words.

    Nothing, {}, once it is longer than the judge reads: what was said of its beginning is no score of it.
    """
    rows, name = studio.judge.growing.get(node), studio.judge.name
    if rows is None or not name:
        return None
    if not rows:
        return {}
    if (known := _grown.get(node)) and known[0] is rows:  # asked for many times a second, read anew twice a second
        return known[1]
    at = studio.store.node(node)
    stored = studio.store.judge_scores(at.tree_id, name)
    beside = [readings.as_rows(stored[n]) for n in studio.store.siblings([at])[node] if n != node and n in stored]
    told = readings.shown(readings.as_rows(rows), beside, facts(studio))
    if len(_grown) > MOST_GROWN:
        _grown.clear()
    _grown[node] = (rows, told)
    return told
