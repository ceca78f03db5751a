"""The Trainer of transformers with a judge's loss, whole checkpoints, and validation; and what it reports."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerState

from judge import files
from judge.batches import Batch, Forests
from judge.examples import Comparison
from judge.losses import label_losses
from judge.model import JudgeModel
from judge.packing import chain_tokens
from judge.rubric import JudgeError
from judge.runs import COMPLETE

WEIGHTS, STATE = "trained.safetensors", "trainer_state.json"
Progress = Callable[[dict[str, Any]], None]


class JudgeTrainer(transformers.Trainer):
    """The Trainer with our loss, whole checkpoints, and validation by proper scores and pair accuracy."""

    def __init__(
        self,
        *args: Any,
        head_rate: float,
        patience: int,
        progress: Progress,
        checkpoint_over: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress
        self.checkpoint_over = checkpoint_over  # tokens of a sequence from which layers are computed twice; None: never
        self.head_rate = head_rate  # the head starts from nothing
        self.patience = patience  # validations without progress before it stops; 0: never
        self.loss_is_scaled_for_ga = True  # by the labels of the whole step, below
        self.tokens_seen = 0
        self.own_loss: Any = 0.0  # of the judge without its copies, since the last log

    def go_on(self, last: Path | None, keep: bool = False) -> None:
        """Train, from the checkpoint ``last`` on; a run that had stopped early there, or is to be kept, only takes its best weights."""
        if last:
            self.state = TrainerState.load_from_json(str(last / STATE))
            if self.out_of_patience or keep:
                self._load_from_checkpoint(str(self._best(last)))
                return
        self.train(resume_from_checkpoint=str(last) if last else None)

    @property
    def out_of_patience(self) -> bool:
        """Whether the last validations brought nothing. Read from the log, which a checkpoint keeps, so that a resumed run agrees."""
        losses = [e["eval_loss"] for e in self.state.log_history if "eval_loss" in e]
        return bool(self.patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= self.patience

    @property
    def best_step(self) -> int | None:
        """The step with the lowest validation loss; None without validation."""
        held = [(e["eval_loss"], int(e["step"])) for e in self.state.log_history if "eval_loss" in e]
        return min(held)[1] if held else None

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        weight = (
            torch.stack([b["score_weights"][:, 0].sum() + b["pair_weights"][:, 0].sum() for b in batch_samples])
            .sum()
            .to(device)
        )
        if self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()
        return weight.clamp(min=1.0)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None, **_: Any
    ) -> Any:
        self.tokens_seen += self.args.world_size * sum(one["ids"].shape[1] for one in (inputs, *inputs["more"]))
        self._set_checkpointing(max(one["ids"].shape[1] for one in (inputs, *inputs["more"])))
        scalars = model(inputs)
        # every process averages its gradients with the others': the sum over all labels is what is wanted
        losses = label_losses(self.judge.head, scalars, inputs) * self.args.world_size / num_items_in_batch
        self.own_loss += losses[0].detach() / self.args.world_size
        # the copies teach nobody but themselves, and Adam does not mind a scale: so small, they do not steer the clipping
        loss = losses[0] + 0.01 * losses[1:].sum()
        self._check_finite("loss", loss)
        return (loss, scalars) if return_outputs else loss

    def _set_checkpointing(self, tokens: int) -> None:
        """Keep a layer's activations while they fit; compute them twice where a sequence is too long for the memory."""
        twice = self.checkpoint_over is not None and tokens > self.checkpoint_over
        for module in self.judge.backbone.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = twice  # type: ignore[assignment]

    def _check_finite(self, what: str, *values: torch.Tensor) -> None:
        if not all(bool(torch.isfinite(v).all()) for v in values):
            raise JudgeError(
                f"Training diverged: the {what} at step {self.state.global_step} is no number. The last whole checkpoint is kept. "
                f"Lower the learning rate (now {self.args.learning_rate:g}), or train in fp32, under another name."
            )

    @property
    def judge(self) -> JudgeModel:
        """The model without what wraps it for several processes."""
        judge: JudgeModel = self.accelerator.unwrap_model(self.model)
        return judge

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a rate of its own for the head."""
        if self.optimizer is None:
            groups: list[dict[str, Any]] = [
                {"params": [], "lr": self.head_rate},
                {"params": [], "lr": self.args.learning_rate},
            ]
            for name, p in self.judge.named_parameters():
                if p.requires_grad:
                    groups[not name.startswith("head.")]["params"].append(p)
            self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.0)
        return self.optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss a label, and pair accuracy by dimension (equality counts half, human ties left out)."""
        assert isinstance(self.eval_dataset, Forests)
        measured = validate(self.judge, self.eval_dataset, self.progress)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in measured.items()}
        self._check_finite("loss of the validation", torch.tensor(metrics[f"{metric_key_prefix}_loss"]))
        self.log(metrics)
        self.control.should_training_stop |= self.out_of_patience
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the Trainer does, but the loss is that of the judge alone, and the rate that of the backbone."""
        if "loss" in logs and torch.is_tensor(self.own_loss):
            own = self.accelerator.gather(self.own_loss.reshape(1)).sum() if self.args.world_size > 1 else self.own_loss
            assert self.optimizer is not None
            logs = {**logs, "loss": float(own), "learning_rate": self.optimizer.param_groups[-1]["lr"]}
            self.own_loss = 0.0
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save and output_dir:
            files.save_tensors(self.judge.trained_state(), Path(output_dir) / WEIGHTS)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_finite("weights", *self.judge.trained_state().values())
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process keeps its random numbers in it
            if self.args.should_save:
                files.sync(folder)
                files.write_whole(folder / COMPLETE, json.dumps({"step": self.state.global_step}).encode())
                self._sweep(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise JudgeError(
                f"Cannot save step {self.state.global_step} in {folder.parent}: {reason}. The checkpoint before it is kept. "
                "Free some space and train again: it goes on from there."
            ) from error

    def _sweep(self, newest: Path) -> None:
        """Remove what is neither the newest checkpoint nor the best; only now, when the newest is whole."""
        best = Path(self.state.best_model_checkpoint or newest).name
        for folder in newest.parent.glob("checkpoint-*"):
            if folder.name not in (newest.name, best):
                (folder / COMPLETE).unlink(missing_ok=True)  # first: what is half removed must not count
                shutil.rmtree(folder, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        files.load_into(self.judge, Path(resume_from_checkpoint) / WEIGHTS)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self._best(Path(str(self.args.output_dir)))))

    def _best(self, otherwise: Path) -> Path:
        """The best checkpoint of this run; the state keeps a whole path, which is another one after the home was moved."""
        if not self.state.best_model_checkpoint:
            return otherwise
        return Path(str(self.args.output_dir)) / Path(self.state.best_model_checkpoint).name


@torch.no_grad()
def validate(model: JudgeModel, data: Forests, progress: Progress = lambda line: None) -> dict[str, float]:
    """Mean loss a label of the judge itself, its pair accuracy, overall and by row, and that of the longer reply.

    Accuracy is on people's comparisons; on pairs derived from scores only for rows, and in all, that have no others.
    """
    model.eval()
    loss, weight, started = 0.0, 0.0, time.monotonic()
    right: dict[tuple[bool, str], list[float]] = {}  # (by a person, row)
    for i in range(len(data)):
        batch = data[i]
        scalars = model(batch)[:, :1]
        batch = {**batch, **{k: batch[k][:, :1] for k in ("score_weights", "pair_weights")}}
        placed = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        loss += float(label_losses(model.head, scalars, placed)[0])
        weight += float(batch["score_weights"].sum() + batch["pair_weights"].sum())
        for (left, other, row, outcome), margin in zip(batch["pairs"].tolist(), batch["margins"].tolist(), strict=True):
            if outcome:
                d = outcome * float(scalars[left, 0, row] - scalars[other, 0, row])
                credit = 1.0 if d > 0 else 0.5 if d == 0 else 0.0
                right.setdefault((margin < 0, model.head.rows[row]), []).append(credit)
        spent = time.monotonic() - started
        left_s = spent / (i + 1) * (len(data) - i - 1)
        progress({"stage": "validate", "done": i + 1, "of": len(data), "eta_s": round(left_s, 1)})
    people = {row: credits for (person, row), credits in right.items() if person}
    rows = {row: credits for (_, row), credits in right.items()} | people
    counted = [c for credits in (people or rows).values() for c in credits]
    metrics = {"loss": loss / max(weight, 1e-9)}
    if counted:
        metrics |= {"accuracy": sum(counted) / len(counted), "longer": longer(data, bool(people))}
    return metrics | {f"accuracy_{row}": sum(c) / len(c) for row, c in sorted(rows.items())}


def longer(data: Forests, people: bool) -> float:
    """How often the longer reply or dialogue, in tokens, is the better one, human ties left out: what a judge must beat.

    ``people``: of the comparisons that people made; otherwise of all pairs.
    """
    trees = {part.tree.id: part.tree for step in data.steps for parts in step.sequences for part in parts}
    credits = []
    for (tree_id, _), labels in data.labels.items():
        tree = trees[tree_id]
        for label in labels:
            if isinstance(label, Comparison) and label.outcome != "tie" and (label.margin is None or not people):
                left, right = chain_tokens(tree, label, lambda n, t=tree: len(data.reader.piece(t, n)))  # type: ignore[misc]
                credits.append(0.5 if left == right else float((left > right) == (label.outcome == "left")))
    return sum(credits) / len(credits) if credits else 0.5


class Reporter(TrainerCallback):
    """Turns the Trainer's log into lines with an estimate, and stops it when asked."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self.progress, self.stop = progress, stop
        self.started = self.first_step = 0.0
        self.trainer: JudgeTrainer | None = None
        self.memory_mb = 0.0  # the most this process was seen to take

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        asked = torch.tensor(float(self.stop.is_set()), device=args.device)
        if args.world_size > 1 and self.trainer:  # all at the same step, whichever heard it
            asked = self.trainer.accelerator.reduce(asked)
        if asked:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero or self.trainer is None:
            return
        spent = time.monotonic() - self.started
        done = state.global_step - self.first_step
        left = (state.max_steps - state.global_step) * spent / done if done else None
        kept = {
            k: v
            for k, v in (logs or {}).items()
            if k in ("loss", "learning_rate", "grad_norm") or k.startswith("eval_")
        }
        self.memory_mb = max(self.memory_mb, psutil.Process().memory_info().rss / 2**20)
        self.progress({"stage": "train", "step": state.global_step, "steps": state.max_steps, "epoch": round(state.epoch or 0, 3), **kept,
                       "tokens_per_s": round(self.trainer.tokens_seen / spent, 1) if spent else None,
                       "eta_s": None if left is None else round(left, 1), "memory_mb": round(self.memory_mb)})  # fmt: skip
