"""Does a judge learn from pixels? Drawn scenes, and a judge that starts from random weights: nothing else can tell it.

    python -m judge.experiments.pixels OUT_FOLDER

Each tree asks for one scene ("Draw a red circle.") and has two replies of the same words: one shows that scene, one a
scene of another colour or another shape. Size, place, hue and ground are drawn anew each time, so no two pictures are
alike. Some colours never meet some shapes in training ("new"), only in the test. As a control the test is run again
with each picture wiped to one plain grey: what is left must be a coin. Owns the scenes, the tiny backbone and the loop
that trains all of its weights (``judge.training`` trains LoRA); it never says anything about a real backbone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from judge import backbones
from judge.batches import Forests
from judge.evaluation import evaluate
from judge.examples import Comparison, Example
from judge.losses import label_losses
from judge.measure import Groups, measure
from judge.model import JudgeModel, LoraSettings
from judge.rubric import JudgeError
from judge.scoring import Scorer
from judge.trainer import Progress
from studio.tree import Node, Part, Tree

COLOURS = {"red": (205, 45, 45), "green": (40, 160, 60), "blue": (45, 75, 205), "yellow": (225, 200, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
KINDS = [(c, s) for c in COLOURS for s in SHAPES]
NEW = set(zip(COLOURS, SHAPES, strict=True))  # kinds that training never sees: each colour and each shape is in one
GREYS = range(64, 256)  # of a wiped picture
SIDE = 56  # pixels: 4 x 4 patches of 14, four tokens
SAID = "Here it is ."  # words and stops apart: the tokenizer knows whole words only
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
)


@dataclass(frozen=True)
class Recipe:
    """Sizes and rates. ``hidden``: of the language model and, halved, of the vision tower; ``max_tokens``: a batch."""

    train_trees: int = 1500
    test_trees: int = 300
    hidden: int = 64
    layers: int = 2
    epochs: int = 6
    rate: float = 6e-4
    max_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        least = min(self.train_trees, self.test_trees, self.epochs)
        if least < 1:
            raise JudgeError(f"The experiment needs at least one tree and one epoch, not {least}. Ask for more.")


@dataclass
class Scenes:
    """Trees to learn from, trees to be tested on, and the group of each (left, right) of the latter."""

    train: list[Example] = field(default_factory=list)
    test: list[Example] = field(default_factory=list)
    groups: dict[tuple[str, str], str] = field(default_factory=dict)


def scenes(recipe: Recipe) -> Scenes:
    """All trees of a recipe: training knows no NEW kind, the test has one in every second tree."""
    rng, made = random.Random(recipe.seed), Scenes()
    known = [k for k in KINDS if k not in NEW]
    for i in range(recipe.train_trees):
        made.train.append(_example(f"train-{i:04}", rng.choice(known), known, rng)[0])
    for i in range(recipe.test_trees):
        kind = rng.choice(sorted(NEW) if i % 2 else known)
        example, other = _example(f"test-{i:04}", kind, KINDS, rng)
        made.test.append(example)
        made.groups[_pair(example)] = f"other {other}, {'new' if kind in NEW else 'known'} kind"
    return made


def _pair(example: Example) -> tuple[str, str]:
    (only,) = example.comparisons
    return only.left, only.right


def _example(
    name: str, kind: tuple[str, str], among: Sequence[tuple[str, str]], rng: random.Random
) -> tuple[Example, str]:
    """A question with a right and a wrong picture, and what is wrong with that: its colour or its shape."""
    other = rng.choice(("colour", "shape"))
    same, differs = (1, 0) if other == "colour" else (0, 1)
    wrong = rng.choice([k for k in among if k[same] == kind[same] and k[differs] != kind[differs]])
    drawn = [draw(*kind, rng), draw(*wrong, rng)]
    shas = [hashlib.sha256(data).hexdigest() for data in drawn]
    order = rng.sample([0, 1], 2)  # which of the two is stored first
    question = Node(f"{name}-q", name, None, 0, "user", [Part("text", f"Draw a {kind[0]} {kind[1]} .")])
    replies = [Node(f"{name}-{'ab'[at]}", name, question.id, at, "assistant",
                    [Part("text", SAID), Part("image", "", shas[which])]) for at, which in enumerate(order)]  # fmt: skip
    label = Comparison(replies[0].id, replies[1].id, "L1", "local", "left" if order[0] == 0 else "right")
    tree = Tree(name, nodes=[question, *replies])
    return Example(tree, comparisons=[label], images=dict(zip(shas, drawn, strict=True))), other


def draw(colour: str, shape: str, rng: random.Random) -> bytes:
    """A PNG of one shape on a plain ground, SIDE pixels a side; size, place, hue and ground vary."""
    ground = rng.randrange(200, 256)
    image = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
    half = rng.uniform(16, 21)
    x, y = (rng.uniform(half + 1, SIDE - half - 1) for _ in range(2))
    hue = tuple(min(255, max(0, value + rng.randint(-25, 25))) for value in COLOURS[colour])
    pen, box = ImageDraw.Draw(image), (x - half, y - half, x + half, y + half)
    if shape == "circle":
        pen.ellipse(box, fill=hue)
    elif shape == "square":
        pen.rectangle(box, fill=hue)
    elif shape == "triangle":
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=hue)
    else:
        arm = half / 3
        pen.rectangle((x - half, y - arm, x + half, y + arm), fill=hue)
        pen.rectangle((x - arm, y - half, x + arm, y + half), fill=hue)
    return _png(image)


def blanked(examples: Sequence[Example], greys: Sequence[int], seed: int = 0) -> list[Example]:
    """The same trees and labels with every picture wiped to one plain grey, drawn from ``greys`` (0-255) for each."""
    rng = random.Random(seed)
    return [_blank(e, greys, rng) for e in examples]


def _blank(example: Example, greys: Sequence[int], rng: random.Random) -> Example:
    # under hashes of their own: an encoder knows a picture again by its hash
    images: dict[str, bytes | Path] = {}

    def wiped(part: Part) -> Part:
        if part.kind != "image":
            return part
        grey = _png(Image.new("RGB", (SIDE, SIDE), (rng.choice(greys),) * 3))
        sha = hashlib.sha256(grey).hexdigest()
        images[sha] = grey
        return replace(part, image_sha256=sha)

    nodes = [replace(n, parts=[wiped(p) for p in n.parts]) for n in example.tree.walk()]
    return replace(example, tree=Tree(example.tree.id, nodes=nodes), images=images)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def make_backbone(folder: Path, recipe: Recipe) -> Path:
    """Save a Qwen2.5-VL of random weights, with a tokenizer that knows the words of the scenes, as a real one is saved."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLImageProcessorPil

    tokenizer, hidden = _tokenizer(), recipe.hidden
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{k}_token_id": tokenizer.convert_tokens_to_ids(f"<|{v}|>") for k, v in names.items()}
    scale = dict(initializer_range=0.08)  # transformers' 0.02 is for larger ones
    text = dict(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        **scale,
    )
    vision = dict(depth=2, hidden_size=hidden // 2, intermediate_size=hidden, num_heads=2, out_hidden_size=hidden,
                  patch_size=14, window_size=SIDE, fullatt_block_indexes=[0, 1], spatial_merge_size=2,
                  temporal_patch_size=2, **scale)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)).save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["user", "assistant", "Draw", "a", *COLOURS, *SHAPES, *SAID.split(), "?"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    fast.add_special_tokens({"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"})
    fast.chat_template = TEMPLATE
    return fast


def learn(
    examples: Sequence[Example], base: Path, recipe: Recipe, progress: Progress = lambda line: None
) -> JudgeModel:
    """A judge on the backbone in ``base`` with every weight trained: AdamW, the rate rising for a tenth and then falling.

    On the CPU in fp32, so that it is the same everywhere. Raises JudgeError without examples.
    """
    model = JudgeModel(backbones.load(str(base), base, "cpu", torch.float32), LoraSettings(rank=0), 0, recipe.seed)
    model.backbone.requires_grad_(True)  # random weights: LoRA alone would have nothing to adapt
    data = Forests(examples, model.encoder, model.head.scales, max_tokens=recipe.max_tokens, max_path=recipe.max_tokens)
    batches = [data[i] for i in range(len(data))]  # so small that their pixels all fit in memory
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate)
    steps = recipe.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.1)
    rng = random.Random(recipe.seed)
    model.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch in rng.sample(batches, len(batches)):
            loss = label_losses(model.head, model(batch), batch)[0]
            optimizer.zero_grad()
            (loss / len(batch["pairs"])).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        progress({"epoch": epoch + 1, "epochs": recipe.epochs, "loss": round(total / len(examples), 4)})
    return model


