"""Trees with pictures, packed, against the model's OWN forward of each path: its attention, its positions, its vision tower."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from judge import backbones, support  # noqa: E402
from judge.model import JudgeModel, LoraSettings  # noqa: E402
from judge.packing import Forest, bundle, pack, plan  # noqa: E402
from tests import tiny  # noqa: E402
from tests.test_attention import exact_softmax  # noqa: E402
from tests.test_packing import grow, reader, replies  # noqa: E402

TREES = 200
KINDS = ("qwen", "qwen3vl", "smolvlm")


@dataclass
class Alone:
    """One path of a tree as the model itself reads it, and the packed indices of its tokens."""

    ids: Any
    pixels: dict[str, Any]
    at: Any


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind in KINDS:
        found[kind] = tmp_path_factory.mktemp(kind)
        getattr(tiny, kind)(found[kind], layers=2)
    return found


def judge_of(folder: Path, cache: Path, dtype: Any, rank: int = 0) -> JudgeModel:
    """A judge whose weights are large enough that a wrong mask shows; in fp64 with a softmax of fp64."""
    backbone = backbones.load(str(folder), cache)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in backbone.model.named_parameters():
            if p.dim() > 1 and "visual" not in name and "vision" not in name:
                p.normal_(0, 0.2, generator=generator)
    backbone.model.to(dtype)
    exact_softmax(
        backbone.model.language_model if hasattr(backbone.model, "language_model") else backbone.model.text_model
    )
    return JudgeModel(backbone, LoraSettings(rank=rank), 0)


def packed(model: JudgeModel, seed: int) -> tuple[Forest, list[Alone]]:
    """A random tree of one or two turns as one sequence, and each path to a reply."""
    rng = random.Random(seed)
    tree, images = grow(rng.randint(1, 2), rng.randint(1, 3), seed=seed, all_continue=rng.random() < 0.3)
    piece = reader(model, tree, images)
    (group,) = bundle(plan(tree, [(n,) for n in replies(tree)], piece, 100_000, 50_000), 100_000)
    forest = pack(group, lambda tree, node: piece(node))
    forest.images = model.encoder.pixels(forest.pictures, images)
    paths = []
    for part, ends in zip(group, forest.ends, strict=True):
        for (node,) in part.items:
            pieces = {n.id: piece(n.id) for n in tree.path(node)}
            at = torch.cat([torch.arange(ends[n] + 1 - len(p.ids), ends[n] + 1) for n, p in pieces.items()])
            shown = [sha for p in pieces.values() for sha in p.pictures]
            paths.append(Alone(torch.cat([p.ids for p in pieces.values()]), model.encoder.pixels(shown, images), at))
    return forest, paths


def own_states(model: JudgeModel, path: Alone) -> Any:
    """Last hidden states (n, h) of the path alone, by the model's own code."""
    image = getattr(model.encoder, "image_id", None)
    more = {} if image is None else {"mm_token_type_ids": (path.ids == image).long()[None]}
    return model.backbone(
        input_ids=path.ids[None], use_cache=False, **model.placed(path.pixels), **more
    ).last_hidden_state[0]


def trees(model: JudgeModel, n: int) -> Iterator[tuple[Any, list[Alone]]]:
    """The packed hidden states of random trees, and their paths."""
    for seed in range(n):
        forest, paths = packed(model, seed)
        yield model.hidden(forest.ids, forest.positions, forest.layout, forest.images), paths


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_trees_with_pictures_equal_the_models_own_forward(
    kind: str, dtype: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = judge_of(folders[kind], tmp_path, getattr(torch, dtype))
    worst, n_pictures = 0.0, 0
    with torch.no_grad():
        for states, paths in trees(model, TREES):
            for path in paths:
                with support.own_attention(model.backbone, "own" if dtype == "float64" else "eager"):
                    own = own_states(model, path)
                worst = max(worst, float((states[path.at] - own).norm() / own.norm()))
                n_pictures += bool(path.pixels)
    assert n_pictures > TREES
    assert worst < (1e-9 if dtype == "float64" else 1e-5), worst


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_trees_with_pictures_equal_the_models_own(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = judge_of(folders[kind], tmp_path, torch.float64, rank=2)
    model.backbone.double()
    for i, (name, p) in enumerate(model.backbone.named_parameters()):
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) * 0.1
    weights = [p for p in model.backbone.parameters() if p.requires_grad]
    for states, paths in trees(model, 8):
        signs = [torch.randn(states[p.at].shape, generator=torch.Generator().manual_seed(3)).double() for p in paths]
        ours = torch.autograd.grad(sum((states[p.at] * s).sum() for p, s in zip(paths, signs, strict=True)), weights)
        with support.own_attention(model.backbone, "own"):
            loss = sum((own_states(model, p) * s).sum() for p, s in zip(paths, signs, strict=True))
            theirs = torch.autograd.grad(loss, weights)
        norm = torch.cat([g.flatten() for g in theirs]).norm()
        apart = torch.cat([(a - b).flatten() for a, b in zip(ours, theirs, strict=True)]).norm()
        assert norm > 1e-3
        assert float(apart / norm) < 1e-9
