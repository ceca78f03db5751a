"""Training a judge that sees: trees whose first question holds a picture, packed, against every reply with its whole path.

The peer is the same network and loss with each reply's path as a sequence of its own, pictures encoded every time.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.perf import Peak, Row, compare
from tests.perf.bench_judge import WORDS, grow
from tests.perf.makings import need

TURNS, RUNS, WARM_UP = 5, 7, 1
HIDDEN, LAYERS, SIDE = 384, 8, 336  # a backbone in which computing, not Python, takes the time; a picture of 144 tokens
BOUND_SHARE = 0.9


def measure() -> list[Row]:
    """One row for two and one for three replies a turn: pairs/s of a forward and backward pass over one tree."""
    need("torch", "transformers")
    import torch

    from judge import backbones
    from judge.model import JudgeModel, LoraSettings
    from tests import tiny

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        base = tiny.qwen(Path(folder, "qwen"), HIDDEN, LAYERS)
        model = JudgeModel(backbones.load(str(base), Path(folder)), LoraSettings(16, 32), 0)
        return [_training(model, Path(folder), replies) for replies in (2, 3)]


def _training(model: Any, folder: Path, replies: int) -> Row:
    example = with_picture(folder, replies)
    together, tokens = _batches(model, [example])
    apart, alone = _batches(model, _one_by_one(example))
    pairs, times, memory = len(example.comparisons), ([], []), [0.0, 0.0]  # type: ignore[var-annotated]
    for _ in range(RUNS + WARM_UP):
        for side, batches in enumerate((together, apart)):
            with Peak() as peak:
                start = time.perf_counter()
                _step(model, batches)
                times[side].append(pairs / (time.perf_counter() - start))
            memory[side] = peak.mb
    bound = alone / tokens
    return compare(f"judge training with a picture in the prefix / each path alone, {replies} replies a turn", times[0][WARM_UP:],
                   times[1][WARM_UP:], f">= {BOUND_SHARE * bound:.2f}",
                   f"{{ours:.2f}} / {{peer:.2f}} pairs/s; token bound {bound:.2f}; +{memory[0]:.0f} / +{memory[1]:.0f} MB")  # fmt: skip


def with_picture(folder: Path, replies: int, side: int = SIDE, words: int = WORDS) -> Any:
    """A tree of five turns, one reply continued, all sibling pairs; a picture opens it."""
    from PIL import Image

    from studio.tree import Part, Tree

    picture = folder / "picture.png"
    Image.effect_noise((side, side), 90).convert("RGB").save(picture)
    example = grow(TURNS, replies, False, words=words)
    first = next(example.tree.walk())
    seen = replace(first, parts=[Part("image", image_sha256="a" * 64, caption="noise"), *first.parts])
    nodes = [seen if n.id == first.id else n for n in example.tree.walk()]
    return replace(example, tree=Tree(example.tree.id, nodes=nodes), images={"a" * 64: picture})


def _one_by_one(example: Any) -> list[Any]:
    """Two examples a comparison: a reply with its path and nothing else. Their label is a score, which costs nothing to tell."""
    from judge.examples import Score
    from studio.tree import Tree

    made = []
    for i, c in enumerate(example.comparisons):
        for node in (c.left, c.right):
            path = [replace(n, tree_id=f"{i}-{node}") for n in example.tree.path(node)]
            label = Score(node, "L1", 2)
            made.append(replace(example, tree=Tree(f"{i}-{node}", nodes=path), comparisons=[], scores=[label]))
    return made


def _batches(model: Any, examples: list[Any]) -> tuple[list[Any], int]:
    """A batch for each example, and the tokens of all."""
    from judge.batches import Forests, Step

    data = Forests(examples, model.encoder, model.head.scales, max_tokens=8192, max_path=4096)
    data.steps = [Step([[part]]) for part in data.parts]
    return [data[i] for i in range(len(data))], data.tokens


def _step(model: Any, batches: list[Any]) -> None:
    """Forward and backward over everything; the sum of the scalars stands for the loss, whose own cost is nothing."""
    for batch in batches:
        model(batch).sum().backward()
    model.zero_grad()
