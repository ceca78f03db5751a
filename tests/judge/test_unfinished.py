"""A run that was paused goes on as it began, whatever this version asks and whatever the rubric says by now."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from judge import rubric, runs
from judge.examples import Example, Score
from tests.test_rubric import TONE, write
from tests.test_training import apart, base, quick, taught  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def nine_again() -> Iterator[None]:
    """No test leaves its own dimensions to the next."""
    yield
    rubric.load_own(None)


def paused(examples: list[Example], home: Path, base: Path) -> Path:  # noqa: F811
    """The folder of a run of the judge 'a' that was stopped after its first step."""
    stop = threading.Event()
    stop.set()
    assert quick(examples, home, base, "a", 4, epochs=2, stop=stop).folder is None
    return runs.folder(home / "judges", "a")


def same_as_undisturbed(examples: list[Example], home: Path, base: Path) -> bool:  # noqa: F811
    """Whether the judge 'a' that is gone on with is the judge 'b' that was never paused. What is rated has not changed."""
    lines: list[dict[str, Any]] = []
    made = quick(examples, home, base, "a", 4, epochs=2, progress=lines.append)
    assert next(line["step"] for line in lines if "step" in line) == 2
    assert made.folder is not None
    return apart(made.folder, home / "judges" / "b") < 1e-6


def test_a_run_that_another_version_began_goes_on(tmp_path: Path, base: Path) -> None:  # noqa: F811
    examples = taught(20)
    quick(examples, tmp_path, base, "b", 4, epochs=2)
    note = paused(examples, tmp_path, base) / "run.json"
    begun = json.loads(note.read_text(encoding="utf-8"))
    for settings in (begun["asked"], begun["settings"]):  # it asked less, and something that nobody asks any more
        for later in ("derived", "checkpointing", "checkpoint_over", "pack_tokens", "evals_per_epoch"):
            del settings[later]
        del settings["lora"]["vision"]
        settings["schedule"] = "cosine"
        settings["lora"]["bias"] = "none"
    del begun["scales"]
    note.write_text(json.dumps(begun), encoding="utf-8")
    assert same_as_undisturbed(examples, tmp_path, base)


@pytest.mark.parametrize("values", [None, [1, 2, 6]], ids=["its dimension is gone", "its dimension has another scale"])
def test_a_paused_run_keeps_the_scales_it_began_with(values: list[int] | None, tmp_path: Path, base: Path) -> None:  # noqa: F811
    examples = taught(20, "scores")
    for e in examples:
        e.scores = [Score(s.node, "tone", 6 if s.node == "good" else 2) for s in e.scores]
    rubric.load_own(write(tmp_path, TONE))
    quick(examples, tmp_path, base, "b", 4, epochs=2)
    paused(examples, tmp_path, base)
    rubric.load_own(None)
    if values:
        rubric.load_own(write(tmp_path, TONE | {"values": values, "levels": {str(v): f"tone {v}" for v in values}}))
    assert same_as_undisturbed(examples, tmp_path, base)
