"""A durable rating through ``actions.rate`` against a bare insert into the same schema with the same pragmas."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlite_utils.utils import sqlite3

from studio import actions
from studio.actions import Studio
from studio.config import Config
from studio.store import new_id, now
from studio.tree import Part
from tests.perf import Row, compare

REPLIES, DIMENSIONS = 300, ("L1", "L2", "L3", "L4")
BLOCK, WARM_UP = 10, 4  # ratings a block; blocks that are not counted
INSERT = "INSERT INTO scores (id, node_id, dimension, value, annotator, round, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
Rate = Callable[[str, str, int], None]


def measure() -> list[Row]:
    """One row: milliseconds a rating, blocks of the two in turn."""
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Path(folder, "ours"), Path(folder, "peer")
        studio, other = Studio.open(Config(ours, annotator="me")), Studio.open(Config(peer))
        nodes, others = _replies(studio), _replies(other)
        pragmas = {p: studio.store.rows(f"PRAGMA {p}")[0][p] for p in ("journal_mode", "synchronous", "foreign_keys")}
        other.close()  # its database, with the same tables, indexes and nodes, is the bare connection's alone from here
        bare = sqlite3.connect(str(peer / "studio.db"), isolation_level=None)
        for name, value in pragmas.items():
            bare.execute(f"PRAGMA {name} = {value}")

        def rate(node: str, dimension: str, value: int) -> None:
            actions.rate(studio, node, dimension, value)

        def insert(node: str, dimension: str, value: int) -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute(INSERT, [new_id(), node, dimension, value, "me", 1, now()])
            bare.execute("COMMIT")

        times = _blocks((rate, _keys(nodes)), (insert, _keys(others)))
        saved = [studio.store.counts()["scores"], bare.execute("SELECT count(*) FROM scores").fetchone()[0]]
        bare.close()
        studio.close()
    assert saved == [REPLIES * len(DIMENSIONS)] * 2, f"rows saved: {saved}"
    return [compare("durable rating / bare sqlite3 insert", *times, "<= 1.5", "{ours:.2f} ms / {peer:.2f} ms")]


def _replies(studio: Studio) -> list[str]:
    with studio.store.write():
        tree = studio.store.create_tree("ratings")
        question = studio.store.add_node(tree, None, "user", [Part("text", "Which is best?")])
        return [
            studio.store.add_node(tree, question, "assistant", [Part("text", f"Reply {i}")]) for i in range(REPLIES)
        ]


def _keys(nodes: list[str]) -> Iterator[tuple[str, str, int]]:
    for i, (node, dimension) in enumerate(itertools.product(nodes, DIMENSIONS)):
        yield node, dimension, i % 4


def _blocks(*sides: tuple[Rate, Iterator[tuple[str, str, int]]]) -> tuple[list[float], list[float]]:
    """Milliseconds a rating for each block of each side; the side that begins changes from block to block."""
    times: tuple[list[float], list[float]] = ([], [])
    for block in range(REPLIES * len(DIMENSIONS) // BLOCK):
        for side in (0, 1) if block % 2 else (1, 0):
            save, keys = sides[side]
            start = time.perf_counter()
            for key in itertools.islice(keys, BLOCK):
                save(*key)
            times[side].append((time.perf_counter() - start) * 1000 / BLOCK)
    return times[0][WARM_UP:], times[1][WARM_UP:]
