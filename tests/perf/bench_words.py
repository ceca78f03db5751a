"""Accuracy on words of unseen dialogues over five seeds, beside unigrams fitted to the same pairs (``judge.experiments.words``).

Needs a studio file with dialogues of two turns or more: STUDIO_FILE=trees.zip python -m tests.perf words. About a quarter of
an hour a seed on two cores.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.perf import Row, Unavailable
from tests.perf.makings import need

SEEDS = range(5)
FILE, BASE = (
    "STUDIO_FILE",
    "STUDIO_BASE",
)  # of the environment: what to learn from, and a backbone (default: the built-in one)


def measure() -> list[Row]:
    """One row: the judge's mean accuracy over that of the unigrams; the spread is over seeds, every seed is in the detail."""
    need("torch", "scipy")
    if not (file := os.environ.get(FILE)):
        raise Unavailable(f"no dialogues: set {FILE} to a file of intermt-studio export")
    from judge.examples import read
    from judge.experiments import words
    from judge.experiments.run import over_seeds, seeds_told
    from judge.experiments.unigram import NAME

    examples, judge, unigrams, longer, n = read(Path(file)), [], [], [], 0
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            report = words.run(
                examples, Path(folder), base=os.environ.get(BASE, "builtin"), epochs=1.0, rank=16, rate=5e-4, seed=seed
            )
        pairs = report["pairs"]
        judge.append(pairs["accuracy"])
        unigrams.append(pairs["others"][NAME]["value"])
        longer.append(pairs["baselines"]["longer"]["value"])
        n += pairs["n"]
    ratios = [a / b for a, b in zip(judge, unigrams, strict=True)]
    told = [
        seeds_told(name, over_seeds(values))
        for name, values in (("judge", judge), (NAME, unigrams), ("longer", longer))
    ]
    detail = f"accuracy on {n} test pairs in all: {'; '.join(told)}; coin 0.500"
    mean = over_seeds(judge)["mean"] / over_seeds(unigrams)["mean"]
    return [
        Row(
            "words: accuracy on unseen dialogues over unigrams",
            round(mean, 3),
            ">= 1",
            len(judge),
            (min(ratios), max(ratios)),
            detail,
        )
    ]