def run(out: Path, recipe: Recipe, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Draw, train, test, and test with wiped pictures: a report, which is also written to ``report.json`` in ``out``.

    As ``judge.evaluation.evaluate`` gives it, and ``blanked``: the pair accuracy with each picture a grey of its own.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = scenes(recipe)
    started = time.monotonic()
    model = learn(made.train, make_backbone(out / "backbone", recipe), recipe, progress)
    seconds = time.monotonic() - started
    wiped = report_on(model, blanked(made.test, GREYS, recipe.seed))
    report = {**report_on(model, made.test, made.groups), "blanked": wiped["pairs"], "recipe": asdict(recipe),
              "train_seconds": round(seconds, 1)}  # fmt: skip
    (out / "report.json").write_text(json.dumps(report, indent=1))
    return report


def report_on(model: JudgeModel, examples: Sequence[Example], groups: Groups | None = None) -> dict[str, Any]:
    """The judge's report on these trees. Raises JudgeError when a picture cannot be read."""
    return evaluate(*measure(Scorer(model), examples, groups))


def main(argv: list[str] | None = None) -> int:
    """Run the experiment and print its accuracies with n and 95 % intervals."""
    parser = argparse.ArgumentParser(prog="python -m judge.experiments.pixels", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="a folder for the backbone and the report")
    for name in ("train_trees", "test_trees", "epochs", "rate", "seed"):
        default = getattr(Recipe, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"{default}")
    asked = vars(parser.parse_args(argv))
    try:
        report = run(
            asked.pop("out"), Recipe(**asked), lambda line: print(json.dumps(line), file=sys.stderr, flush=True)
        )
    except (JudgeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    groups = {row["key"]: row for row in report["pairs_by"] if row["by"] == "group"}
    for name, row in {"pictures": report["pairs"], **groups, "blanked": report["blanked"]}.items():
        interval = [round(v, 3) for v in row["interval"] or []]  # none of a single tree
        print(f"{name}: {row['accuracy']:.3f} {interval} n={row['n']}")
    print(f"trained in {report['train_seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
