"""A run that is not done: what it began with is kept beside its checkpoints, and is what it goes on with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from judge import files, snapshot
from judge.examples import Example
from judge.groups import Split
from judge.model import Scales, scales_now
from judge.rubric import JudgeError
from judge.settings import Settings, settings_from


@dataclass(frozen=True)
class Run:
    """What a run learns from and how, from its beginning on. ``settings`` have no open sizes."""

    examples: list[Example]
    parts: Split
    card: dict[str, Any]
    settings: Settings
    data_hash: str
    scales: Scales  # the head's rows, whatever the rubric has gained since


def keep(run: Path, begun: Run, asked: Settings) -> None:
    """Note what a run begins with. One without a checkpoint is begun again."""
    note = {"asked": asdict(asked), "settings": asdict(begun.settings), "data": begun.data_hash,
            "split": asdict(begun.parts), "card": begun.card,
            "scales": {row: list(values) for row, values in begun.scales.items()}}  # fmt: skip
    try:
        shutil.rmtree(run, ignore_errors=True)
        snapshot.save(begun.examples, run)
        files.write_whole(run / "run.json", json.dumps(note, indent=1, default=list).encode())
    except OSError as error:
        raise JudgeError(
            f"Cannot write to {run}: {error.strerror}. Free some space, or choose another home."
        ) from error


def begun(run: Path, asked: Settings, now: list[Example]) -> Run:
    """What an interrupted run was begun with, whatever was rated since.

    Raises:
        JudgeError: its note cannot be read, or it was begun with other settings.
    """
    again = "Choose another name, or begin again with: train --begin-again"
    try:
        note = json.loads((run / "run.json").read_text(encoding="utf-8"))
        # what an earlier version did not ask has its default, as it had then
        before, after = (json.loads(json.dumps(asdict(s), default=list)) for s in (settings_from(note["asked"]), asked))
        settings = settings_from(note["settings"])
        parts, card, data = Split.load(note["split"]), note["card"], note["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JudgeError(f"Cannot go on with the run in {run} ({error}). {again}.") from error
    if before != after:
        differing = ", ".join(sorted(k for k in after if before.get(k) != after[k]))
        raise JudgeError(f"An interrupted run called {run.name[1:-4]!r} has other settings ({differing}). {again}.")
    scales = {row: tuple(values) for row, values in note["scales"].items()} if "scales" in note else scales_now()
    return Run(snapshot.load(run, now), parts, card, settings, data, scales)
