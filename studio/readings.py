"""What a page shows of a judge's scores: on a row's own scale where it learned from scores, else a rank among siblings.

Plain dicts. A row that never saw a score has no scale: its logits only say which of two replies the judge prefers, and
how surely (Rao and Kupper's model, with the tie margin that was fitted). Computes; reads no store and runs no judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from judge.readings import outcome, paired_spread
from judge.rubric import dimensions

USUAL_SCALE = (0, 3)  # of the two overall rows, which have no dimension of the rubric


class Score(NamedTuple):
    """What a judge says of one reply on one row: in the unit of ``value``, and as the logit by which replies compare."""

    value: float
    spread: float | None = None
    logit: float | None = None
    heads: tuple[float, ...] = ()  # one value a bootstrapped head, in the unit of ``value``
    stale: bool = False


Rows = Mapping[str, Score]  # by row of the judge's head


@dataclass(frozen=True)
class Facts:
    """What is known of a judge, by row: labels of people, pairs derived from scores, scores, and fitted tie margins.

    ``any_scale``: every row is on its scale, as for a chat model that gives the scores themselves.
    """

    trained: Mapping[str, int] = field(default_factory=dict)
    derived_labels: Mapping[str, int] = field(default_factory=dict)
    scored: Mapping[str, int] = field(default_factory=dict)
    ties: Mapping[str, float] = field(default_factory=dict)
    any_scale: bool = False

    def on_scale(self, row: str) -> bool:
        """Whether a value of this row is an expected score."""
        return self.any_scale or bool(self.scored.get(row))


def facts(metrics: Mapping[str, Any]) -> Facts:
    """The facts in a judge's ``metrics``.

    Judges of the first versions kept labels of all kinds in one number: rows of the rubric count as learned from
    scores there, the overall row as learned from comparisons.
    """
    trained = metrics.get("trained") or {}
    scored = metrics["scored"] if "scored" in metrics else {row: n for row, n in trained.items() if row in dimensions()}
    return Facts(trained, metrics.get("derived_labels") or {}, scored or {}, metrics.get("ties") or {})


def as_rows(scores: Mapping[str, Any]) -> dict[str, Score]:
    """Scores by row, whatever kind of tuple the store or the live judge holds them in."""
    return {row: score if isinstance(score, Score) else Score(*score) for row, score in scores.items()}


def scale(row: str) -> tuple[int, int]:
    """Lowest and highest score of a row."""
    known = dimensions().get(row)
    return (known.values[0], known.values[-1]) if known else USUAL_SCALE


def shown(rows: Rows, siblings: Iterable[Rows], about: Facts) -> dict[str, dict[str, Any]]:
    """Each row of a reply as the page draws it, beside its scored ``siblings`` (itself not among them).

    ``value``, ``spread``, ``low``, ``high``: only on a scale. ``rank`` of ``of``, ``win`` and ``tie`` (mean over siblings, of
    a person's three outcomes), ``lead`` over the best other and ``lead_spread`` (paired heads): only with scored siblings.
    ``share``: place on the scale, else ``win``, 0 to 1, for bars and colours; absent where neither is known.
    """
    others = list(siblings)
    return {row: _row(row, score, [o[row] for o in others if row in o], about) for row, score in rows.items()}


def brief(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float | int | None]]:
    """The same for a map of thousands of nodes: share, value, rank, of, win, by row; None where there is none."""
    keys = ("share", "value", "rank", "of", "win")
    return {row: [_rounded(one.get(k)) for k in keys] for row, one in rows.items()}


def of_families(
    scores: Mapping[str, Rows], families: Iterable[Sequence[str]], about: Facts
) -> dict[str, dict[str, dict[str, Any]]]:
    """``shown`` of every scored reply in some families of siblings."""
    read = {}
    for family in families:
        members = [n for n in family if n in scores]
        for node in members:
            read[node] = shown(scores[node], (scores[n] for n in members if n != node), about)
    return read


def _row(row: str, score: Score, others: Sequence[Score], about: Facts) -> dict[str, Any]:
    low, high = scale(row)
    told: dict[str, Any] = {"stale": True} if score.stale else {}
    if about.on_scale(row):
        share = max(0.0, min(1.0, (score.value - low) / (high - low)))
        told |= {"value": score.value, "spread": score.spread, "low": low, "high": high, "share": share}
    elif score.spread:
        told["spread"] = score.spread
    if others:
        told |= _compared(score, others, about.ties.get(row, 0.0))
        told.setdefault("share", told.get("win", _place(told)))
    return told


def _compared(score: Score, others: Sequence[Score], margin: float) -> dict[str, Any]:
    logits = [o.logit for o in others]
    if score.logit is None or None in logits:  # of a judge whose logits were not kept: the order alone is known
        return {"rank": 1 + sum(o.value > score.value for o in others), "of": len(others) + 1}
    ahead = sum(logit > score.logit for logit in logits if logit is not None)
    outcomes = [outcome(score.logit - logit, margin) for logit in logits if logit is not None]
    best = max(others, key=lambda o: o.value)
    return {
        "rank": 1 + ahead, "of": len(others) + 1,
        "win": sum(o.left for o in outcomes) / len(outcomes), "tie": sum(o.tie for o in outcomes) / len(outcomes),
        "lead": score.value - best.value, "lead_spread": paired_spread(score.heads, best.heads),
    }  # fmt: skip


def _place(told: Mapping[str, Any]) -> float:
    """Where a rank stands between last (0) and first (1)."""
    return float((told["of"] - told["rank"]) / (told["of"] - 1))


def _rounded(value: float | int | None) -> float | int | None:
    return round(value, 3) if isinstance(value, float) else value
