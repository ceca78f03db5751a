"""Trains a judge: transformers' Trainer over packed trees. Owns a run's folder; never a screen or a store.

A run lives in ``<folder>/run`` until it is done: checkpoints there are whole or not counted, and the same call goes on
from the last whole one. The finished judge takes its place in one rename.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from judge import backbones, files, runs
from judge.batches import Forests, collate
from judge.examples import Example, Level, Split, data_card, data_hash, split, with_derived
from judge.model import JudgeModel, LoraSettings, scales_now
from judge.rubric import JudgeError
from judge.trainer import COMPLETE, JudgeTrainer, Progress, Reporter

MOST_A_STEP, STEPS_AN_EPOCH = 4096, 16  # tokens; steps: what little data is divided into


@dataclass(frozen=True)
class Settings:
    """How to train. ``max_tokens``: a packed sequence; ``batch_tokens``: one step of the optimizer, over all
    processes; None: a sixteenth of the data, at most 4,096, so that little data too gets steps enough."""

    base: str = backbones.BUILTIN
    level: str = "both"
    epochs: float = 3.0
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    max_tokens: int = 2048
    max_path: int = 1536
    batch_tokens: int | None = None
    warmup: float = 0.05
    patience: int = 3
    copies: int = 8
    derived: bool = True
    seed: int = 0
    evals_per_epoch: int = 2
    checkpointing: bool = False
    lora: LoraSettings = field(default_factory=LoraSettings)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Raises JudgeError for a level that is none of local, global, both."""
        if self.level not in ("local", "global", "both"):
            raise JudgeError(f"A judge is trained on level local, global or both, not {self.level!r}.")
        return ("local", "global") if self.level == "both" else (self.level,)  # type: ignore[return-value]


@dataclass(frozen=True)
class Trained:
    """A finished or an interrupted run. ``folder``: where the judge is, None when interrupted."""

    folder: Path | None
    card: dict[str, Any]
    step: int


