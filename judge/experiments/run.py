"""What the experiments share: train on some trees, measure on the others."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from judge.evaluation import PairResult, ScoreResult
from judge.examples import Example, split
from judge.measure import Groups, measure
from judge.model import LoraSettings
from judge.scoring import Scorer
from judge.training import Settings, train


def fit(examples: list[Example], groups: Groups, out: Path, *, base: str, epochs: float, rank: int, rate: float, seed: int,
        validation: float = 0.0) -> tuple[list[PairResult], list[ScoreResult], float]:  # fmt: skip
    """Train a judge in ``out`` and measure it on its test trees; the third is the seconds that training took."""
    parts = split(examples, seed, validation)
    settings = Settings(base=base, epochs=epochs, learning_rate=rate, seed=seed, copies=4, derived=False, max_tokens=1024, max_path=768,
                        batch_tokens=2048, lora=LoraSettings(rank=rank, alpha=2 * rank))  # fmt: skip
    started = time.monotonic()
    trained = train(examples, f"seed-{seed}", out / "judges", out / "backbones", settings, parts=parts,
                    progress=lambda line: print(json.dumps(line), file=sys.stderr, flush=True))  # fmt: skip
    seconds = time.monotonic() - started
    assert trained.folder  # it was not interrupted, or KeyboardInterrupt would have been raised
    pairs, scores = measure(Scorer.load(trained.folder, out / "backbones"), parts.of(examples, "test"), groups)
    return pairs, scores, seconds
