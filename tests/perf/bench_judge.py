"""The judge against its peers on SmolLM2-135M: TRL's RewardTrainer, one forward per reply, re-encoding a path.

Every ratio is printed beside its token bound: the tokens that the peer encodes over the tokens that we encode.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.perf import Peak, Row, Unavailable, compare
from tests.perf.makings import VOCABULARY, need

TURNS, WORDS, RUNS, STEPS = 5, 16, 3, 2  # the first step of a run does not count
LIVE_WORDS = 70  # of a node: between the median question (28) and reply (115) of InterMT's crucial steps
SHAPES = {
    "2 replies a turn, one continued": (5, 2, False),
    "3 replies a turn, one continued": (5, 3, False),
    "all 2 continued, 3 turns": (3, 2, True),
}


def measure() -> list[Row]:
    """Training with two and three replies a turn, scoring three shapes, a new reply at depth five."""
    need("torch", "trl")
    import torch

    from judge import backbones
    from judge.rubric import JudgeError

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = backbones.locate(backbones.BUILTIN, Path(folder))
        except JudgeError as error:
            raise Unavailable(str(error)) from error
        rows = [training(path, Path(folder), n) for n in (2, 3)]
        return [*rows, *scoring(path, Path(folder)), live(path, Path(folder))]


def grow(turns: int, replies: int, all_continue: bool, seed: int = 0, words: int = WORDS) -> Any:
    """A tree of text, every node about as long; the label: the earlier sibling is better."""
    import random

    from judge.examples import Comparison, Example
    from studio.tree import Node, Part, Tree

    rng, nodes, ends, pairs = random.Random(seed), [], [None], []
    for _ in range(turns):
        following = []
        for end in ends:

            def add(parent: Any, role: Any) -> str:
                said = " ".join(rng.choice(VOCABULARY) for _ in range(words))
                nodes.append(
                    Node(f"s{seed}n{len(nodes):04}", f"t{seed}", parent, len(nodes), role, [Part("text", said)])
                )
                return nodes[-1].id

            asked = add(end, "user")
            answers = [add(asked, "assistant") for _ in range(replies)]
            pairs += [Comparison(a, b, "overall", "local", "left") for a, b in itertools.combinations(answers, 2)]
            following += answers if all_continue else answers[:1]
        ends = following
    return Example(Tree(f"t{seed}", nodes=nodes), comparisons=pairs)


def training(path: str, folder: Path, replies: int) -> Row:
    """Pairs/s: our trainer and TRL's in turn, a tree a step; the first step of each run does not count."""
    examples = [grow(TURNS, replies, False, seed) for seed in range(STEPS)]
    ours, peer, tokens, memory = [], [], [0, 0], [0.0, 0.0]
    for run in range(RUNS):
        seconds, tokens[0], memory[0] = _our_step(path, folder / f"ours-{replies}-{run}", examples)
        ours.append(len(examples[0].comparisons) / seconds)
        seconds, tokens[1], memory[1] = _trl_step(path, folder / f"trl-{replies}-{run}", examples)
        peer.append(len(examples[0].comparisons) / seconds)
    bound = tokens[1] / tokens[0]
    return compare(f"judge training / TRL, {replies} replies a turn", ours, peer, f">= {0.9 * bound:.2f}",
                   f"{{ours:.2f}} / {{peer:.2f}} pairs/s; token bound {bound:.2f}; "
                   f"memory while training +{memory[0]:.0f} / +{memory[1]:.0f} MB")  # fmt: skip


