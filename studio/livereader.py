"""What the live judge reads with: a scoring process, the store's dialogues, and a memory of what cannot be read.

Owns the process and the order of a backlog. Writes nothing and has no thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from judge.examples import Example
from judge.readings import Reading
from judge.rubric import JudgeError
from judge.scoring_client import ScoringProcess
from studio import teaching
from studio.media import Media
from studio.store import Store, now
from studio.store.judges import JudgeScore
from studio.tree import Node

FEW = 2  # so many new replies are read one by one: their prefix has most likely been read already
CACHE_MB = 256  # of keys and values
RESTARTED = "The judge's process ended and was started again."
RESTART_TOLD_S = 300.0  # so long a person is told


@dataclass(frozen=True)
class Chunk:
    """Replies that were read together. ``read_at``: when their dialogue was taken from the store."""

    readings: dict[str, Reading]
    read_at: str
    tried: int


@dataclass(frozen=True)
class Unread:
    """A reply that could not be read. ``content``: of its path at that time."""

    tree: str
    why: str
    content: int


@dataclass
class LiveReader:
    """Reads replies of the store with one judge. ``skipped``: replies that cannot be read, by node."""

    store: Store
    media: Media
    process: ScoringProcess
    skipped: dict[str, Unread] = field(default_factory=dict)
    tried: int = 0  # replies, whole ones

    @classmethod
    def load(cls, store: Store, media: Media, judge: str) -> LiveReader:
        """Start the process and wait until the judge is there. Raises JudgeError."""
        home = store.home
        folder, cache = teaching.judges_folder(home) / judge, teaching.backbones_folder(home)
        return cls(store, media, ScoringProcess(folder, cache, cache_mb=CACHE_MB))

    def close(self) -> None:
        """End the process."""
        self.process.close()

    def new(self, tree: str, judge: str) -> list[str]:
        """Replies of a tree to be scored: those that could not be read are tried again once their dialogue has changed."""
        return [n for n in self.store.unjudged(tree, judge) if not self._hopeless(n)]

    def chunks(self, tree: str, nodes: list[str], size: int) -> Iterator[Chunk]:
        """Read replies of one tree, ``size`` at a time, those of one branch together."""
        read_at = now()
        if len(nodes) <= FEW:
            for node in nodes:
                reading = self.reply(self.store.path(node))
                yield Chunk({node: reading} if reading else {}, read_at, 1)
            return
        (example,) = teaching.examples(self.store, self.media, [tree])
        among = set(nodes)
        ordered = [n.id for n in example.tree.walk() if n.id in among]
        for at in range(0, len(ordered), size):
            some = ordered[at : at + size]
            yield Chunk(self._together(example, some), read_at, len(some))

    def _together(self, example: Example, nodes: list[str]) -> dict[str, Reading]:
        """Readings of some replies of a tree; one by one where they cannot be read together, to find the one to blame."""
        try:
            readings = self.process.tree(example, nodes)
        except JudgeError:
            if self.process.pid is None:
                raise
            one_by_one = {n: self.reply(self.store.path(n)) for n in nodes}
            return {n: reading for n, reading in one_by_one.items() if reading}
        for node, why in self.process.skipped:
            self._skip(example.tree.path(node), why)
        self.tried += len(nodes)
        return readings

    def reply(self, path: list[Node], growing: bool = False) -> Reading | None:
        """The reading of the last node of a path; None where the judge cannot read it."""
        node = path[-1].id
        if (known := self.skipped.get(node)) and known.content == _content(path):
            return None
        hashes = {p.image_sha256 for n in path for p in n.parts if p.image_sha256}
        images: dict[str, bytes | Path] = {h: file for h in hashes if (file := self.media.path(h))}
        self.tried += not growing
        try:
            reading = self.process.reply(path, images, growing=growing)
        except JudgeError as error:
            if self.process.pid is None:  # not the reply's fault
                raise
            self._skip(path, str(error))
            return None
        self.skipped.pop(node, None)
        return reading

    @property
    def line(self) -> str:
        """What a person should know of the readings so far: whether the process began anew, what could not be scored."""
        lately = self.process.since_restart() < RESTART_TOLD_S
        return " ".join(filter(None, [RESTARTED if lately else "", self._skipped_line()]))

    def _skipped_line(self) -> str:
        """How many replies could not be scored, and why the last one; "" where there is none."""
        if not self.skipped:
            return ""
        why = next(reversed(self.skipped.values())).why
        replies = "reply" if self.tried == 1 else "replies"
        return f"{len(self.skipped):,} of {self.tried:,} {replies} could not be scored: {why}"

    def _skip(self, path: list[Node], why: str) -> None:
        self.skipped[path[-1].id] = Unread(path[-1].tree_id, why, _content(path))

    def _hopeless(self, node: str) -> bool:
        known = self.skipped.get(node)
        return known is not None and known.content == _content(self.store.path(node))


@dataclass
class Backlog:
    """Trees with replies that have no score yet, and how far it has come. What is unjudged is what is left."""

    trees: list[str]
    of: int
    done: int = 0
    checked_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # spent reading
    current: Iterator[Chunk] | None = None

    @classmethod
    def of_trees(cls, counts: Mapping[str, int]) -> Backlog:
        """``counts``: replies to score, by tree, the tree to begin with first."""
        return cls(list(counts), sum(counts.values()))

    @property
    def progress(self) -> dict[str, float | int | None]:
        """Replies ``done``, ``of`` how many, and ``eta_s``: seconds left (None until the first were read)."""
        left = max(0, self.of - self.done)
        eta = self.seconds / self.done * left if self.done else None
        return {"done": self.done, "of": self.of, "eta_s": eta}

    def line(self, judge: str) -> str:
        """How far it has come, in words."""
        return f"{judge} scores {self.done:,} of {self.of:,} older replies"


def growing_scores(reading: Reading) -> dict[str, JudgeScore]:
    """A reading by row, as the store would give it back."""
    return {
        row: JudgeScore(reading.value(row), reading.spread[row], logit, reading.heads.get(row, ()))
        for row, logit in reading.logits.items()
    }


def _content(path: list[Node]) -> int:
    return hash(tuple((n.id, tuple(n.parts)) for n in path))
