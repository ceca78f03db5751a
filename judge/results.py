"""What a judge is measured by: one compared pair, one scored reply, each beside what people said of it.

Plain records, made by ``judge.measure`` or by hand. Computes no measure and knows no judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from judge.rubric import OVERALL, JudgeError, dimensions, row_of

Array = np.ndarray[Any, Any]
Result = dict[str, Any]
NONE = {"value": None, "interval": None}


@dataclass(frozen=True, slots=True)
class PairResult:
    """One compared pair. ``outcome``: the human's. ``left``, ``right``, ``tie_margin`` (Rao-Kupper, >= 0): the judge's logits.

    ``tree``: the group of trees that it belongs to, which a bootstrap draws whole. ``human_margin``: the difference of scores
    that it was derived from; None: a person compared. ``left_tokens``, ``right_tokens``: of the whole compared chain, counted
    by the judge. ``spread``: standard deviation of left - right over bootstrapped heads, paired; None: unknown. ``cut``: the
    judge read it without its beginning.
    """

    tree: str
    level: str
    dimension: str
    turn: int
    depth: int
    outcome: str
    left: float
    right: float
    tie_margin: float = 0.0
    left_tokens: int = 0
    right_tokens: int = 0
    human_margin: float | None = None
    group: str = ""
    annotator: str = ""
    spread: float | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        _check_finite(self, "left", "right", "tie_margin")
        if self.outcome not in ("left", "right", "tie") or self.tie_margin < 0:
            raise JudgeError(f"{self.outcome!r}, {self.tie_margin}: a pair takes left, right or tie, a margin >= 0.")
        if self.spread is not None and not 0 <= self.spread < math.inf:
            raise JudgeError(f"{self.dimension} in tree {self.tree}: spread is {self.spread}. Score again.")

    @property
    def row(self) -> str:
        """The row of the head that scored it."""
        return row_of(self.level, self.dimension)


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """One scored reply of a held-out tree: the human's ``value`` and what the judge ``expected``, on the same scale.

    ``values``: the scale, lowest first; ``probabilities``: the judge's of each of them; () where they are unknown.
    """

    tree: str
    level: str
    dimension: str
    turn: int
    depth: int
    value: int
    expected: float
    group: str = ""
    annotator: str = ""
    cut: bool = False
    values: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_finite(self, "value", "expected")
        where = f"{self.dimension} in tree {self.tree}"
        if self.values and self.value not in self.values:
            legal = ", ".join(map(str, self.values))
            raise JudgeError(f"{where}: {self.value} is not one of {legal}. Rate it again on this scale.")
        if self.probabilities:
            whole = math.isclose(math.fsum(self.probabilities), 1.0, abs_tol=1e-3)
            if len(self.probabilities) != len(self.values) or not whole or min(self.probabilities) < -1e-6:
                raise JudgeError(
                    f"{where}: {self.probabilities} are no probabilities of {self.values}. Score again with the judge."
                )

    @property
    def row(self) -> str:
        """The row of the head that scored it."""
        return row_of(self.level, self.dimension)

    @property
    def top(self) -> int:
        """The highest score of the scale; 3 where the scale is unknown."""
        return max(self.values, default=3)


Pairs = Sequence[PairResult]
Scores = Sequence[ScoreResult]
# of another judge, in the order of the pairs: (left, right) or (left, right, tie margin); None where it did not answer
Others = Mapping[str, Sequence[tuple[float, ...] | None]]


def decided(pairs: Pairs) -> tuple[list[PairResult], Array, Array]:
    """The pairs that the human decided; +1 for each left, -1 for each right; the judge's left - right."""
    kept = [p for p in pairs if p.outcome != "tie"]
    human = np.array([1.0 if p.outcome == "left" else -1.0 for p in kept])
    return kept, human, np.array([p.left - p.right for p in kept], dtype=float)


def credit(human: Array, difference: Array) -> Array:
    """1 where the sign is the human's, 0 where it is the other, 1/2 where there is no difference."""
    return (1 + human * np.sign(difference)) / 2


def dimension_order(level: str, dimension: str) -> tuple[bool, int, str]:
    """Sorts overall first, then the rubric's order, then the rest by name; local before global."""
    order = {code: i for i, code in enumerate([OVERALL, *dimensions()])}
    return level != "local", order.get(dimension, len(order)), dimension


def nearest(expected: float, values: Sequence[int]) -> int:
    """An expected score as a level of its scale: halves up, never off the scale; () is the whole numbers."""
    return min(values, key=lambda v: (abs(v - expected), -v)) if values else math.floor(expected + 0.5)


def _check_finite(record: PairResult | ScoreResult, *names: str) -> None:
    for name in names:
        if not math.isfinite(value := getattr(record, name)):
            where = f"{record.dimension} in tree {record.tree}"
            raise JudgeError(f"{where}: {name} is {value}. Score again, or train again with a lower learning rate.")
