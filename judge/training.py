"""Trains a judge: transformers' Trainer over packed trees. Owns a run's folder; never a screen or a store.

A run lives in ``.NAME.run`` until it is done: a snapshot of what it learns from, and checkpoints that are whole or not
counted; the same call goes on from the last whole one with the data that it began with. The finished judge takes its place
in one rename.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
import transformers

from judge import backbones, check, files, memory, ranks, runs, unfinished
from judge.batches import Forests, collate
from judge.examples import Example
from judge.groups import Split, split
from judge.labels import Prepared, prepare
from judge.model import JudgeModel
from judge.rubric import JudgeError
from judge.runs import last_whole
from judge.settings import Settings, step_tokens
from judge.sizes import free_mb, is_short
from judge.trainer import JudgeTrainer, Progress, Reporter
from judge.unfinished import Run


@dataclass(frozen=True)
class Trained:
    """A finished or an interrupted run. ``folder``: where the judge is, None when interrupted; ``ended``: why it ended."""

    folder: Path | None
    card: dict[str, Any]
    step: int
    ended: str


def train(examples: list[Example], name: str, judges: Path, cache: Path, settings: Settings, *, parts: Split | None = None,
          progress: Progress = lambda line: None, stop: threading.Event | None = None, made_by: str = "",
          begin_again: bool = False, at: str = "") -> Trained:  # fmt: skip
    """Train a judge called ``name`` under ``judges``, or go on with a run that was interrupted.

    ``parts``: which trees are for what (default: dealt by the settings' seed). ``stop``: set, it ends after the step with
    a checkpoint; so does Ctrl+C. Where ``runs.ask_to_keep`` was called, that ends it as a judge: the best one until then.
    ``begin_again``: an interrupted run of this name is dropped, and everything that is rated now is learned from. ``at``:
    when the labels were read, ISO 8601 in UTC (default: now); later ones are not learned from.

    Raises:
        JudgeError: too little data, a name taken, another run under that name, no such backbone, no memory, a full disk.
    """
    folder = judges / files.check_name(name)
    if folder.is_dir():
        raise JudgeError(f"There is a judge {name!r} already. Judges never change: choose another name.")
    run = runs.folder(judges, name)
    at = at or datetime.now(UTC).isoformat(timespec="milliseconds")
    stop = stop or threading.Event()
    prepared = usable(examples, settings, parts) if begin_again or not last_whole(run) else None
    with runs.claim(judges, name), _interrupts(stop), _memory(settings):
        ranks.join()
        old = None if prepared else unfinished.begun(run, settings, examples)
        progress({"stage": "load", "done": 0, "of": 1, "eta_s": None})
        backbone = backbones.load(settings.base, cache)
        progress({"stage": "load", "done": 1, "of": 1, "eta_s": None})
        free = ranks.least(free_mb(backbone))

        def begin() -> Run:
            if old is not None:
                return old
            assert prepared is not None
            new = check.planned(*prepared, backbone, settings, progress, free)
            new = replace(new, card={**new.card, "at": at})
            unfinished.keep(run, new, settings)
            return new

        # several processes read the labels and the free memory at different moments: one data, one choice of sizes
        begun = ranks.first_decides(begin)
        progress({"stage": "data", "data": begun.card})
        model = JudgeModel(backbone, settings.lora, settings.copies, settings.seed, begun.scales)
        reporter = Reporter(progress, stop)
        trainer = _trainer(model, begun, run, reporter)
        if is_short(backbone, begun.settings, cast(Forests, trainer.train_dataset).longest):
            memory.give_back_freed()
        if trainer.checkpoint_over is not None:
            backbone.model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        trainer.go_on(*ranks.first_decides(lambda: (last_whole(run), runs.to_keep(run))))
        return _finished(trainer, model, name, folder, run, begun, made_by)


def _finished(
    trainer: JudgeTrainer, model: JudgeModel, name: str, folder: Path, run: Path, begun: Run, made_by: str
) -> Trained:
    """The judge in its place, or an interrupted run that can go on."""
    step = trainer.state.global_step
    cut = step < trainer.state.max_steps and not trainer.out_of_patience
    if cut and not (step and ranks.first_decides(lambda: runs.to_keep(run))):
        return Trained(None, begun.card, step, "interrupted")
    ended = "stopped, best kept" if cut else "no longer better" if step < trainer.state.max_steps else "finished"
    log = [e for e in trainer.state.log_history if "loss" in e or "eval_loss" in e]
    card = {"name": name, "base": model.base_card, "model": model.settings, "settings": asdict(begun.settings),
            "data": begun.card, "data_hash": begun.data_hash, "split": asdict(begun.parts), "steps": step,
            "cut_short": cut, "ended": ended, "log": log, "best": trainer.state.best_metric,
            "best_step": trainer.best_step, "sees_images": model.encoder.images, "made_by": made_by,
            "versions": files.versions()}  # fmt: skip
    trainer.accelerator.wait_for_everyone()  # before the checkpoints go: all read the best
    if trainer.args.should_save:
        files.save_judge(model, card, folder, beside=run)
        shutil.rmtree(run, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return Trained(folder, card, step, ended)


def usable(examples: list[Example], settings: Settings, parts: Split | None = None) -> tuple[Prepared, Split]:
    """Usable labels and who is dealt where. Raises JudgeError: too little to train on."""
    prepared = prepare(examples, settings.levels, settings.derived, settings.seed)
    parts = parts or split(prepared.examples, settings.seed)
    if prepared.left_out and not prepared.examples:
        n, why = len(prepared.left_out), prepared.left_out[0].reason
        raise JudgeError(f"None of the {n} labels can be learned from: {why}. Mend that, or rate other replies.")
    _check_enough(prepared.examples, parts)
    return prepared, parts


def _trainer(model: JudgeModel, begun: Run, run: Path, reporter: Reporter) -> JudgeTrainer:
    world = ranks.world()
    s = begun.settings
    assert s.max_tokens is not None
    assert s.max_path is not None
    common: dict[str, Any] = {"max_tokens": s.max_tokens, "max_path": s.max_path, "seed": s.seed}
    train, held_out = (begun.parts.of(begun.examples, part) for part in ("train", "validation"))
    data = Forests(train, model.encoder, model.head.scales, copies=s.copies, **common)
    step, packed = step_tokens(s, data.tokens, world)
    data.bundle(packed)
    per_step = round(step * len(data) / (data.tokens * world))  # sequences; some are longer than packed
    accumulate = max(1, min(per_step, -(-len(data) // world)))  # no more than there are
    data.bundle(packed, world * accumulate)
    validation = _readable(held_out, model, common)
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
        progress=reporter.progress,
        checkpoint_over=s.checkpoint_over if data.longest > (s.checkpoint_over or 0) else None,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    reporter.trainer = trainer
    return trainer


def _readable(held_out: list[Example], model: JudgeModel, common: dict[str, Any]) -> Forests | None:
    """The validation trees as batches; None where none of their labels can be read."""
    try:
        return Forests(held_out, model.encoder, model.head.scales, **common) if held_out else None
    except JudgeError:  # every label of them is too long: there is no best moment to choose then
        return None


def _check_enough(examples: list[Example], parts: Split) -> None:
    decided = [c for e in parts.of(examples, "train") for c in e.comparisons if c.outcome != "tie"]
    scores = [s for e in parts.of(examples, "train") for s in e.scores]
    compared = sum(c.margin is None for e in parts.of(examples, "train") for c in e.comparisons)
    n = sum(len(e.scores) + len(e.comparisons) for e in examples)
    if not n:
        raise JudgeError("There is nothing to learn from: no score and no comparison. Rate some replies first.")
    if not decided and len({(s.dimension, s.value) for s in scores}) <= len({s.dimension for s in scores}):
        counted = ", ".join(
            f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((len(scores), "score"), (compared, "comparison")) if n
        )
        raise JudgeError(
            f"The labels to train on ({counted or 'none'}) are all alike: nothing is better than anything. Rate replies that differ."
        )
    if len(decided) + len(scores) < 2:
        raise JudgeError(
            "One label that says what is better is too little to train on. Rate more replies; fifty of a dimension is a beginning."
        )


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
            f"The memory does not suffice for training on {settings.base!r}. Close other programs and go on from the last whole "
            "checkpoint; or begin again (--begin-again) with --checkpointing on and a smaller --max-path, or with a smaller backbone."
        ) from error
