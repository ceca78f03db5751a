"""The figures of the Data screen over 32,000 scores against a tenth of them."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from studio import statistics, statistics_section
from studio.actions import Studio
from studio.config import Config
from studio.tree import Part
from tests.perf import Row, compare

MANY, FEW = 32_000, 3_200
DIMENSIONS = ("L1", "L2", "L3", "L4")
RATERS = ("me", "other")
RUNS, WARM_UP = 5, 1


def measure() -> list[Row]:
    """One row: seconds until the section stands, figures and plots."""
    with tempfile.TemporaryDirectory() as folder:
        studios = [_rated(Path(folder, str(n)), n) for n in (MANY, FEW)]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(RUNS + WARM_UP):
            for side in (0, 1):
                start = time.perf_counter()
                statistics_section.section(statistics.figures(studios[side].store, "me"))
                times[side].append(time.perf_counter() - start)
        for studio in studios:
            studio.close()
    name = f"statistics of {MANY:,} scores / of {FEW:,}"
    return [compare(name, times[0][WARM_UP:], times[1][WARM_UP:], None, "{ours:.2f} s / {peer:.2f} s")]


def _rated(home: Path, scores: int) -> Studio:
    """A studio with this many scores: two people, four dimensions, twenty replies a tree."""
    rng, studio = random.Random(scores), Studio.open(Config(home, annotator="me"))
    with studio.store.write():
        for _ in range(scores // (20 * len(DIMENSIONS) * len(RATERS))):
            tree = studio.store.create_tree("t")
            asked = studio.store.add_node(tree, None, "user", [Part("text", "q")])
            for i in range(20):
                node = studio.store.add_node(tree, asked, "assistant", [Part("text", f"r{i}")], model="m")
                for who in RATERS:
                    for dimension in DIMENSIONS:
                        studio.store.rate(node, dimension, rng.choice((0, 1, 2, 3, 3)), who)
    return studio
