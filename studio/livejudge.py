"""The live judge: scores what is on the screen in a thread of its own, replies that are growing first.

Owns the loaded judge and the thread. Writes finished scores to the store; scores of growing replies are only held here.
Nothing is loaded before somebody has chosen a live judge.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from judge.rubric import JudgeError
from studio import StudioError, teaching
from studio.live import Live
from studio.media import Media
from studio.store import Store
from studio.tree import Node, Part

if TYPE_CHECKING:
    from judge.scoring import Reading, Scorer

EVERY_S = 0.4  # how often a growing reply is scored, at most
IDLE_S = 30.0  # how long the thread sleeps when nobody wakes it
FEW = 2  # so many new replies are read one by one: their prefix has most likely been read already
AT_ONCE = 32  # so many are read and saved together; in between, growing replies have their turn
THREADS = 1  # of torch: the rest of the machine belongs to the models that answer
UNFORESEEN = "The judge broke off; the terminal shows why. Switch it off and on again on the Judge screen."
Scores = dict[str, list[float]]  # expected score and spread by dimension


@dataclass
class LiveJudge:
    """At most one judge is live. ``note``: what it is doing, or why it cannot, for the screen.
    ``growing``: what it says of replies that are on their way, by node."""

    store: Store
    media: Media
    live: Live
    note: str = ""
    growing: dict[str, Scores] = field(default_factory=dict)
    _scorer: Scorer | None = None
    _current: str | None = None  # the judge of this round
    _failed: str | None = None  # a judge that broke off is not tried again before it is chosen again
    _trees: list[str] = field(default_factory=list)
    _leaf: str | None = None  # to be read ahead
    _unreadable: set[str] = field(default_factory=set)
    _trained: dict[str, dict[str, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the list of trees and the thread
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _busy: bool = False
    _closed: bool = False
    _scored_at: float = 0.0

    @property
    def name(self) -> str | None:
        """The live judge's name, from ``HOME/judges/.live``; None without one."""
        try:
            return self._file.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    @property
    def _file(self) -> Path:
        return teaching.judges_folder(self.store.home) / ".live"  # no judge can have this name

    @property
    def trained(self) -> dict[str, int]:
        """How many labels of each dimension the live judge learned from."""
        name = self.name
        if name and name not in self._trained:
            row = next((j for j in self.store.judges() if j["name"] == name), None)
            self._trained[name] = (row or {}).get("metrics", {}).get("trained") or {}
        return self._trained.get(name or "", {})

    def promote(self, name: str | None) -> None:
        """Make a judge the live one, or none. Raises StudioError when there is no such judge, or no room to note it."""
        folder = teaching.judges_folder(self.store.home)
        if name is not None and (name not in {j["name"] for j in self.store.judges()} or not (folder / name).is_dir()):
            raise StudioError(f"There is no judge {name!r:.60}. Train one first.")
        temp = self._file.with_name(f".live.{os.getpid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temp.write_text(name or "", encoding="utf-8")
            os.replace(temp, self._file)
        except OSError as error:
            raise StudioError(
                f"Cannot write to {folder}: {error.strerror}. Free some space, then try again."
            ) from error
        self.note, self._failed = "", None
        self.look()
        self._wake.set()  # a judge that was switched off is let go now

    def look(self, tree_id: str | None = None, leaf: str | None = None) -> None:
        """Somebody looks at a tree (or a reply of it began to grow): score what has no score yet. Returns at once.

        ``leaf``: where the path on the screen ends. It is read ahead when there is nothing else to do, so that a reply to
        it has its score from its first words on.
        """
        name = self.name
        if name is None or self._closed or name == self._failed:
            return
        self._leaf = leaf or self._leaf
        with self._lock:
            if tree_id:
                self._trees = [tree_id, *(t for t in self._trees if t != tree_id)][:8]
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="live-judge", daemon=True)
                self._thread.start()
        self._wake.set()

    def settle(self, seconds: float) -> bool:
        """Wait until all that is wanted is scored; whether it came to that in time. True at once without a live judge."""
        until = time.monotonic() + seconds
        while self.name and not self._closed and (self._trees or self._busy) and time.monotonic() < until:
            time.sleep(0.02)
        return self.name is None or not (self._trees or self._busy)

    def close(self) -> None:
        """Stop after what is being scored now."""
        self._closed = True
        self._wake.set()
        if self._thread:
            self._thread.join(5)

    # ---- inside the thread

    def _run(self) -> None:
        note = (
            UNFORESEEN  # what is left if something else than the person's errors is raised; the log has the traceback
        )
        try:
            while not self._closed:
                self._busy = True
                with teaching.judging():
                    seconds = self._round()
                    self._busy = False
                    self._read_ahead()
                self._wake.wait(seconds)
                self._wake.clear()
            note = ""
        except StudioError as error:  # a backbone that is gone, say: the screen tells it, chatting goes on
            note = str(error)
        finally:
            self._forget()
            self._failed = self._current if note else None
            self.note, self._trees, self._busy = note, [], False

    def _forget(self) -> None:
        self._scorer = None
        self.growing.clear()
        self._unreadable.clear()

    def _round(self) -> float:
        """Score what is wanted now; returns the seconds until it is worth looking again."""
        name = self.name
        if name != self._current:
            self._forget()
        self._current = name
        if name is None:
            self._trees = []
            return IDLE_S
        if self._scorer is None:
            self._load(name)
        grows = self._score_growing()
        while self._trees and not self._closed and self.name == name:
            with self._lock:
                tree = self._trees.pop(0)
            self._score_tree(name, tree)
            grows = self._score_growing()
        return EVERY_S if grows else IDLE_S

    def _read_ahead(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf and self._scorer and not self._wake.is_set() and not self._closed:
            self._read(self.store.path(leaf))

    def _load(self, name: str) -> None:
        self.note = f"Loading the judge {name} ..."
        import torch

        from judge.scoring import Scorer

        torch.set_num_threads(THREADS)
        home = self.store.home
        self._scorer = Scorer.load(teaching.judges_folder(home) / name, teaching.backbones_folder(home), cache_mb=256)
        self.note = ""

    def _score_growing(self) -> bool:
        """Score the replies that are growing, unless that was just done; returns whether there are any."""
        runs = [r for r in self.live.growing() if r.text and not r.over]
        gone = set(self.growing) - {r.node_id for r in runs}
        saving = False
        for node in gone:
            found = self.store.node(node)
            if found.status == "streaming":  # its last words are on their way to the disk
                saving = True
                continue
            with self._lock:  # it is whole now, whoever watches
                self._trees = [found.tree_id, *(t for t in self._trees if t != found.tree_id)]
            del self.growing[node]
        if time.monotonic() - self._scored_at >= EVERY_S:
            for run in runs:
                path = self.store.path(run.node_id)
                path[-1] = replace(path[-1], parts=[Part("text", run.text)])
                if reading := self._read(path, growing=True):
                    self.growing[run.node_id] = {d: [reading.expected[d], reading.spread[d]] for d in reading.expected}
            self._scored_at = time.monotonic()
        return saving or bool(self.live.growing())  # those without a word yet too

    def _score_tree(self, name: str, tree_id: str) -> None:
        new = [n for n in self.store.unjudged(tree_id, name) if n not in self._unreadable]
        for read in self._readings(tree_id, new):
            if self._closed or self.name != name:
                return
            self.store.save_judge_scores(
                name, [(n, d, r.expected[d], r.spread[d]) for n, r in read.items() for d in r.expected]
            )
            self._score_growing()

    def _readings(self, tree_id: str, new: list[str]) -> Iterator[dict[str, Reading]]:
        """Readings of new replies of a tree, some at a time."""
        if len(new) <= FEW:
            yield {n: reading for n in new if (reading := self._read(self.store.path(n)))}
            return
        (example,) = teaching.examples(self.store, self.media, [tree_id])
        wanted = [n.id for n in example.tree.walk() if n.id in set(new)]  # those of one branch together
        for at in range(0, len(wanted), AT_ONCE):
            self.note = doing = f"Scoring {len(wanted) - at} replies ..."
            some = wanted[at : at + AT_ONCE]
            assert self._scorer
            try:
                read = self._scorer.tree(example, some)
            except JudgeError:  # one of them cannot be read: the others can
                read = {n: reading for n in some if (reading := self._read(example.tree.path(n)))}
            self.note = "" if self.note == doing else self.note  # else why one of them cannot be read
            yield read

    def _read(self, path: list[Node], growing: bool = False) -> Reading | None:
        """The reading of the last node of a path; None, and a note, where the judge cannot read it."""
        assert self._scorer
        node = path[-1].id
        if node in self._unreadable:
            return None
        hashes = {p.image_sha256 for n in path for p in n.parts if p.image_sha256}
        images: dict[str, bytes | Path] = {h: found for h in hashes if (found := self.media.path(h))}
        try:
            return self._scorer.reply(path, images, growing=growing)
        except JudgeError as error:  # too long, or a picture that is broken: once is enough
            self._unreadable.add(node)
            self.note = str(error)
            return None
