"""Accuracy on drawn scenes over five seeds, beside the same judge with every picture wiped (``judge.experiments.pixels``).

About two minutes a seed on two cores.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.perf import Row
from tests.perf.makings import need

SEEDS = range(5)
TREES = (
    "PIXELS_TREES"  # of the environment: trees to learn from, for a quick look; default: the experiment's own number
)


def measure() -> list[Row]:
    """One row: the mean accuracy over that with wiped pictures; the spread is over seeds, every seed is in the detail."""
    need("torch", "scipy", "PIL")
    import torch

    from judge.experiments import pixels
    from judge.experiments.run import over_seeds, seeds_told

    torch.set_num_threads(1)  # sums are then added up in one order
    trees = int(os.environ.get(TREES, pixels.Recipe.train_trees))
    seen, wiped, n = [], [], 0
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            report = pixels.run(Path(folder), pixels.Recipe(train_trees=trees, seed=seed))
        seen.append(report["pairs"]["accuracy"])
        wiped.append(report["blanked"]["accuracy"])
        n += report["pairs"]["n"]
    ratios = [a / b for a, b in zip(seen, wiped, strict=True)]
    told = [seeds_told(name, over_seeds(values)) for name, values in (("pictures", seen), ("wiped", wiped))]
    detail = f"accuracy on {n} test pairs in all: {'; '.join(told)}; coin 0.500"
    mean = over_seeds(seen)["mean"] / over_seeds(wiped)["mean"]
    return [
        Row(
            "pixels: accuracy over that with wiped pictures",
            round(mean, 3),
            ">= 1.8",
            len(seen),
            (min(ratios), max(ratios)),
            detail,
        )
    ]
