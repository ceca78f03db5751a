"""Test accuracy of a judge and of TRL's RewardTrainer on the same pairs, backbone, LoRA, rate and epochs, over five seeds.

The backbone is tiny and random, the pairs are noisy on purpose: neither side can reach 1.0, so a difference would show.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.perf import Row
from tests.perf.makings import need

SEEDS, TRAIN, TEST, NOISE, EPOCHS, RATE, PAIRS_A_STEP = 5, 160, 200, 0.15, 4, 3e-3, 8
GOOD, BAD = ("soft", "clear", "warm"), ("cold", "torn", "blurred")


def measure() -> list[Row]:
    """One row: the difference of the mean accuracies over the larger standard deviation of the two; at most 1 is alike."""
    need("torch", "trl")
    import torch

    from tests import tiny

    torch.set_num_threads(1)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "llama")
        base.mkdir()
        tiny.llama(base)
        for seed in range(SEEDS):
            train, test = pairs(seed, TRAIN, NOISE), pairs(1000 + seed, TEST, 0.0)
            ours.append(_ours(base, Path(folder), train, test, seed))
            theirs.append(_trl(base, Path(folder, f"trl-{seed}"), train, test, seed))
    spread = max(statistics.stdev(ours), statistics.stdev(theirs), 1 / TEST)
    gap = abs(statistics.mean(ours) - statistics.mean(theirs)) / spread
    detail = f"{statistics.mean(ours):.3f} / {statistics.mean(theirs):.3f} mean accuracy; spread {spread:.3f}"
    return [
        Row(
            "judge accuracy: difference from TRL in spreads of five seeds",
            round(gap, 3),
            "<= 1",
            SEEDS,
            (min(ours), max(ours)),
            detail,
        )
    ]


def pairs(seed: int, n: int, noise: float) -> list[Any]:
    """Trees of one question and two replies; the better one has more good words than bad ones, but for the noise."""
    from judge.examples import Comparison, Example
    from studio.tree import Node, Part, Tree

    rng, made = random.Random(seed), []
    for i in range(n):
        t = f"{seed}-{i}"
        n_good = rng.sample(range(5), 2)
        nodes = [Node(f"{t}q", t, None, 0, "user", [Part("text", f"Which {rng.randrange(999)}?")])]
        for k, good in enumerate(n_good):
            words = [rng.choice(GOOD) for _ in range(good)] + [rng.choice(BAD) for _ in range(4 - good)]
            rng.shuffle(words)
            nodes.append(Node(f"{t}r{k}", t, f"{t}q", k, "assistant", [Part("text", " ".join(words))]))
        left = (n_good[0] > n_good[1]) != (rng.random() < noise)
        made.append(
            Example(
                Tree(t, nodes=nodes),
                comparisons=[Comparison(f"{t}r0", f"{t}r1", "overall", "local", "left" if left else "right")],
            )
        )
    return made


def _ours(base: Path, folder: Path, train: list[Any], test: list[Any], seed: int) -> float:
    import transformers

    from judge import backbones
    from judge.batches import Forests, Step, collate
    from judge.measure import measure as against
    from judge.model import JudgeModel, LoraSettings
    from judge.scoring import Scorer
    from judge.trainer import JudgeTrainer

    model = JudgeModel(backbones.load(str(base), folder), LoraSettings(8, 16), 0, seed)
    data = Forests(train, model.encoder, model.head.scales, max_tokens=4096, max_path=512)
    data.steps = [Step([data.parts[i : i + PAIRS_A_STEP]]) for i in range(0, len(data.parts), PAIRS_A_STEP)]
    trainer = JudgeTrainer(model, transformers.TrainingArguments(**_arguments(folder / "ours", seed, 1)), train_dataset=data,
                           data_collator=collate, head_rate=RATE, patience=0, progress=lambda line: None, checkpoint_over=None)  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    told, _ = against(Scorer(model), test)
    return statistics.mean(float((p.left > p.right) == (p.outcome == "left")) for p in told)


def _trl(base: Path, folder: Path, train: list[Any], test: list[Any], seed: int) -> float:
    import datasets
    import peft
    import torch
    import transformers
    from trl import RewardConfig, RewardTrainer

    from judge.encoding import Encoder

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(base))
    encoder = Encoder(tokenizer)

    def ids(e: Any, node: str) -> list[int]:
        return [t for p in e.tree.path(node) for t in encoder.piece(e.tree.path(p.id), {}).ids.tolist()]

    def rows(examples: list[Any]) -> list[dict[str, list[int]]]:
        found = []
        for e in examples:
            (c,) = e.comparisons
            chosen, rejected = (c.left, c.right) if c.outcome == "left" else (c.right, c.left)
            found.append({"chosen_ids": ids(e, chosen), "rejected_ids": ids(e, rejected)})
        return found

    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(base), num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    settings = RewardConfig(**_arguments(folder, seed, PAIRS_A_STEP), max_length=None, gradient_checkpointing=False, bf16=False,
                            center_rewards_coefficient=0.005)  # fmt: skip
    trainer = RewardTrainer(model, settings, train_dataset=datasets.Dataset.from_list(rows(train)), processing_class=tokenizer,
                            peft_config=peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", modules_to_save=["score"]))  # fmt: skip
    trainer.train()
    model = trainer.model.eval()
    right = 0
    with torch.no_grad():
        for row in rows(test):
            chosen, rejected = (
                float(model(torch.tensor([row[k]])).logits[0, 0]) for k in ("chosen_ids", "rejected_ids")
            )
            right += chosen > rejected
    return right / len(test)


def _arguments(folder: Path, seed: int, batch: int) -> dict[str, Any]:
    return {"output_dir": str(folder), "num_train_epochs": EPOCHS, "learning_rate": RATE, "use_cpu": True, "report_to": [], "save_strategy": "no",
            "disable_tqdm": True, "per_device_train_batch_size": batch, "remove_unused_columns": False, "seed": seed, "weight_decay": 0.0,
            "lr_scheduler_type": "cosine", "max_grad_norm": 1.0}  # fmt: skip
