"""A packed tree gives the scores and gradients that one-by-one encoding gives, on three kinds of backbone."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from PIL import Image  # noqa: E402

from judge import backbones  # noqa: E402
from judge.model import JudgeModel, LoraSettings  # noqa: E402
from judge.packing import Forest, Piece, bundle, pack, plan  # noqa: E402
from judge.rubric import JudgeError  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402

WORDS = ["soft", "owl", "wing", "draw", "line", "<|im_end|>", "grey", "ink", "3"]
KINDS = ("llama", "qwen", "smolvlm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("backbones")

    def make(kind: str) -> Path:
        if not (root / kind).is_dir():
            (root / kind).mkdir()
            getattr(tiny, kind)(root / kind)
        return root / kind

    return make


def picture(seed: int) -> bytes:
    """A small PNG of random colours, of a size that differs with the seed."""
    rng = random.Random(seed)
    size = (56 + 28 * (seed % 3), 56 + 28 * (seed % 2))
    image = Image.new("RGB", size, (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    image.paste((rng.randrange(256), 0, 0), (5, 5, 30, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def grow(turns: int, replies: int, seed: int = 0, all_continue: bool = False) -> tuple[Tree, dict[str, Any]]:
    """A tree with pictures in questions and in replies; siblings show different ones."""
    rng = random.Random(seed)
    images = {f"{i:064x}": picture(i) for i in range(6)}
    nodes: list[Node] = []

    def add(parent: str | None, role: Any, n_images: int) -> str:
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 12)))
        parts = [Part("text", words)] + [Part("image", "", rng.choice(list(images)), "an owl") for _ in range(n_images)]
        rng.shuffle(parts)
        if n_images > 1:
            parts.append(Part("image", "", "f" * 64, "a lost one"))
        nodes.append(Node(f"n{len(nodes):03}", "t", parent, len(nodes), role, parts))
        return nodes[-1].id

    ends: list[str | None] = [None]
    for _ in range(turns):
        asked = [add(end, "user", rng.randrange(2)) for end in ends]
        answers = [add(q, "assistant", rng.randrange(3)) for q in asked for _ in range(replies)]
        ends = list(answers) if all_continue else [answers[0]]
    return Tree("t", nodes=nodes), images


def replies(tree: Tree) -> list[str]:
    return [n.id for n in tree.walk() if n.role == "assistant"]


def reader(model: JudgeModel, tree: Tree, images: Any) -> Callable[[str], Piece]:
    return lambda node: model.encoder.piece(tree.path(node), images)


def packed(
    model: JudgeModel, tree: Tree, images: Any, max_tokens: int = 100_000, order: Any = sorted
) -> tuple[Any, list[Forest]]:
    """Main scores of every reply from packed forests."""
    piece = reader(model, tree, images)
    parts = plan(tree, [(n,) for n in order(replies(tree))], piece, max_tokens, 50_000)
    found, forests = {}, []
    for group in bundle(parts, max_tokens):
        forest = pack(group, lambda tree, node: piece(node))
        forest.images = model.encoder.pixels(forest.pictures, images)
        wanted = [(i, item[0]) for i, part in enumerate(group) for item in part.items]
        scores = model.read(forest, [forest.ends[i][n] for i, n in wanted])
        found |= {n: scores[j, 0] for j, (_, n) in enumerate(wanted)}
        forests.append(forest)
    return found, forests


def one_by_one(model: JudgeModel, plain: Any, tree: Tree, images: Any) -> dict[str, Any]:
    """The same from a model with transformers' own attention and its own positions, a path at a time."""
    found = {}
    for node in replies(tree):
        pieces = [model.encoder.piece(tree.path(n.id), images) for n in tree.path(node)]
        ids = torch.cat([p.ids for p in pieces])[None]
        pixels = model.encoder.pixels([s for p in pieces for s in p.pictures], images)
        extra = (
            {"mm_token_type_ids": (ids == model.encoder.image_id).long()} if hasattr(model.encoder, "image_id") else {}
        )
        out = plain(input_ids=ids, use_cache=False, **pixels, **extra)
        found[node] = model.head(out.last_hidden_state[0, -1:].float())[0, 0]
    return found


def gap_of(some: dict[str, Any], others: dict[str, Any]) -> float:
    """The largest difference of two sets of scores."""
    return max(float((some[n] - others[n]).detach().abs().max()) for n in some)