def train(examples: list[Example], name: str, judges: Path, cache: Path, settings: Settings, *, parts: Split | None = None,
          progress: Progress = lambda line: None, stop: threading.Event | None = None, made_by: str = "") -> Trained:  # fmt: skip
    """Train a judge called ``name`` under ``judges``, or go on with a run that was interrupted.

    ``parts``: which trees are for what (default: dealt by the settings' seed). ``stop``: set, it ends after the step with
    a checkpoint; so does Ctrl+C. Where ``runs.ask_to_keep`` was called, that ends it as a judge: the best one until then.

    Raises:
        JudgeError: too little data, a name taken, another run under that name, no such backbone, no memory, a full disk.
    """
    folder = judges / files.check_name(name)
    if folder.is_dir():
        raise JudgeError(f"There is a judge {name!r} already. Judges never change: choose another name.")
    examples = [e.restrict(settings.levels) for e in examples]
    if settings.derived:
        examples = [with_derived(e) for e in examples]
    examples = [e for e in examples if e.scores or e.comparisons]
    parts = parts or split(examples, settings.seed)
    card = data_card(examples, parts)
    _check_enough(examples, parts)
    progress({"stage": "data", "data": card})
    run = runs.folder(judges, name)
    identity: dict[str, Any] = {
        "settings": asdict(settings),
        "data": data_hash(examples),
        "split": asdict(parts),
        "card": card,
    }
    if runs.to_keep(run) and last_whole(run):  # the judge is made of what it learned from, whatever was rated since
        identity = _begun(run, identity)
        parts, card = Split(**identity["split"]), identity["card"]
    elif _claim(run, identity):
        progress({"stage": "something was rated since it stopped: beginning again with all of it"})
    stop = stop or threading.Event()
    with _interrupts(stop), _memory(settings):
        progress({"stage": "loading the backbone"})
        backbone = backbones.load(settings.base, cache)
        room = min(settings.max_path, backbone.max_positions)
        model = JudgeModel(backbone, settings.lora, settings.copies, settings.seed, scales_now())
        if settings.checkpointing:
            backbone.model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
            backbone.model.enable_input_require_grads()  # type: ignore[operator]
        reporter = Reporter(progress, stop)
        trainer = _trainer(model, examples, parts, replace(settings, max_path=room), run, reporter)
        trainer.go_on(last_whole(run), runs.to_keep(run))
    step = trainer.state.global_step
    cut = step < trainer.state.max_steps and not trainer.out_of_patience
    if cut and not (runs.to_keep(run) and step):
        return Trained(None, card, step)
    log = [e for e in trainer.state.log_history if "loss" in e or "eval_loss" in e]
    whole = {"name": name, "base": model.base_card, "model": model.settings, "settings": asdict(settings), "data": card,
             "data_hash": identity["data"], "split": asdict(parts), "steps": step, "cut_short": cut, "log": log, "best": trainer.state.best_metric,
             "sees_images": model.encoder.images, "made_by": made_by, "versions": files.versions()}  # fmt: skip
    trainer.accelerator.wait_for_everyone()  # before the checkpoints go: all read the best
    if trainer.args.should_save:
        files.save_judge(model, whole, folder)
        shutil.rmtree(run, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return Trained(folder, whole, step)


def last_whole(run: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [p.parent for p in run.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)


def _trainer(
    model: JudgeModel, examples: list[Example], parts: Split, s: Settings, run: Path, reporter: Reporter
) -> JudgeTrainer:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    common: dict[str, Any] = {"max_tokens": s.max_tokens, "max_path": s.max_path, "seed": s.seed}
    data = Forests(
        parts.of(examples, "train"),
        model.encoder,
        model.head.rows,
        copies=s.copies,
        **common,
    )
    step = s.batch_tokens or min(MOST_A_STEP, max(1, data.tokens // STEPS_AN_EPOCH))
    packed = min(s.max_tokens, max(1, step // world)) if s.batch_tokens is None else s.max_tokens
    accumulate = max(1, round(step / (packed * world)))
    data.bundle(packed, world * accumulate)
    held_out = parts.of(examples, "validation")
    validation = Forests(held_out, model.encoder, model.head.rows, **common) if held_out else None
    steps_an_epoch = len(data) // (world * accumulate)
    every = max(1, steps_an_epoch // s.evals_per_epoch)
    cuda = torch.cuda.is_available()
    args = transformers.TrainingArguments(
        output_dir=str(run), per_device_train_batch_size=1, gradient_accumulation_steps=accumulate, num_train_epochs=s.epochs,
        learning_rate=s.learning_rate, lr_scheduler_type="cosine", warmup_steps=s.warmup,
        max_grad_norm=1.0, bf16=cuda, use_cpu=not cuda, seed=s.seed, data_seed=s.seed, report_to=[], disable_tqdm=True,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="steps", save_steps=every,
        eval_strategy="steps" if validation else "no", eval_steps=every, load_best_model_at_end=validation is not None,
        metric_for_best_model="eval_loss", greater_is_better=False, remove_unused_columns=False, dataloader_pin_memory=cuda,
        average_tokens_across_devices=True, ddp_find_unused_parameters=False,
    )  # fmt: skip
    trainer = JudgeTrainer(
        model,
        args,
        train_dataset=data,
        eval_dataset=validation,
        data_collator=collate,
        callbacks=[reporter],
        head_rate=s.head_learning_rate,
        patience=s.patience,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    reporter.trainer = trainer
    return trainer


def _check_enough(examples: list[Example], parts: Split) -> None:
    decided = [c for e in parts.of(examples, "train") for c in e.comparisons if c.outcome != "tie"]
    scores = [s for e in parts.of(examples, "train") for s in e.scores]
    n = sum(len(e.scores) + len(e.comparisons) for e in examples)
    if not n:
        raise JudgeError("There is nothing to learn from: no score and no comparison. Rate some replies first.")
    if not decided and len({(s.dimension, s.value) for s in scores}) <= len({s.dimension for s in scores}):
        raise JudgeError(
            f"The {len(scores)} scores and {n - len(scores)} comparisons to train on are all alike: nothing is better than anything. "
            "Rate replies that differ."
        )
    if len(decided) + len(scores) < 2:
        raise JudgeError("One label is too little to train on. Rate more replies; fifty of a dimension is a beginning.")


def _claim(run: Path, identity: dict[str, Any]) -> bool:
    """Begin a run, or go on with the same one; several processes may do so together. Whether an old one was dropped.

    One without a checkpoint is begun again, and so is one whose data has changed since: a judge has one set of data.
    """
    note, text = run / "run.json", json.dumps(identity, indent=1, default=list)
    dropped = False
    try:
        if last_whole(run) and (before := note.read_text(encoding="utf-8")) != text:
            if json.loads(before)["settings"] != json.loads(text)["settings"]:
                raise JudgeError(
                    f"An interrupted run called {run.name[1:-4]!r} has other settings. Choose another name, or remove {run}."
                )
            shutil.rmtree(run)
            dropped = True
        files.write_whole(note, text.encode())
    except OSError as error:
        raise JudgeError(
            f"Cannot write to {run}: {error.strerror}. Free some space, or choose another home."
        ) from error
    return dropped


def _begun(run: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """What a run was begun with, over what it would be begun with now. Raises JudgeError: its note cannot be read."""
    try:
        kept = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return (
            identity | kept | {"split": {k: tuple(v) if isinstance(v, list) else v for k, v in kept["split"].items()}}
        )
    except (OSError, ValueError, KeyError) as error:
        raise JudgeError(f"Cannot read {run / 'run.json'}: {error}. Remove {run} and train again.") from error


@contextmanager
def _interrupts(stop: threading.Event) -> Iterator[None]:
    """Ctrl+C or SIGTERM stop after the step, a second Ctrl+C at once (a launcher sends both for one)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, asked) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def _memory(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and "allocate memory" not in str(error)
        ):
            raise
        raise JudgeError(
            f"The memory does not suffice for sequences of {settings.max_tokens} tokens on {settings.base!r}. Halve max_tokens, "
            "turn checkpointing on, or choose a smaller backbone. The last whole checkpoint is kept."
        ) from error
