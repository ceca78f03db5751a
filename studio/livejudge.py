"""The live judge: scores what is on the screen, replies that are growing first, and then all that has no score yet.

Owns the thread that asks the judge, which computes in a process of its own. Writes finished scores to the store; scores of
growing replies are only held here. Nothing is loaded before somebody has chosen a live judge.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from judge.scoring_client import ScoringProcess
from studio import StudioError, teaching
from studio.live import Live
from studio.livechoice import LiveChoice
from studio.livereader import Backlog, LiveReader, growing_scores
from studio.media import Media
from studio.store import Store
from studio.store.judges import JudgeScore, score_rows
from studio.tree import Part

EVERY_S = 0.4  # how often a growing reply is scored, at most
IDLE_S = 30.0  # how long the thread sleeps when nobody wakes it
AT_ONCE = 32  # so many replies are read and saved together; in between, growing replies have their turn
BACKLOG_AT_ONCE = 16  # the same of older dialogues that nobody looks at: who opens another waits for so many
PAUSE_S = 0.02  # between two readings of the backlog
UNFORESEEN = "The judge broke off; the terminal shows why. Switch it off and on again on the Judge screen."
Scores = dict[str, JudgeScore]  # by row of the judge


@dataclass
class LiveJudge:
    """At most one judge is live. ``note``: what it is doing, or why it cannot, for the screen.
    ``growing``: what it says of replies that are on their way, by node."""

    store: Store
    media: Media
    live: Live
    note: str = ""
    growing: dict[str, Scores] = field(default_factory=dict)
    _reader: LiveReader | None = None
    _backlog: Backlog | None = None
    _current: str | None = None  # the judge of this round
    _failed: str | None = None  # a judge that broke off is not tried again before it is chosen again
    _trees: list[str] = field(default_factory=list)
    _leaf: str | None = None  # to be read ahead
    choice: LiveChoice = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the list of trees and the thread
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _busy: bool = False
    _closed: bool = False
    _scored_at: float = 0.0

    def __post_init__(self) -> None:
        """Nobody is asked yet who is live: the home is read when somebody wants to know."""
        self.choice = LiveChoice(self.store)

    @property
    def name(self) -> str | None:
        """The live judge's name; None without one."""
        return self.choice.name

    @property
    def facts(self) -> dict[str, Any]:
        """``trained``, ``derived_labels``, ``scored`` and ``ties`` of the live judge, by row; {} for what is not known."""
        return self.choice.facts

    @property
    def trained(self) -> dict[str, int]:
        """How many labels of people the live judge learned each row from."""
        trained: dict[str, int] = self.facts["trained"]
        return trained

    @property
    def progress(self) -> dict[str, float | int | None] | None:
        """``done``, ``of`` and ``eta_s`` of older replies that are being scored; None while there are none."""
        backlog = self._backlog
        return backlog.progress if backlog and backlog.trees else None

    @property
    def state(self) -> dict[str, Any]:
        """For the screens: ``state`` (off | loading | ready | scoring backlog | failed), ``text`` and ``progress``."""
        name, reader, progress = self.name, self._reader, self.progress
        state, text = "ready", self.note
        if name is None:
            state, text = "off", ""
        elif name == self._failed:
            state = "failed"
        elif reader is None or name != self._current:
            state, text = "loading", self.note or f"Loading the judge {name} ..."
        elif progress and self._backlog:
            state, text = "scoring backlog", self._backlog.line(name)
        return {"state": state, "text": text, "progress": progress}

    def unread(self, tree_id: str) -> dict[str, str]:
        """Replies of a tree that the live judge cannot read, and why."""
        reader = self._reader
        return {n: one.why for n, one in list(reader.skipped.items()) if one.tree == tree_id} if reader else {}

    @property
    def process(self) -> ScoringProcess | None:
        """The process that computes; None while no judge is loaded."""
        return self._reader.process if self._reader else None

    def promote(self, name: str | None) -> None:
        """Make a judge the live one, or none. Raises StudioError as ``LiveChoice.choose`` does."""
        self.choice.choose(name)
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
        reader, thread = self._reader, self._thread
        if thread:
            thread.join(5)
        if reader and thread and thread.is_alive():  # it waits for a long reading: nobody wants that any more
            reader.close()
            thread.join(5)

    # ---- inside the thread

    def _run(self) -> None:
        note = UNFORESEEN  # where something else than the person's errors is raised; the log has the traceback
        try:
            while not self._closed:
                self._busy = True
                with teaching.judging():
                    seconds = self._round()
                    self._busy = False
                    self._read_ahead()
                    if self._score_backlog():
                        seconds = PAUSE_S
                self._wake.wait(seconds)
                self._wake.clear()
            note = ""
        except StudioError as error:  # a backbone that is gone, say: the screen tells it, chatting goes on
            note = "" if self._closed else str(error)
        finally:
            self._forget()
            self._failed = self._current if note else None
            self.note, self._trees, self._busy = note, [], False

    def _forget(self) -> None:
        reader, self._reader, self._backlog = self._reader, None, None
        if reader:
            reader.close()
        self.growing.clear()

    def _round(self) -> float:
        """Score what is wanted now; returns the seconds until it is worth looking again."""
        name = self.name
        if name != self._current:
            self._forget()
        self._current = name
        if name is None:
            self._trees = []
            return IDLE_S
        if self._reader is None:
            self.note = f"Loading the judge {name} ..."
            self._reader = LiveReader.load(self.store, self.media, name)
            self.note = ""
        grows = self._score_growing()
        while self._trees and not self._closed and self.name == name:
            with self._lock:
                tree = self._trees.pop(0)
            self._score_tree(name, tree)
            grows = self._score_growing()
        if not self._trees:
            self.note = self._reader.line
        return EVERY_S if grows else IDLE_S

    def _read_ahead(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf and self._reader and not self._wake.is_set() and not self._closed:
            self._reader.reply(self.store.path(leaf))

    def _score_growing(self) -> bool:
        """Score the replies that are growing, unless that was just done; returns whether there are any."""
        assert self._reader
        runs = [r for r in self.live.growing() if r.text and not r.over]
        self._score_ended(set(self.growing) - {r.node_id for r in runs})
        if time.monotonic() - self._scored_at >= EVERY_S:
            for run in runs:
                path = self.store.path(run.node_id)
                path[-1] = replace(path[-1], parts=[Part("text", run.text)])
                if reading := self._reader.reply(path, growing=True):
                    self.growing[run.node_id] = growing_scores(reading)
                else:  # it is longer than the judge reads by now: what was said of its beginning is no score of it
                    self.growing[run.node_id] = {}
            self._scored_at = time.monotonic()
        # those without a word yet too, and those that ended meanwhile or are on their way to the disk
        return bool(self.growing or self.live.growing())

    def _score_ended(self, nodes: set[str]) -> None:
        """Queue the trees of replies that grow no more; one that is still on its way to the disk has to wait."""
        for node in nodes:
            reply = self.store.node(node)
            if reply.status == "streaming":
                continue
            with self._lock:  # it is whole now, whoever watches
                self._trees = [reply.tree_id, *(t for t in self._trees if t != reply.tree_id)]
            del self.growing[node]

    def _score_tree(self, name: str, tree_id: str) -> None:
        assert self._reader
        new = self._reader.new(tree_id, name)
        left = len(new)
        for chunk in self._reader.chunks(tree_id, new, AT_ONCE):
            if self._closed or self.name != name:
                return
            self.store.save_judge_scores(name, score_rows(chunk.readings), chunk.read_at)
            left -= chunk.tried
            self.note = f"Scoring {left} replies ..." if left else self._reader.line
            self._score_growing()

    def _score_backlog(self) -> bool:
        """Score a few older replies, in no tree that somebody looks at; returns whether there are more.

        Waits for replies that grow, and for whoever looks at a tree. Resumes by itself: what has no score is what is left.
        """
        reader, name = self._reader, self._current
        if reader is None or name is None or self._closed or self._trees or self.live.growing() or self.name != name:
            return False
        backlog = self._backlog
        if backlog is None or (not backlog.trees and time.monotonic() - backlog.checked_at >= IDLE_S):
            counts = {t: n for t in self.store.unjudged_trees(name) if (n := len(reader.new(t, name)))}
            backlog = self._backlog = Backlog.of_trees(counts)
        if not backlog.trees:
            return False
        start = time.monotonic()
        if backlog.current is None:
            tree = backlog.trees[0]
            backlog.current = reader.chunks(tree, reader.new(tree, name), BACKLOG_AT_ONCE)
        chunk = next(backlog.current, None)
        if chunk is None:
            backlog.current = None
            del backlog.trees[0]
        else:
            self.store.save_judge_scores(name, score_rows(chunk.readings), chunk.read_at)
            backlog.done += chunk.tried
            backlog.seconds += time.monotonic() - start
        self.note = backlog.line(name) if backlog.trees else reader.line
        return True
