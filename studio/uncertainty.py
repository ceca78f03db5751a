"""What two scores with their spreads say of each other: how far apart, how surely, what would be learned by asking.

Pure arithmetic on a judge's expected scores. Knows no dialogue and no screen, and never rounds a doubt away.
"""

from __future__ import annotations

import math

from judge.readings import paired_spread
from studio.store.judges import JudgeScore

# a judge's value and its spread, then perhaps its logit and a value of each bootstrapped head: rows of earlier versions have
# no heads
Said = tuple[float, float | None] | JudgeScore


def gap(a: Said, b: Said) -> tuple[float, float]:
    """How far ``a`` is above ``b``, and the spread of that difference.

    That of the differences of paired heads, where both have the same: heads err together on siblings. Else
    sqrt(sa² + sb²), as if the two were independent, which errs towards "too close to call".
    """
    paired = paired_spread(_heads(a), _heads(b))
    return a[0] - b[0], math.hypot(a[1] or 0.0, b[1] or 0.0) if paired is None else paired


def _heads(score: Said) -> tuple[float, ...]:
    return score.heads if isinstance(score, JudgeScore) else ()


def margin_in_spreads(a: Said, b: Said) -> float:
    """The difference counted in spreads, without its sign: 0 where the judge cannot choose, inf where nothing is unsure."""
    difference, spread = gap(a, b)
    return abs(difference) / spread if spread else (math.inf if difference else 0.0)


def probability(a: Said, b: Said) -> float:
    """How probably the judge would put ``a`` above ``b`` if it had learned from another sample of the same labels.

    Phi(difference / spread), the spread being that of bootstrapped heads.
    """
    difference, spread = gap(a, b)
    if not spread:
        return 0.5 + 0.5 * ((difference > 0) - (difference < 0))
    return 0.5 * (1 + math.erf(difference / (spread * math.sqrt(2))))


def entropy(p: float) -> float:
    """Of a choice between two, in bits: 1 at p = 0.5, 0 where it is certain."""
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
