"""Models of diffusers on this machine: pictures from words, and pictures changed by words, by folder or hub name.

Owns which one is loaded: one at a time, freed when another is wanted, one picture at a time. Never runs code that comes with
a model, and imports torch at the first picture only.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf.files import HUB_NAME
from backends.hf.hub import Halt, Stopped, fetched
from backends.painting import repository
from backends.painting.base import TASKS, Can, Step, Wish
from backends.painting.checks import Checked, checked
from backends.turn import Resident, Turn

__all__ = ["Diffusion", "create", "missing"]

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "psutil")
SETTINGS = ("model", "revision", "device", "width", "height", "steps", "guidance", "strength")
STRENGTH = 0.75  # of the source that is given up, to begin with
GET_IT = "pip install 'intermt-studio[images]' (a large download)"

TURN = Turn()  # of all models of diffusers


class Diffusion(Resident):
    """One model, loaded at its first picture."""

    def __init__(
        self, name: str, model: str, revision: str | None = None, device: str | None = None, **defaults: Any
    ) -> None:
        super().__init__(TURN)
        self.name, self.model, self.revision, self.device, self._own = name, model, revision, device, defaults
        self._known: tuple[Path, repository.Index] | None = None
        self._loaded: Any = None

    @property
    def can(self) -> Can:
        """What the model's files say it can do; all tasks while they are not here."""
        folder = self._known[0] if self._known else repository.cached(self.model, self.revision)
        if folder is None or not (folder / repository.INDEX).is_file():
            if not HUB_NAME.fullmatch(self.model) or Path(self.model).expanduser().is_dir():
                if folder is None:
                    raise repository.absent(self.model)
                repository.read(folder, self.model)  # says what is wrong
            none = dict.fromkeys(("width", "height", "steps", "guidance", "strength"))
            needs = f"{self.model} is downloaded at the first picture; what it can do is known then."
            return Can(TASKS, none | self._own, negative=True, guidance=True, preview=True, multiple=8, needs=needs)
        index = (
            self._known[1]
            if self._known
            else repository.parsed((folder / repository.INDEX).read_text("utf-8"), self.model)
        )
        return self._able(folder, index)

    def _able(self, folder: Path, index: repository.Index) -> Can:
        family, side = repository.family(index, self.model), repository.side(folder, index)
        strength = 1.0 if family.tasks == ("inpaint",) else STRENGTH
        defaults = {"width": side, "height": side, "steps": family.steps, "guidance": family.guidance,
                    "strength": None if family.tasks == ("instruct",) else strength}  # fmt: skip
        guided = repository.guided(folder, index)
        defaults |= {} if guided else {"guidance": None}
        return Can(family.tasks, defaults | self._own, family.negative, guided, "vae" in index.parts, family.multiple)

    def paint(self, wish: Wish, stop: threading.Event) -> Iterator[Step]:
        """Yield the steps of each variant; stop within a step, between two blocks of the network.

        With a seed, equal wishes give equal pictures on one device, whatever was drawn before.

        Raises:
            BackendError: an impossible wish, a model that cannot be loaded, or memory that ran out.
        """
        checked(wish, self.can, self.name)
        yield from self._in_turn(self._paint(wish, stop), stop.is_set)

    def describe(self) -> dict[str, Any]:
        """What is loaded where: ``loaded``, ``device``, ``dtype``, ``memory_mb`` of weights."""
        loaded = self._loaded
        if loaded is None:
            return {"loaded": False, "device": self.device, "dtype": None, "memory_mb": 0}
        device = f"{loaded.device}, each part while it works" if loaded.aside else loaded.device
        return {
            "loaded": True,
            "device": device,
            "dtype": loaded.dtype,
            "memory_mb": round(loaded.weight_bytes / 2**20),
        }

    # ---- while this has the turn

    def _paint(self, wish: Wish, stop: threading.Event) -> Iterator[Step]:
        from backends.painting.drawing import draw

        halt = Halt(stop, self._leave)
        try:
            if halt.is_set():
                return
            if self._loaded is None:
                yield from self._load(halt)
            wanted = checked(wish, self.can, self.name)  # its files are here now and tell more
            enough = yield from draw(self._loaded, wanted, halt, self._facts())
        except Stopped:
            if self._leave.is_set():
                raise BackendError(
                    f"{self.name} was unloaded while it drew. Generating again loads it again."
                ) from None
            return
        if not enough:  # outside of the handlers: an error that is still known keeps all that its frames hold
            self._free()
            raise _no_memory(self.name, wanted)

    def _facts(self) -> dict[str, Any]:
        loaded = self._loaded
        shown = self.model if HUB_NAME.fullmatch(self.model) else Path(self.model).name  # exported files tell no path
        return {
            "model": shown,
            "revision": loaded.revision or self.revision,
            "device": loaded.device,
            "dtype": loaded.dtype,
        }

    def _load(self, halt: Halt) -> Iterator[Step]:
        """Load the weights, downloaded first if need be; yields how far that is."""
        self._take_over()
        from backends.painting.loading import load

        folder, index = yield from fetched(
            lambda arrived: repository.locate(self.model, self.revision, halt, arrived),
            lambda told: Step(0, phase="downloading", told=told),
        )
        yield Step(0, phase="loading")
        self._loaded = load(folder, index, self.name, self.device)
        self._known, self._turn.holder = (folder, index), self

    def _here(self) -> bool:
        return self._loaded is not None

    def _drop(self) -> None:
        from backends.hf.loading import give_back

        self._loaded = None
        give_back()


def _no_memory(name: str, wanted: Checked) -> BackendError:
    wish = wanted.wish
    size = f" at {wish.width} x {wish.height}" if wish.width and wish.height else ""
    return BackendError(
        f"{name} ran out of memory{size}. Draw a smaller picture, unload other models, or choose a smaller one. It was "
        "unloaded; generating again loads it again."
    )


def missing() -> list[str]:
    """The packages that are not installed. Imports none."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def create(name: str, model: str = "", **settings: Any) -> Diffusion:
    """A model by folder or hub name. Loads and asks nothing yet.

    ``revision``: a branch, tag or commit on the hub. ``device``: cpu, cuda, cuda:1, mps; the quickest that there is. ``width``,
    ``height``, ``steps``, ``guidance``, ``strength``: what a wish that does not say is drawn with.

    Raises:
        BackendError: no model, an unknown or impossible setting, or packages that are not installed.
    """
    if unknown := set(settings) - set(SETTINGS):
        raise BackendError(
            f"A model of diffusers has no setting {', '.join(sorted(unknown))}. It knows {', '.join(SETTINGS)}."
        )
    if not isinstance(model, str) or not model.strip():
        raise BackendError('A model of diffusers needs a folder or a name. Add model = "owner/model" in studio.toml.')
    for key in ("width", "height", "steps", "guidance", "strength"):
        value = settings.get(key)
        whole = key in ("width", "height", "steps")
        if value is not None and (
            type(value) not in ((int,) if whole else (int, float)) or value < (1 if whole else 0)
        ):
            raise BackendError(
                f"A model of diffusers cannot begin with {key} = {value!r}. Give a number, or leave it out."
            )
    device = settings.get("device")
    if device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", str(device)):
        raise BackendError(f"A model of diffusers cannot run on device = {device!r}. Give cpu, cuda, cuda:1 or mps.")
    if lacking := missing():
        raise BackendError(f"Models of diffusers need {', '.join(lacking)}: {GET_IT}.")
    return Diffusion(name, model, **{k: v for k, v in settings.items() if v is not None})