class Clock:
    """Seconds of each optimizer step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Ticks(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.at.append(-time.perf_counter())

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.at[-1] += time.perf_counter()

        return Ticks()

    @property
    def median(self) -> float:
        return statistics.median(self.at[1:])


def _lora() -> dict[str, Any]:
    return {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


def _arguments(folder: Path, **more: Any) -> dict[str, Any]:
    return {"output_dir": str(folder), "max_steps": STEPS, "learning_rate": 1e-4, "use_cpu": True, "report_to": [], "save_strategy": "no",
            "disable_tqdm": True, "per_device_train_batch_size": 1, "remove_unused_columns": False, **more}  # fmt: skip


def _our_step(path: str, folder: Path, examples: list[Any]) -> tuple[float, int, float]:
    import transformers

    from judge import backbones
    from judge.batches import Forests, Step, collate
    from judge.model import JudgeModel, LoraSettings
    from judge.trainer import JudgeTrainer

    model = JudgeModel(backbones.load(path, folder), LoraSettings(16, 32), 0)
    data = Forests(examples, model.encoder, model.head.scales, max_tokens=2048, max_path=2048)
    most = data.longest
    data.steps = [Step([[part]]) for part in data.parts]  # a tree a step, as on the other side
    clock = Clock()
    trainer = JudgeTrainer(model, transformers.TrainingArguments(**_arguments(folder)), train_dataset=data, data_collator=collate,
                           callbacks=[clock.callback()], head_rate=1e-3, patience=0, progress=lambda line: None, checkpoint_over=None)  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    with Peak() as peak:
        trainer.train()
    assert most <= 2048
    return clock.median, data.tokens, peak.mb


def _trl_step(path: str, folder: Path, examples: list[Any]) -> tuple[float, int, float]:
    import datasets
    import peft
    import transformers
    from trl import RewardConfig, RewardTrainer

    from judge.encoding import Encoder

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    encoder = Encoder(tokenizer)
    rows, tokens = [], 0
    for e in examples:
        ids = {
            n: [t for p in e.tree.path(n) for t in encoder.piece(e.tree.path(p.id), {}).ids.tolist()]
            for c in e.comparisons
            for n in (c.left, c.right)
        }
        rows += [{"chosen_ids": ids[c.left], "rejected_ids": ids[c.right]} for c in e.comparisons]
        tokens += sum(len(ids[n]) for c in e.comparisons for n in (c.left, c.right))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    clock = Clock()
    # a pair a forward: no padding but within the pair, which is what suits TRL best on a processor
    settings = RewardConfig(**_arguments(folder, gradient_accumulation_steps=len(examples[0].comparisons), max_length=None,
                                         gradient_checkpointing=False, bf16=False))  # fmt: skip
    trainer = RewardTrainer(model, settings, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
                            peft_config=peft.LoraConfig(target_modules="all-linear", modules_to_save=["score"], **_lora()),
                            callbacks=[clock.callback()])  # fmt: skip
    with Peak() as peak:
        trainer.train()
    return clock.median, tokens, peak.mb


def scoring(path: str, folder: Path) -> list[Row]:
    """Replies/s of a whole tree at once against one forward per reply, on three shapes."""
    import torch

    from judge import backbones
    from judge.model import JudgeModel, LoraSettings
    from judge.scoring import Scorer

    model = JudgeModel(backbones.load(path, folder), LoraSettings(16, 32), 8).requires_grad_(False)
    scorer, rows = Scorer(model), []
    for name, shape in SHAPES.items():
        example = grow(*shape)
        found = [n.id for n in example.tree.walk() if n.role == "assistant"]
        lengths = {n: len(model.encoder.piece(example.tree.path(n), {})) for n in example.tree.nodes}
        bound = sum(lengths[p.id] for n in found for p in example.tree.path(n)) / sum(lengths.values())

        def one_by_one(example: Any = example, found: list[str] = found) -> None:
            for node in found:
                scorer.tree(example, [node])

        ours, peer = _in_turn(lambda example=example: scorer.tree(example), one_by_one, 5)  # type: ignore[misc]
        rows.append(compare(f"scoring a tree: {name}", peer, ours, f">= {0.9 * bound:.2f}",
                            f"{{peer:.2f}} s / {{ours:.2f}} s; token bound {bound:.2f}"))  # fmt: skip
    del torch
    return rows


def live(path: str, folder: Path) -> Row:
    """Seconds until a new reply at depth five has its score, against reading its whole path."""
    from judge import backbones
    from judge.model import JudgeModel, LoraSettings
    from judge.scoring import Scorer

    model = JudgeModel(backbones.load(path, folder), LoraSettings(16, 32), 8).requires_grad_(False)
    tree = grow(5, 8, False, words=LIVE_WORDS).tree
    new = [n.id for n in tree.walk() if len(tree.path(n.id)) == 10]
    warm = Scorer(model)
    warm.reply(tree.path(new[0]))
    fresh = iter(new[1:])
    ours, peer = _in_turn(
        lambda: warm.reply(tree.path(next(fresh))), lambda: Scorer(model).reply(tree.path(new[0])), len(new) - 1
    )
    return compare("live score at depth 5 / reading its path", peer, ours, ">= 5", "{peer:.3f} s / {ours:.3f} s")


def _in_turn(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for run, kept in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            run()
            kept.append(time.perf_counter() - start)
    return times
