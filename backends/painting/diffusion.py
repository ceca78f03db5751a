"""Models of diffusers on this machine: pictures from words, and pictures changed by words, by folder or hub name.

Owns which one is loaded: one at a time, freed when another is wanted, one picture at a time. Never runs code that comes with
a model, and imports torch at the first picture only.
"""

from __future__ import annotations

import gc
import importlib.util
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf.files import HUB_NAME, Stopped
from backends.painting import repository
from backends.painting.base import TASKS, Can, Step, Wish
from backends.painting.checks import Checked, checked

__all__ = ["Diffusion", "create", "missing"]

POLL_S = 0.05  # how often a waiting wish looks whether it should stop
NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "psutil")
SETTINGS = ("model", "revision", "device", "width", "height", "steps", "guidance", "strength")
STRENGTH = 0.75  # of the source that is given up, to begin with
GET_IT = "pip install 'intermt-studio[images]' (a large download)"

_turn = threading.Lock()  # held while a model of diffusers loads or draws
_holder: Diffusion | None = None  # whose weights are in memory


class Diffusion:
    """One model, loaded at its first picture."""

    def __init__(
        self, name: str, model: str, revision: str | None = None, device: str | None = None, **defaults: Any
    ) -> None:
        self.name, self.model, self.revision, self.device, self._own = name, model, revision, device, defaults
        self._known: tuple[Path, repository.Index] | None = None
        self._drawing, self._leave = False, threading.Event()
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
        while not _turn.acquire(timeout=POLL_S):
            if stop.is_set():
                return
        self._drawing = True
        try:
            yield from self._paint(wish, stop)
        finally:  # also when the caller closes the generator early
            self._drawing = False
            if self._leave.is_set():
                self._free()
            _turn.release()

    def unload(self, timeout_s: float = 10.0) -> bool:
        """Free the memory; a picture under way ends with an error that says so. False when it still is after ``timeout_s``."""
        if self._loaded is None and not self._drawing:
            return True
        self._leave.set()  # whoever holds the turn frees it too
        if not _turn.acquire(timeout=timeout_s):
            return False
        try:
            self._free()
        finally:
            _turn.release()
        return True

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
        from backends.painting.drawing import Halt, draw

        halt = Halt(stop, self._leave)
        try:
            if halt.is_set():
                return
            if self._loaded is None:
                yield Step(0, phase="loading")
                self._load(halt)
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

    def _load(self, halt: Any) -> None:
        global _holder
        if _holder is not None:
            _holder._free()
        from backends.painting.loading import load

        folder, index = repository.locate(self.model, self.revision, halt)
        self._loaded = load(folder, index, self.name, self.device)
        self._known, _holder = (folder, index), self

    def _free(self) -> None:
        global _holder
        self._leave.clear()
        if self._loaded is None:
            return
        import torch

        self._loaded = _holder = None
        gc.collect()  # modules and their hooks refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


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
