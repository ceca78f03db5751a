"""The next thing to judge in a queue of 100,000 replies against a queue of 100: saving that one is done, and what comes next."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from studio import annotating
from studio.actions import Studio
from studio.config import Config
from studio.tree import Part
from tests.perf import Row, compare

LONG, SHORT = 100_000, 100
FAMILY = 50  # replies to one question
BLOCK, BLOCKS, WARM_UP = 40, 24, 2  # items a block; blocks; blocks that are not counted


def measure() -> list[Row]:
    """One row: the 95th percentile of ``annotating.finish``, in milliseconds, over blocks of the two in turn."""
    with tempfile.TemporaryDirectory() as folder:
        studios = [_filled(Path(folder, str(n)), n) for n in (LONG, SHORT)]
        times: tuple[list[float], list[float]] = ([], [])
        for block in range(BLOCKS):
            for side in (0, 1) if block % 2 else (1, 0):
                times[side].append(_p95(studios[side]))
        for studio in studios:
            studio.close()
    ours, peer = (t[WARM_UP:] for t in times)
    name = f"next item, queue of {LONG:,} / of {SHORT}"
    return [compare(name, ours, peer, "<= 1.5", "p95 {ours:.2f} ms / {peer:.2f} ms")]


def _filled(home: Path, replies: int) -> Studio:
    """A studio with this many replies, all of them in its queue."""
    studio = Studio.open(Config(home, annotator="me"))
    with studio.store.write():
        for first in range(0, replies, FAMILY):
            tree = studio.store.create_tree("queue")
            question = studio.store.add_node(tree, None, "user", [Part("text", f"Question {first}")])
            for i in range(first, first + FAMILY):
                studio.store.add_node(tree, question, "assistant", [Part("text", f"Reply {i}")], model=f"m{i % 5}")
    planned = annotating.plan(studio, "rate", "random", replies, seed=1)
    assert planned["queue"]["total"] == replies
    return studio


def _p95(studio: Studio) -> float:
    """Milliseconds under which 95 of 100 items of a block were finished and the next one was there."""
    state, taken = annotating.state(studio), []
    if state["queue"]["total"] - state["queue"]["done"] <= BLOCK:
        state = annotating.plan(studio, "rate", "random", SHORT, seed=1)
    for _ in range(BLOCK):
        start = time.perf_counter()
        state = annotating.finish(studio, state["item"]["id"], 1.0)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.quantiles(taken, n=20, method="inclusive")[-1]
