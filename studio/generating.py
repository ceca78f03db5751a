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
from dataclasses import replace
from typing import Any

from backends import BackendError, ModelSpec, keys, painting
from backends.painting import Painter, Painters, Step, Wish, checked
from studio import StudioError, actions, pictures
from studio.actions import Studio
from studio.background import Background
from studio.generating_run import Run
from studio.media import MAX_BYTES

UNLOAD_S = 10.0
KEPT = 20  # runs on the screen, of this studio's life
NONE = (
    "No model that draws is set up yet. Settings has models to download (SD-Turbo is the smallest); a folder of diffusers, or a "
    "server with the OpenAI images interface, can be added there too."
)


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
            task = queue.start(key, wish.prompt[:80], lambda _: self._work(key, wish, painter))
            without_files = replace(wish, source=None, mask=None)  # those belong to its work
            self.runs[key] = Run(key, model, without_files, source, task)
            for old in [r for r in self.runs.values() if r.task.over][: max(0, len(self.runs) - KEPT)]:
                del self.runs[old.id]
                self._queues[old.model].cancel(old.id)
        return self.runs[key]

    def run(self, key: str) -> Run:
        """The run of an id. Raises StudioError when this studio has none."""
        if key not in self.runs:
            raise StudioError("This run is no longer known: the studio was started again. What it finished is kept.")
        return self.runs[key]

    def _work(self, key: str, wish: Wish, painter: Painter) -> None:
        with self._lock:  # whoever starts a run holds it until the run is complete
            run = self.runs[key]
        with contextlib.closing(iter(painter.paint(wish, run.task.stop))) as steps:  # type: ignore[type-var]
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
        "runs": [r.told() for r in list(own.runs.values())[::-1][:KEPT]],
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


def _number(value: Any) -> Any:
    """A number of the page, whole where it is; None where the field is empty."""
    if value in (None, ""):
        return None
    number = float(value)
    return int(number) if number.is_integer() else number


def _start(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    numbers = {k: _number(data.get(k)) for k in ("width", "height", "steps", "guidance", "seed", "strength")}
    run = start(studio, str(data["model"]), data["task"], str(data["prompt"]), str(data.get("negative") or ""), **numbers,
                variants=_number(data.get("variants")) or 1, source=data.get("source"), mask=data.get("mask"))  # fmt: skip
    return {"run": run.told()}


def add(studio: Studio, spec: ModelSpec, key: str = "") -> None:
    """Put a model that draws into ``studio.toml`` and the list; a typed key goes into the OS keyring.

    Raises:
        StudioError: no name, or one that is taken. BackendError: an impossible setting, no such folder, or a keyring that
            does not open; the model is in the list then, and the key works until the studio ends.
    """
    if key:
        spec = ModelSpec(spec.name, spec.backend, spec.settings | {"keyring": True})
    _ = painting.create(spec).can  # what cannot be is said now, not at the first picture
    actions.add_model(studio, spec, "image_model")
    if key:
        keys.keep(spec.settings["base_url"], key)


def remove(studio: Studio, name: str) -> None:
    """Take a model that draws out of the list and free its memory; its files stay. Raises StudioError when it still draws."""
    actions.remove_model(studio, name, "image_model")
    unload(studio, name)


def unload(studio: Studio, name: str) -> None:
    """Free the memory of a model that draws; the next run loads it again. Raises StudioError when it still draws."""
    painter = of(studio).painters.opened().get(name)
    if painter and not painter.unload(UNLOAD_S):
        raise StudioError(f"{name} still draws after {UNLOAD_S:.0f} s. Cancel its runs, then unload it.")


def _add(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in data.items() if k not in ("name", "backend", "key") and v not in (None, "")}
    add(
        studio, ModelSpec(str(data["name"]).strip(), str(data["backend"]), settings), str(data.get("key") or "").strip()
    )
    return state(studio)


def _remove(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    remove(studio, str(data["name"]))
    return state(studio)


def _unload(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    unload(studio, studio.config.image_model(str(data["name"])).name)
    return state(studio)


CALLS = {
    "generate": lambda studio, data: state(studio),
    "generate_start": _start,
    "generate_poll": lambda studio, data: {"run": of(studio).run(str(data["run"])).told()},
    "generate_models_add": _add,
    "generate_models_remove": _remove,
    "generate_unload": _unload,
    "generate_cancel": lambda studio, data: {"run": cancel(studio, str(data["run"])).told()},
}
