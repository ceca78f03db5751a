"""Several rankings become one, and pictures that look alike become one place in it. Pure arithmetic on ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RRF_K = 60  # Cormack, Clarke and Buettcher, "Reciprocal rank fusion", SIGIR 2009
ALIKE = 6  # of 64 bits may differ between two pictures that look the same


@dataclass(frozen=True, slots=True)
class Candidate:
    """What folding needs of a picture: its content's hash, and how it looks (None: not known)."""

    id: int
    sha256: str
    looks: int | None


def fused(rankings: Mapping[str, Sequence[int]], k: int = RRF_K) -> list[tuple[int, float]]:
    """Ids with the sum of 1 / (k + rank) over the rankings, best first; rank counts from 1. Ties stay in the order of the first."""
    scores: dict[int, float] = {}
    for ranking in rankings.values():
        for rank, found in enumerate(ranking, 1):
            scores[found] = scores.get(found, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def folded(candidates: Sequence[Candidate], most: int) -> list[tuple[int, list[int]]]:
    """The first ``most`` ids that do not look like a better one, each with the ids of those that do."""
    kept: list[tuple[Candidate, list[int]]] = []
    for one in candidates:
        same = next((alike for other, alike in kept if _same(one, other)), None)
        if same is not None:
            same.append(one.id)
        elif len(kept) < most:
            kept.append((one, []))
    return [(one.id, alike) for one, alike in kept]


def _same(a: Candidate, b: Candidate) -> bool:
    if a.sha256 == b.sha256:
        return True
    return a.looks is not None and b.looks is not None and ((a.looks ^ b.looks) & (2**64 - 1)).bit_count() <= ALIKE