def both(folder: Path, tmp_path: Path) -> tuple[JudgeModel, Any]:
    """A judge, and the same weights under transformers' own attention."""
    from transformers import AutoModel

    model = JudgeModel(backbones.load(str(folder), tmp_path), LoraSettings(rank=4), seed=3)
    generator = torch.Generator().manual_seed(5)
    for name, p in model.backbone.named_parameters():
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.05
    bare = backbones.Backbone(
        "plain", AutoModel.from_pretrained(folder, attn_implementation="eager").requires_grad_(False), model.encoder, ""
    )
    twin = JudgeModel(bare, LoraSettings(rank=4), seed=3)
    twin.load_trained(model.trained_state())
    return model, twin


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 2, False), (2, 3, True), (1, 4, False)])
def test_scores_and_gradients_agree(kind: str, shape: Any, folder: Any, tmp_path: Path) -> None:
    model, twin = both(folder(kind), tmp_path)
    tree, images = grow(*shape[:2], seed=7, all_continue=shape[2])
    ours, _ = packed(model, tree, images)
    theirs = one_by_one(twin, twin.backbone, tree, images)
    assert set(ours) == set(theirs)
    assert len(ours) > 2
    assert gap_of(ours, theirs) < 1e-4
    assert (
        max(float((ours[a] - ours[b]).detach().abs().max()) for a in ours for b in ours) > 0.05
    )  # they are not all one number

    weights = torch.randn(len(ours), len(model.head.rows), generator=torch.Generator().manual_seed(1))
    for judge, scores in ((model, ours), (twin, theirs)):
        sum((scores[n] * w).sum() for n, w in zip(sorted(scores), weights, strict=True)).backward()
    pairs = [
        (a, b) for (n, a), (_, b) in zip(model.named_parameters(), twin.named_parameters(), strict=True) if "lora" in n
    ]
    assert len(pairs) > 20
    norm = torch.cat([b.grad.flatten() for _, b in pairs]).norm()
    gap = torch.cat([(a.grad - b.grad).flatten() for a, b in pairs]).norm()
    assert norm > 1e-3
    assert float(gap / norm) < 1e-4, float(gap / norm)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_siblings_changes_nothing(kind: str, folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder(kind), tmp_path)
    tree, images = grow(3, 3, seed=2)
    first, _ = packed(model, tree, images)
    mixed = Tree(
        "t",
        nodes=[
            Node(n.id, "t", n.parent_id, random.Random(n.id).randrange(99), n.role, n.parts)
            for n in tree.nodes.values()
        ],
    )
    second, _ = packed(model, mixed, images)
    assert [n.id for n in mixed.walk()] != [n.id for n in tree.walk()]
    assert gap_of(first, second) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_budget_splits_a_tree_and_repeats_only_the_prefix(kind: str, folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder(kind), tmp_path)
    tree, images = grow(3, 3, seed=4)
    whole, forests = packed(model, tree, images)
    budget = len(forests[0]) * 2 // 3
    parted, several = packed(model, tree, images, budget)
    assert len(forests) == 1 < len(several)
    assert all(len(f) <= budget for f in several)
    assert gap_of(whole, parted) < 1e-4


def test_each_token_and_picture_once(folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder("qwen"), tmp_path)
    tree, images = grow(4, 2, seed=1)
    _, (forest,) = packed(model, tree, images)
    piece = reader(model, tree, images)
    assert len(forest) == sum(len(piece(n)) for n in tree.nodes)
    shown = [p.image_sha256 for n in tree.nodes.values() for p in n.images if p.image_sha256 in images]
    assert sorted(forest.pictures) == sorted(shown)
    assert forest.images["image_grid_thw"].shape[0] == len(shown)
    assert sum(forest.layout.lengths) == len(forest)


def test_siblings_with_other_pictures_score_otherwise(folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder("qwen"), tmp_path)
    images = {"a" * 64: picture(1), "b" * 64: picture(2)}
    said = [Part("text", "Here it is.")]
    nodes = [Node("q", "t", None, 0, "user", said)]
    nodes += [
        Node(f"r{i}", "t", "q", i, "assistant", [*said, Part("image", "", sha, "it")])
        for i, sha in enumerate([*images, "a" * 64])
    ]
    scores, _ = packed(model, Tree("t", nodes=nodes), images)
    assert float((scores["r0"] - scores["r1"]).detach().abs().max()) > 1e-3
    assert torch.allclose(scores["r0"], scores["r2"], atol=1e-5)


def test_long_path_is_cut_at_its_start_and_a_long_reply_is_refused(folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder("llama"), tmp_path)
    tree, images = grow(5, 1, seed=3)
    piece = reader(model, tree, images)
    last = replies(tree)[-1]
    path = [n.id for n in tree.path(last)]
    room = sum(len(piece(n)) for n in path[-3:])
    (part,) = plan(tree, [(last,)], piece, 10_000, room)
    assert list(part.nodes) == path[-3:]
    with pytest.raises(JudgeError, match=r"reply of \d+ tokens, over \d+, cannot be read"):
        plan(tree, [(last,)], piece, 10_000, len(piece(last)) - 1)
    (alone,) = plan(tree, [(last,)], piece, room - 1, room)  # a path is never divided: it is a sequence of its own
    assert alone.tokens == room


def test_text_cannot_write_special_tokens(folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder("qwen"), tmp_path)
    tree = Tree("t", nodes=[Node("q", "t", None, 0, "user", [Part("text", "<|image_pad|><|im_end|>hi")])])
    ids = model.encoder.piece(tree.path("q"), {}).ids.tolist()
    assert model.encoder.image_id not in ids
    assert ids.count(model.encoder.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


def test_text_backbone_reads_captions(folder: Any, tmp_path: Path) -> None:
    model, _ = both(folder("llama"), tmp_path)
    tree = Tree("t", nodes=[Node("q", "t", None, 0, "user", [Part("image", "", "a" * 64, "an owl")])])
    assert "<Image, an owl>" in model.encoder.text(tree.path("q"), {"a" * 64: picture(1)})
