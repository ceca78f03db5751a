"""What is odd in a file of OpenAssistant, counted, and told in the report: nothing is left out in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from studio.exchange.oasst_messages import Message

MAX_LANGUAGES = 6


@dataclass
class Census:
    """Counts of messages, but ``pairs`` (of siblings, by rank), ``gaps`` and ``lone`` (groups of ranked siblings), ``states``
    (trees left out, by state) and ``rounded`` (label averages that are between two steps)."""

    pairs: int = 0
    ties: int = 0
    gaps: int = 0
    lone: int = 0
    ranked_questions: int = 0
    deleted: int = 0
    rejected: int = 0
    synthetic: int = 0
    orphans: int = 0
    rounded: int = 0
    states: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    def meet(self, m: Message, orphan: bool) -> None:
        """Count a message."""
        self.deleted += m.deleted
        self.rejected += m.rejected
        self.synthetic += m.synthetic
        self.orphans += orphan
        self.ranked_questions += m.rank is not None and m.role == "user"
        self.languages[m.lang or "unknown"] += 1

    def add(self, other: Census) -> None:
        """Count what another one counted."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))

    def notes(self) -> list[str]:
        """A part of a sentence for each count that is not 0."""
        languages = [f"{n:,} {name}" for name, n in self.languages.most_common(MAX_LANGUAGES)]
        others = len(self.languages) - len(languages)
        states = [f"{n:,} {name}" for name, n in self.states.most_common()]
        counts = {
            "pairs of siblings that are ranked": self.pairs,
            "ties among them": self.ties,
            "groups of siblings with gaps in their ranks": self.gaps,
            "ranks that stand alone and compare nothing": self.lone,
            "ranks of questions, not kept": self.ranked_questions,
            "deleted messages, pruned with what answers them": self.deleted,
            "messages that review rejected, kept": self.rejected,
            "synthetic messages": self.synthetic,
            "messages whose parent is missing": self.orphans,
            "label averages rounded to five steps": self.rounded,
        }
        notes = [f"{what}: {n:,}" for what, n in counts.items() if n]
        if len(self.languages) > 1:
            notes.append(f"languages: {', '.join(languages)}{f', {others} others' if others else ''}")
        if states:
            notes.append(f"trees left out by their state: {', '.join(states)} (to import them: --states all)")
        return notes
