"""Orders of a queue that ask the judge: where it is least sure, and what would teach it most per minute of work.

Works on what the judge said, expected scores and their spread, and on how long this person takes. Owns no SQL and no screen.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from judge.rubric import OVERALL
from studio.store import Candidate
from studio.uncertainty import Said, entropy, gap, margin_in_spreads, probability

Group = list[Candidate]
Told = Mapping[str, Mapping[str, Said]]  # by reply and dimension
PACE_S = {"rate": 30.0, "local": 20.0, "global": 45.0}  # a reply or dialogue, until this person's own pace is known
SHOWN = {"rate": "reply to rate", "local": "reply to compare", "global": "dialogue to compare"}
HINTS = {
    "unsure": "Replies by the judge’s mean spread, widest first; comparisons by their difference over its spread, smallest first.",
    "teach": "Most for each second first: the judge’s spread on what you have not rated, or of comparisons the spread of the difference "
    "times how open the outcome is in bits, over your own median time (until you have one: {}); every dialogue once before any twice.",
}


def hints() -> dict[str, str]:
    """What a rule does, in a sentence, where its name does not say it all."""
    default = ", ".join(f"{PACE_S[kind]:.0f} s a {what}" for kind, what in SHOWN.items())
    return {rule: text.format(default) for rule, text in HINTS.items()}


def pace(kind: str, items: Sequence[tuple[float, int]]) -> float:
    """Seconds that a reply shown takes this person in this kind of queue: the median, or ``PACE_S`` before there is any.

    ``items``: seconds and number of replies shown, of each item done.
    """
    own = [seconds / shown for seconds, shown in items if seconds > 0 and shown]
    return median(own) if own else PACE_S[kind]


def unsure(groups: Sequence[Group], told: Told) -> list[Group]:
    """Replies by their mean spread; comparisons by the closest call in each. What the judge has not scored comes last."""

    def sureness(group: Group) -> float:
        if len(group) == 1:
            spreads = [score[1] or 0.0 for score in _own(told.get(group[0].id, {})).values()]
            return -sum(spreads) / len(spreads) if spreads else math.inf
        return min(_closeness(told, a, b) for a, b in itertools.combinations(group, 2))

    return sorted(groups, key=sureness)


def teach(groups: Sequence[Group], kind: str, told: Told, seconds: float, rated: Mapping[str, Collection[str]],
          done: Collection[frozenset[str]]) -> list[Group]:  # fmt: skip
    """Everything by what it would teach a second, no tree a second time before each had one.

    ``seconds``: a reply shown takes; ``rated``: dimensions that this person has scored, by reply; ``done``: compared pairs.
    """

    def gain(group: Group) -> float:
        if kind == "rate":
            (reply,) = group
            said = _own(told.get(reply.id, {}))
            return sum(score[1] or 0.0 for d, score in said.items() if d not in rated.get(reply.id, ())) / seconds
        pairs = ((a, b) for a, b in itertools.combinations(group, 2) if frozenset((a.id, b.id)) not in done)
        return sum(_lesson(told, a, b) for a, b in pairs) / (seconds * len(group))

    return _spread_out(sorted(((gain(g), g) for g in groups), key=lambda r: -r[0]))


def _spread_out(ranked: Sequence[tuple[float, Group]]) -> list[Group]:
    """The best of each tree, then the second of each, ...; what teaches nothing comes last."""
    rounds: dict[str, int] = defaultdict(int)
    places = []
    for gain, group in ranked:
        tree = group[0].tree_id
        places.append((not gain, rounds[tree], group))
        rounds[tree] += 1
    return [group for *_, group in sorted(places, key=lambda p: p[:2])]


def _own(said: Mapping[str, Said]) -> Mapping[str, Said]:
    """Without overall, which nobody rates, unless it is all that the judge has learned."""
    return {d: s for d, s in said.items() if d != OVERALL} or said


def _both(told: Told, a: Candidate, b: Candidate) -> list[tuple[Said, Said]]:
    """What is compared: overall, or where the judge has not learned that, every dimension it has scored on both."""
    ours, theirs = told.get(a.id, {}), told.get(b.id, {})
    shared = [d for d in ours if d in theirs]
    return [(ours[d], theirs[d]) for d in ([OVERALL] if OVERALL in shared else shared)]


def _closeness(told: Told, a: Candidate, b: Candidate) -> float:
    return min((margin_in_spreads(x, y) for x, y in _both(told, a, b)), default=math.inf)


def _lesson(told: Told, a: Candidate, b: Candidate) -> float:
    lessons = [entropy(probability(x, y)) * gap(x, y)[1] for x, y in _both(told, a, b)]
    return sum(lessons) / len(lessons) if lessons else 0.0
