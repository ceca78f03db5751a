"""What the experiments share: train on some trees, measure on the others, and say a figure with all that belongs to it."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judge.evaluation import PairResult, ScoreResult
from judge.examples import Example
from judge.groups import Split
from judge.measure import Groups, Key, measure_keyed
from judge.model import LoraSettings
from judge.scoring import Scorer
from judge.settings import Settings
from judge.training import train

Keyed = list[tuple[Key, PairResult]]


def fit(examples: list[Example], parts: Split, groups: Groups, out: Path, *, base: str, epochs: float, rank: int, rate: float,
        seed: int) -> tuple[Keyed, list[ScoreResult], float]:  # fmt: skip
    """Train a judge in ``out`` and measure it on its test trees; the third is the seconds that training took."""
    settings = Settings(base=base, epochs=epochs, learning_rate=rate, seed=seed, copies=4, derived=False, max_tokens=1024, max_path=768,
                        batch_tokens=2048, lora=LoraSettings(rank=rank, alpha=2 * rank))  # fmt: skip
    started = time.monotonic()
    trained = train(
        examples, f"seed-{seed}", out / "judges", out / "backbones", settings, parts=parts, progress=to_stderr
    )
    seconds = time.monotonic() - started
    assert trained.folder  # it was not interrupted, or KeyboardInterrupt would have been raised
    pairs, scores = measure_keyed(Scorer.load(trained.folder, out / "backbones"), parts.of(examples, "test"), groups)
    return pairs, scores, seconds


def to_stderr(line: dict[str, Any]) -> None:
    """How far it is, as one line of JSON."""
    print(json.dumps(line), file=sys.stderr, flush=True)


def figure(value: float | None, interval: Sequence[float] | None, n: int) -> str:
    """'0.661 [0.612, 0.708] n=120'; a dash where there is none."""
    if value is None:
        return f"– n={n}"
    between = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{value:.3f}{between} n={n}".replace("-", "−")


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean of one figure over seeds and its 95 % interval by Student's t; no interval with a single seed."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return {"mean": mean, "interval": None, "seeds": list(values)}
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return {"mean": mean, "interval": [mean - half, mean + half], "seeds": list(values)}


def seeds_told(name: str, found: dict[str, Any]) -> str:
    """'judge 0.820 [0.790, 0.850] of .81 .83 ...': a figure over seeds with every seed."""
    span = found["interval"]
    between = f" [{span[0]:.3f}, {span[1]:.3f}]" if span else ""
    return f"{name} {found['mean']:.3f}{between} of {' '.join(f'{v:.3f}' for v in found['seeds'])}"
