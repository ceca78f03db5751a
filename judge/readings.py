"""What a judge says of a reply, as a measurement: logits, expected scores, and how sure it is. No model, no torch.

Owns ``Reading`` and what a card says about the labels behind each row. Never turns a logit into a score of a scale that
the judge has not learned.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from judge.rubric import OVERALL, row_of

if TYPE_CHECKING:
    import torch

    from judge.model import ScoreHead

PEOPLE = ("scores", "pairs", "ties")  # kinds of labels in a card that a person gave


class Outcome(NamedTuple):
    """Probabilities of a comparison's three outcomes; they sum to 1."""

    left: float
    tie: float
    right: float


def outcome(difference: float, tie_margin: float) -> Outcome:
    """Rao and Kupper (JASA 1967): P(left) = sigma(d - m), P(right) = sigma(-d - m), and the rest is a tie.

    ``difference``: left logit minus right logit; ``tie_margin`` m >= 0, 0 where ties were not learned.
    """
    left, right = _sigmoid(difference - tie_margin), _sigmoid(-difference - tie_margin)
    return Outcome(left, max(0.0, 1.0 - left - right), right)


@dataclass(frozen=True)
class Reading:
    """What a judge says of one reply; every dict is by row of its head, and holds the rows that it learned.

    ``logits``: its scalar, by which replies compare; ``expected``: the expected score on the row's own scale, only where
    it learned from scores; ``heads``: one value a bootstrapped head, in the unit of ``value``; ``spread``: their standard
    deviation; ``ties``: the tie margins of its head; ``head_logits``: the scalars of the bootstrapped heads.
    """

    logits: dict[str, float]
    expected: dict[str, float]
    spread: dict[str, float]
    heads: dict[str, tuple[float, ...]] = field(default_factory=dict)
    ties: dict[str, float] = field(default_factory=dict)
    head_logits: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def value(self, row: str) -> float:
        """The expected score where the judge learned from scores, else the logit."""
        return self.expected.get(row, self.logits[row])

    def outcome(self, other: Reading, row: str = OVERALL) -> Outcome:
        """Probabilities that this reply (``left``) is the better one, that neither is, and that the other is."""
        return outcome(self.logits[row] - other.logits[row], self.ties.get(row, 0.0))

    def better_than(self, other: Reading, row: str = OVERALL) -> float:
        """Probability that a person calls this reply the better one: ties count for neither."""
        return self.outcome(other, row).left


def difference_spread(a: Reading, b: Reading, row: str = OVERALL) -> float | None:
    """Standard deviation of ``a - b`` over the heads, each head's two values paired; None with fewer than two heads.

    Heads err together on siblings, so this is mostly far below the sum of the two spreads.
    """
    return paired_spread(a.heads.get(row, ()), b.heads.get(row, ()))


def paired_spread(a: tuple[float, ...], b: tuple[float, ...]) -> float | None:
    """Of the differences between values of the same heads; None where they are not the same heads, or fewer than two."""
    if len(a) != len(b) or len(a) < 2:
        return None
    return statistics.stdev(x - y for x, y in zip(a, b, strict=True))


def read_off(
    head: ScoreHead,
    scalars: torch.Tensor,
    trained: Mapping[str, int] | None = None,
    scored: Mapping[str, int] | None = None,
) -> Reading:
    """Scalars (1 + copies, rows) of one reply as a reading.

    ``trained``: labels by row, silent on rows without any (None: on none); ``scored``: scores of people by row, no expected
    score on rows without any (None: on all).
    """
    logits = scalars.tolist()  # (1 + copies, rows)
    expected = head.expected(scalars).tolist()
    ties = head.tie_margins().tolist()
    rows = [(i, row) for i, row in enumerate(head.rows) if trained is None or trained.get(row)]
    on_scale = {row for _, row in rows if scored is None or scored.get(row)}
    heads = {row: tuple(copy[i] for copy in (expected if row in on_scale else logits)[1:]) for i, row in rows}
    return Reading(
        logits={row: logits[0][i] for i, row in rows},
        expected={row: expected[0][i] for i, row in rows if row in on_scale},
        spread={row: statistics.stdev(v) if len(v) > 1 else 0.0 for row, v in heads.items()},
        heads=heads,
        ties={row: ties[i] for i, row in rows},
        head_logits={row: tuple(copy[i] for copy in logits[1:]) for i, row in rows},
    )


def trained_on(card: Mapping[str, Any]) -> dict[str, int]:
    """Scores, comparisons and ties of people that a judge learned each row from, by its card; rows without are absent."""
    return _counted(card, PEOPLE)


def derived_on(card: Mapping[str, Any]) -> dict[str, int]:
    """Pairs that follow from scores, by row: learned from too, and no labels of their own."""
    return _counted(card, ("derived",))


def scored_on(card: Mapping[str, Any]) -> dict[str, int]:
    """Scores of people, by row: where there is none, the judge knows no scale."""
    return _counted(card, ("scores",))


def facts_of(card: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """``trained``, ``derived_labels`` and ``scored`` of a card."""
    return {"trained": trained_on(card), "derived_labels": derived_on(card), "scored": scored_on(card)}


def _counted(card: Mapping[str, Any], kinds: tuple[str, ...]) -> dict[str, int]:
    known = card.get("model", {}).get("rows")
    counts: Counter[str] = Counter()
    for labels in card["data"]["rows"]:
        row = row_of(labels.get("level", ""), labels["dimension"])
        if known and row not in known:  # the first judges had one row for both kinds of overall
            row = labels["dimension"]
        counts[row] += sum(labels.get(f"train_{kind}", 0) for kind in kinds)
    return {row: n for row, n in counts.items() if n}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
