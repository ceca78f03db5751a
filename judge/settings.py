"""How a judge is trained: every setting with its default, and how it is kept in a card. Computes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from judge.backbones import BUILTIN
from judge.examples import Level
from judge.model import LoraSettings
from judge.rubric import JudgeError

MAX_STEP, STEPS_AN_EPOCH = 4096, 16  # tokens; steps: what little data is divided into


@dataclass(frozen=True)
class Settings:
    """How to train. Tokens: ``max_tokens`` of one tree's packed sequence, ``pack_tokens`` of several trees' and ``max_path``
    of a dialogue (None: chosen by ``judge.sizes``), ``batch_tokens`` of one step of the optimizer over all processes (None:
    a sixteenth of the data, at most 4,096, so that little data too gets steps enough). ``checkpointing``: compute
    activations twice to save memory (None: where a sequence is too long for the memory)."""

    base: str = BUILTIN
    level: str = "both"
    epochs: float = 3.0
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    max_tokens: int | None = None
    pack_tokens: int | None = None  # set by judge.sizes
    max_path: int | None = None
    batch_tokens: int | None = None
    warmup: float = 0.05
    patience: int = 3
    copies: int = 8
    derived: bool = True
    seed: int = 0
    evals_per_epoch: int = 2
    checkpointing: bool | None = None
    checkpoint_over: int | None = None  # tokens; set by judge.sizes
    lora: LoraSettings = field(default_factory=LoraSettings)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Raises JudgeError for a level that is none of local, global, both."""
        if self.level not in ("local", "global", "both"):
            raise JudgeError(f"A judge is trained on level local, global or both, not {self.level!r}.")
        return ("local", "global") if self.level == "both" else (self.level,)  # type: ignore[return-value]


def step_tokens(s: Settings, tokens: int, world: int = 1) -> tuple[int, int]:
    """Tokens of one step of the optimizer, and of one packed sequence, for data of so many ``tokens``."""
    assert s.max_tokens is not None
    most = s.pack_tokens or s.max_tokens
    step = s.batch_tokens or min(MAX_STEP, max(1, tokens // STEPS_AN_EPOCH))
    return step, most if s.batch_tokens else min(most, max(1, step // world))


def settings_from(row: dict[str, Any]) -> Settings:
    """Settings as a card or a run's note keeps them; what an earlier version did not have has its default."""
    lora = _known(LoraSettings, row["lora"])
    if not isinstance(lora.get("targets", ""), str):
        lora["targets"] = tuple(lora["targets"])
    return Settings(**{**_known(Settings, row), "lora": LoraSettings(**lora)})


def _known(kind: type[Settings] | type[LoraSettings], row: dict[str, Any]) -> dict[str, Any]:
    """What a kind of settings still has."""
    names = {f.name for f in fields(kind)}
    return {k: v for k, v in row.items() if k in names}
