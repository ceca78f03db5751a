"""The live judge on SmolLM2-135M: a finished reply to its stored score, a large tree anew, and rating while it trains."""

from __future__ import annotations

import random
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from studio import StudioError, actions, jobs, teaching
from studio.actions import Studio
from studio.config import Config
from studio.tree import Part
from tests import teach
from tests.perf import Row, Unavailable, compare
from tests.perf.makings import VOCABULARY, need

BASE, WORDS, DEPTH, RUNS = "builtin", 26, 5, 5
NODES, SAMPLE = 1_000, 12  # of the large tree; replies that the peer scores
BLOCKS, RATINGS = 8, 25  # of ratings, idle and while a judge trains


def measure() -> list[Row]:
    """Three rows; both sides of each in turn, in one process, with the live judge's single thread."""
    need("torch", how="make run installs it")
    import torch

    with tempfile.TemporaryDirectory() as home:
        studio = Studio.open(Config(Path(home), annotator="me"))
        try:
            with teaching.judging():
                teach.untrained(studio.store, "live", BASE, {"L4": 60, "overall": 60})
        except StudioError as error:
            raise Unavailable(str(error)) from error
        torch.set_num_threads(1)
        try:
            return [_reply(studio), _large(studio), _rating(studio)]
        finally:
            studio.judge.close()
            studio.close()


def _scorer(studio: Studio) -> Any:
    from judge.scoring import Scorer

    home = studio.store.home
    return Scorer.load(home / "judges" / "live", teaching.backbones_folder(home))


def _said(rng: random.Random) -> list[Part]:
    return [Part("text", " ".join(rng.choice(VOCABULARY) for _ in range(WORDS)))]


def _reply(studio: Studio) -> Row:
    """Seconds from a reply that is saved to its row of scores, at depth five, against reading the whole path."""
    rng, store = random.Random(0), studio.store
    tree, last = store.create_tree("deep"), None
    times: tuple[list[float], list[float]] = ([], [])
    peer = _scorer(studio)
    for turn in range(DEPTH):
        asked = store.add_node(tree, last, "user", _said(rng))
        last = store.add_node(tree, asked, "assistant", _said(rng)) if turn < DEPTH - 1 else asked
    studio.judge.promote("live")
    studio.judge.look(tree)
    _settle(studio)
    store.add_node(tree, last, "assistant", _said(rng))  # reads the last question too; not counted
    studio.judge.look(tree)
    _settle(studio)
    for _ in range(RUNS):
        reply = store.add_node(tree, last, "assistant", _said(rng))
        start = time.perf_counter()
        studio.judge.look(tree)
        _settle(studio)
        times[0].append(time.perf_counter() - start)
        assert not store.unjudged(tree, "live"), "it is not in the store"
        peer.cache = type(peer.cache)(0)  # nothing is kept: the path is read again
        start = time.perf_counter()
        peer.reply(store.path(reply))
        times[1].append(time.perf_counter() - start)
    return compare(
        "path read again / reply to stored score, depth 5", times[1], times[0], ">= 5", "{ours:.3f} s / {peer:.3f} s"
    )


def _settle(studio: Studio) -> None:
    deadline = time.perf_counter() + 600
    while studio.judge._trees or studio.judge._busy:  # not settle(): its nap of 20 ms would be measured
        assert time.perf_counter() < deadline, studio.judge.note
        time.sleep(0.001)
    assert not studio.judge.note, studio.judge.note


def _large(studio: Studio) -> Row:
    """Seconds a reply: a tree of 1,000 nodes scored by a judge that is new, against one forward for each of some replies."""
    rng, store, peer = random.Random(1), studio.store, _scorer(studio)
    tree = _tree(studio, rng)
    times: tuple[list[float], list[float]] = ([], [])
    for name in ("second", "third"):
        with teaching.judging():
            teach.untrained(store, name, BASE, {"L4": 60, "overall": 60})
        studio.judge.promote(name)
        _settle(studio)  # it is loaded
        start = time.perf_counter()
        studio.judge.look(tree)
        _settle(studio)
        replies = list(store.judge_scores(tree, name))
        times[0].append((time.perf_counter() - start) / len(replies))
        peer.cache = type(peer.cache)(0)  # nothing is kept: every path is read again
        start = time.perf_counter()
        for node in rng.sample(replies, SAMPLE):
            peer.reply(store.path(node))
        times[1].append((time.perf_counter() - start) / SAMPLE)
    assert len(replies) == 3 * NODES // 4, "some reply has no score"
    bound = _bound(studio, peer, replies)
    said = f"{{ours:.3f}} s / {{peer:.3f}} s a reply; {NODES} nodes, {len(replies)} replies; token bound {bound:.2f}"
    return compare("one forward a reply / large tree scored anew", times[1], times[0], f">= {0.9 * bound:.2f}", said)


def _bound(studio: Studio, scorer: Any, replies: list[str]) -> float:
    """Tokens of every path over tokens of the tree: how much there is to win."""
    length: dict[str, int] = {}
    read = 0
    for reply in replies:
        path = studio.store.path(reply)
        for i, node in enumerate(path):
            if node.id not in length:
                length[node.id] = len(scorer.model.encoder.piece(path[: i + 1], {}))
            read += length[node.id]
    return read / sum(length.values())


def _tree(studio: Studio, rng: random.Random) -> str:
    """Three replies a turn, one continued; after five turns a new branch from the first reply."""
    store, last = studio.store, None
    first = ""
    with store.write():
        tree = store.create_tree("large")
        for turn in range(NODES // 4):
            asked = store.add_node(tree, last, "user", _said(rng))
            last, *_ = (store.add_node(tree, asked, "assistant", _said(rng)) for _ in range(3))
            first = first or last
            last = first if turn % (DEPTH - 1) == 0 else last
    return tree


def _rating(studio: Studio) -> Row:
    """p95 of ``actions.rate`` in ms while a judge trains, against the same with the training stopped."""
    studio.judge.promote(None)
    trees = teach.rate(studio.store, 60)
    nodes = [r["id"] for tree in trees for r in studio.store.outline(tree) if r["role"] == "assistant"]
    job = jobs.start(studio.store, "train", ["train", "--name", "busy", "--base", BASE, "--epochs", "100", "--rank", "4"],
                     {"name": "busy"})  # fmt: skip
    idle: list[float] = []
    busy: list[float] = []
    while not (found := jobs.refresh(studio.store)[0])["lines"]:  # until it has made its first step
        assert found["status"] == "running", found["error"]
        time.sleep(0.2)
    process = jobs.STARTED[job]
    for block in range(BLOCKS):
        process.send_signal(signal.SIGSTOP)
        idle.append(_p95(studio, nodes, 2 * block))
        process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        busy.append(_p95(studio, nodes, 2 * block + 1))
        assert process.poll() is None, "the training ended too early"
    process.kill()
    process.wait()
    return compare("p95 of a rating while a judge trains / idle", busy, idle, "<= 2", "{ours:.2f} ms / {peer:.2f} ms")


def _p95(studio: Studio, nodes: list[str], turn: int) -> float:
    """Of ratings that each change a score: one that changes nothing would be no work."""
    times, before = [], studio.store.counts()["scores"]
    for i in range(RATINGS):
        start = time.perf_counter()
        actions.rate(studio, nodes[i], "L1", (i + turn) % 4)
        times.append((time.perf_counter() - start) * 1000)
    assert studio.store.counts()["scores"] == before + RATINGS
    return statistics.quantiles(times, n=20)[-1]
