"""The live judge: scores what is on the screen in a thread of its own, replies that are growing first.

Owns the loaded judge and the thread. Writes finished scores to the store; scores of growing replies are only held here.
Nothing is loaded before somebody has chosen a live judge.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from studio import StudioError, teaching
from studio.live import Live
from studio.media import Media
from studio.store import Store
from studio.tree import Part

if TYPE_CHECKING:
    from judge.scoring import Reading, Scorer

EVERY_S = 0.4  # how often a growing reply is scored, at most
THREADS = 1  # of torch: the rest of the machine belongs to the models that answer
Scores = dict[str, list[float]]  # expected score and spread by dimension
log = logging.getLogger(__name__)


@dataclass
class LiveJudge:
    """At most one judge is live. ``note``: what it is doing, or why it cannot, for the screen."""

    store: Store
    media: Media
    live: Live
    note: str = ""
    growing: dict[str, Scores] = field(default_factory=dict)
    _scorer: Scorer | None = None
    _loaded: str = ""
    _trees: list[str] = field(default_factory=list)
    _wake: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False
    _busy: bool = False
    _trained: dict[str, dict[str, int]] = field(default_factory=dict)
    _thread: threading.Thread | None = None

    @property
    def name(self) -> str | None:
        """The live judge's name, from ``HOME/judges/live``; None without one."""
        try:
            return self._file.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    @property
    def _file(self) -> Any:
        return teaching.judges_folder(self.store.home) / "live"

    @property
    def trained(self) -> dict[str, int]:
        """How many labels of each dimension the live judge learned from."""
        name = self.name
        if name and name not in self._trained:
            row = next((j for j in self.store.judges() if j["name"] == name), None)
            self._trained[name] = (row or {}).get("metrics", {}).get("trained") or {}
        return self._trained.get(name or "", {})

    def promote(self, name: str | None) -> None:
        """Make a judge the live one, or none. Raises StudioError when there is no such judge."""
        if name is not None and name not in {j["name"] for j in self.store.judges()}:
            raise StudioError(f"There is no judge {name!r:.60}. Train one first.")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temp = self._file.with_name(f".live.{os.getpid()}")
        temp.write_text(name or "", encoding="utf-8")
        os.replace(temp, self._file)
        self.note = ""
        self.look()

    def look(self, tree_id: str | None = None) -> None:
        """Somebody looks at a tree (or a reply of it began to grow): score what has no score yet."""
        if self.name is None or self._closed:
            return
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
        return not (self._trees or self._busy)

    def close(self) -> None:
        """Stop after what is being scored now."""
        self._closed = True
        self._wake.set()
        if self._thread:
            self._thread.join(5)

    # ---- inside the thread

    def _run(self) -> None:
        try:
            while not self._closed:
                self._busy = True
                busy = self._round()
                self._busy = False
                self._wake.wait(EVERY_S if busy else 30.0)
                self._wake.clear()
        except StudioError as error:  # a backbone that is gone, say: the screen tells it, chatting goes on
            self.note = str(error)
        finally:
            self._scorer, self._busy, self._trees = None, False, []

    def _round(self) -> bool:
        name = self.name
        if name is None:
            self._scorer, self._loaded = None, ""
            return False
        with teaching.judging():
            if self._loaded != name:
                self._load(name)
            busy = self._score_growing()
            if not busy and self._trees:
                self._score_tree(name, self._trees.pop(0))
                busy = bool(self._trees)
        return busy or bool(self.live.growing())

    def _load(self, name: str) -> None:
        import torch

        from judge.scoring import Scorer

        self.note = f"Loading the judge {name} ..."
        torch.set_num_threads(THREADS)
        home = self.store.home
        self._scorer = Scorer.load(teaching.judges_folder(home) / name, teaching.backbones_folder(home), cache_mb=256)
        self._loaded, self.note = name, ""

    def _score_growing(self) -> bool:
        assert self._scorer
        runs = [r for r in self.live.growing() if r.text]
        for run in runs:
            path = self.store.path(run.node_id)
            path[-1] = replace(path[-1], parts=[Part("text", run.text)])
            self.growing[run.node_id] = _scores(self._scorer.reply(path, self._images(path), growing=True))
        for gone in set(self.growing) - {r.node_id for r in runs}:
            tree = self.store.node(gone).tree_id
            self._trees = [tree, *(t for t in self._trees if t != tree)]
            del self.growing[gone]
        return bool(runs)

    def _score_tree(self, name: str, tree_id: str) -> None:
        assert self._scorer
        known = self.store.judge_scores(tree_id, name)
        (example,) = teaching.examples(self.store, self.media, [tree_id])
        nodes = example.tree.nodes.values()
        new = [
            n.id for n in nodes if n.role == "assistant" and n.parts and n.status != "streaming" and n.id not in known
        ]
        if not new:
            return
        if len(new) <= 2:  # their prefix has most likely been read already
            read = {n: self._scorer.reply(example.tree.path(n), example.images) for n in new}
        else:
            self.note = f"Scoring {len(new)} replies ..."
            read = self._scorer.tree(example, new)
        self.store.save_judge_scores(
            name, [(n, d, r.expected[d], r.spread[d]) for n, r in read.items() for d in r.expected]
        )
        self.note = ""

    def _images(self, path: list[Any]) -> dict[str, Any]:
        hashes = {p.image_sha256 for n in path for p in n.parts if p.image_sha256}
        return {h: found for h in hashes if (found := self.media.path(h))}


def _scores(reading: Reading) -> Scores:
    return {d: [reading.expected[d], reading.spread[d]] for d in reading.expected}
