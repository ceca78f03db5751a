"""One run of a model that draws: how far it is, how long the rest takes, what it has finished.

Plain data that the run's own thread writes and every other one reads. Never draws, never touches the store.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from backends.painting import Step, Wish
from studio.background import Task


class Pace:
    """How long steps take, and so how long the rest will; loading is not counted, the first step only until there are others."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._steps: list[float] = []
        self._variants: list[float] = []
        self._began = 0.0

    def take(self, step: Step) -> None:
        """Note that a step has come."""
        now = time.monotonic()
        if step.image:
            self._variants.append(now - self._began)
        elif step.step and self._last is not None:
            self._steps.append(now - self._last)
        if step.image or self._last is None:
            self._began = now
        self._last = now

    def eta_s(self, step: Step, variants: int) -> float | None:
        """Seconds until all variants are there; None while nobody knows."""
        if step.steps and self._steps:
            known = self._steps[1:] or self._steps
            left = step.steps * (variants - step.variant) - step.step
            return round(left * sum(known) / len(known), 1)
        if self._variants:
            left = variants - step.variant - bool(step.image)
            return round(left * sum(self._variants) / len(self._variants), 1)
        return None


@dataclass
class Run:
    """Pictures of one wish. ``done`` holds what is finished: ``sha256, width, height, thumb, seed``, one a variant."""

    id: str
    model: str
    wish: Wish
    source: str | None
    task: Task
    step: Step = field(default_factory=lambda: Step(0, phase="loading"))
    preview: bytes = b""
    done: list[dict[str, Any]] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    @property
    def state(self) -> str:
        """waiting, downloading, loading, running, done, cancelled or failed."""
        return self.step.phase if self.task.state == "running" else self.task.state

    @property
    def pictures(self) -> list[str]:
        """The hashes of the finished variants, in their order."""
        return [d["sha256"] for d in self.done]

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until it is over, ``timeout_s`` seconds at most; see ``state`` and ``task.error``."""
        self.task.ended.wait(timeout_s)
        return self

    def told(self) -> dict[str, Any]:
        """What the screen shows of it."""
        step, over = self.step, self.task.over
        left = None if over or self.state != "running" else self.pace.eta_s(step, self.wish.variants)
        shown = f"data:image/webp;base64,{base64.b64encode(self.preview).decode()}" if self.preview and not over else ""
        return {
            "id": self.id, "model": self.model, "task": self.wish.task, "prompt": self.wish.prompt, "state": self.state,
            "error": self.task.error, "note": self.task.note, "told": step.told, "variant": step.variant, "variants": self.wish.variants,
            "step": step.step, "steps": step.steps, "eta_s": left, "preview": shown, "pictures": list(self.done),
        }  # fmt: skip
