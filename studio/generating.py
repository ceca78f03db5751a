"""Pictures that models draw: runs that wait for each other, what they show while they draw, and every finished picture kept.

Joins the painters with store and media. A run lives as long as this studio, whatever happens to the page; what it has finished
is an image like any other, so that cancelling or failing loses nothing of it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from backends import BackendError
from backends.base import ModelSpec
from backends.painting import Painter, Painters, Step, Wish, checked
from studio import StudioError, pictures
from studio.actions import Studio
from studio.background import Background, Task
from studio.media import MAX_BYTES

KEPT = 20  # runs on the screen, of this studio's life
NONE = (
    "No model that draws is set up yet. Settings has models to download (SD-Turbo is the smallest); a folder of diffusers, or a "
    "server with the OpenAI images interface, can be added there too."
)


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
    pace: Pace = field(default_factory=lambda: Pace())

    @property
    def state(self) -> str:
        """waiting, loading, running, done, cancelled or failed."""
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
            "error": self.task.error, "note": self.task.note, "variant": step.variant, "variants": self.wish.variants,
            "step": step.step, "steps": step.steps, "eta_s": left, "preview": shown, "pictures": list(self.done),
        }  # fmt: skip


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


class Generator:
    """What one run of the studio keeps for drawing: the painters, a queue a model, and the runs."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.painters = studio, Painters()
        self.runs: dict[str, Run] = {}
        self._queues: dict[str, Background] = {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()

    def close(self) -> None:
        """Cancel the runs, then free what is loaded."""
        for run in self.runs.values():
            run.task.stop.set()
        for queue in self._queues.values():
            queue.close()
        self.painters.close()

    def painter(self, name: str) -> Painter:
        """The painter of an image model. Raises StudioError or BackendError."""
        return self.painters.get(self.studio.config.image_model(name))

    def start(self, model: str, wish: Wish, source: str | None) -> Run:
        """Put a run at the end of its model's queue. Raises what ``checked`` raises, before anything begins."""
        painter = self.painter(model)
        checked(wish, painter.can, model)
        with self._lock:
            key = f"run-{next(self._numbers)}"
            queue = self._queues.setdefault(model, Background())
            ready = threading.Event()  # the run is complete before its work looks at it
            task = queue.start(key, wish.prompt[:80], lambda _: self._work(self.runs[key], painter, ready))
            self.runs[key] = Run(key, model, wish, source, task)
            ready.set()
            for old in [r for r in self.runs.values() if r.task.over][: max(0, len(self.runs) - KEPT)]:
                del self.runs[old.id]
                self._queues[old.model].cancel(old.id)
        return self.runs[key]

    def run(self, key: str) -> Run:
        """The run of an id. Raises StudioError when this studio has none."""
        if key not in self.runs:
            raise StudioError("This run is no longer known: the studio was started again. What it finished is kept.")
        return self.runs[key]

    def _work(self, run: Run, painter: Painter, ready: threading.Event) -> None:
        ready.wait()
        with contextlib.closing(iter(painter.paint(run.wish, run.task.stop))) as steps:  # type: ignore[type-var]
            for step in steps:
                if step.phase == "running":
                    run.pace.take(step)
                run.step, run.preview = step, step.preview or run.preview
                if step.image:
                    run.done.append(self._keep(run, step))
                    run.preview = b""

    def _keep(self, run: Run, step: Step) -> dict[str, Any]:
        """Put a finished variant into the store at once; what comes later cannot lose it."""
        wish = run.wish
        kept = self.studio.media.add(step.image, "The picture")
        asked = {k: getattr(wish, k) for k in ("negative", "width", "height", "steps", "guidance", "strength")}
        params = {"task": wish.task} | {k: v for k, v in asked.items() if v not in (None, "")} | step.facts
        params |= {"seed": step.seed} if step.seed is not None else {}
        self.studio.store.add_image(
            kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "generate" if wish.task == "generate" else "edit",
            tool=run.model, params=params, prompt=wish.prompt, source_sha256=run.source)  # fmt: skip
        run.task.note = " ".join(step.facts.get("notes", ()))
        return {k: v for k, v in pictures.shown(self.studio, kept.sha256).items() if k != "notes"} | {"seed": step.seed}


def of(studio: Studio) -> Generator:
    """The generator of this studio, made at its first use."""
    found = studio.workers.get("generate")
    if found is None:
        found = studio.workers.setdefault("generate", Generator(studio))
    assert isinstance(found, Generator)
    return found


def start(studio: Studio, model: str, task: Any, prompt: str, negative: str = "", width: int | None = None, height: int | None = None,
          steps: int | None = None, guidance: float | None = None, seed: int | None = None, variants: int = 1,
          strength: float | None = None, source: str | None = None, mask: str | bytes | None = None) -> Run:  # fmt: skip
    """Begin to draw; the run goes on by itself. ``source``: the hash of a stored picture; ``mask``: a PNG, or its base64.

    Raises:
        StudioError: no such model or picture, or a mask that did not arrive. BackendError: a wish that cannot be, see ``Wish``.
    """
    wish = Wish(task, prompt, negative, width, height, steps, guidance, seed, variants, strength,
                _file(studio, source) if source else None, _decoded(mask) if mask else None)  # fmt: skip
    return of(studio).start(model, wish, source or None)


def cancel(studio: Studio, key: str) -> Run:
    """End a run within a step; what it finished stays."""
    run = of(studio).run(key)
    run.task.stop.set()
    return run


def _file(studio: Studio, sha256: str) -> bytes:
    path = studio.media.path(sha256)
    if path is None:
        raise StudioError(f"No picture has the hash {sha256[:16]!r} here. Choose another.")
    return path.read_bytes()


def _decoded(mask: str | bytes) -> bytes:
    if isinstance(mask, bytes):
        return mask
    if len(mask) > MAX_BYTES * 4 / 3 + 4:
        raise StudioError(f"The mask has over {MAX_BYTES // 2**20} MB. Draw it on a smaller picture.")
    try:
        return base64.b64decode(mask.removeprefix("data:image/png;base64,"), validate=True)
    except binascii.Error as error:
        raise StudioError(f"The mask did not arrive whole ({error}). Draw it again.") from error


# ---- what the page calls


def state(studio: Studio) -> dict[str, Any]:
    """What the window shows: the models that draw, what is missing when there is none, and the runs, the newest first."""
    own, specs = of(studio), studio.config.image_models
    return {
        "models": [_told(own, spec) for spec in specs],
        "none": "" if specs else NONE,
        "runs": [r.told() for r in reversed(own.runs.values())][:KEPT],
    }


def _told(own: Generator, spec: ModelSpec) -> dict[str, Any]:
    told: dict[str, Any] = {"name": spec.name, "backend": spec.backend, "tasks": [], "defaults": {}, "negative": False, "guidance": False,
                            "preview": False, "loaded": {"loaded": False, "memory_mb": 0, "device": None}, "needs": "", "problem": ""}  # fmt: skip
    try:
        painter = own.painters.get(spec)
        can = painter.can
    except BackendError as error:
        return told | {"problem": str(error)}
    return told | {
        "tasks": list(can.tasks), "defaults": can.defaults, "negative": can.negative, "guidance": can.guidance, "preview": can.preview,
        "needs": can.needs, "loaded": told["loaded"] | painter.describe(),
    }  # fmt: skip


def _number(value: Any, kind: Any) -> Any:
    """A number of the page; None where the field is empty."""
    return None if value in (None, "") else kind(value)


def _start(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    numbers = {k: _number(data.get(k), int) for k in ("width", "height", "steps", "seed")}
    numbers |= {k: _number(data.get(k), float) for k in ("guidance", "strength")}
    run = start(studio, str(data["model"]), data["task"], str(data["prompt"]), str(data.get("negative") or ""), **numbers,
                variants=_number(data.get("variants"), int) or 1, source=data.get("source"), mask=data.get("mask"))  # fmt: skip
    return {"run": run.told()}


CALLS = {
    "generate": lambda studio, data: state(studio),
    "generate_start": _start,
    "generate_poll": lambda studio, data: {"run": of(studio).run(str(data["run"])).told()},
    "generate_cancel": lambda studio, data: {"run": cancel(studio, str(data["run"])).told()},
}
