"""Draws: one variant after the other through a pipeline of diffusers, telling each step as it is done.

Owns what a pipeline is told and the thread it runs in. Never loads a model and never frees one.
"""

from __future__ import annotations

import math
import queue
import random
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from PIL import Image

from backends.base import BackendError
from backends.hf.hub import Halt
from backends.images.files import written
from backends.painting.base import Step, Wish
from backends.painting.checks import MAX_SIDE, Checked
from backends.painting.loading import Loaded, accepts, hook

UNSAFE = "The model's own safety checker blacked this picture out. Try another seed or prompt."
TILED = 1536 * 1536  # pixels above which a VAE works in tiles: a whole picture would take more memory than the rest
# what a configuration that does not fit its weights, or a size that does not fit either, makes diffusers raise
UNFIT = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
Tell = Callable[[Step], None]


@dataclass(frozen=True)
class Sheet:
    """The size that is worked at, in pixels, and the steps that are taken; ``notes`` say what the person should know."""

    width: int
    height: int
    steps: int
    notes: tuple[str, ...]

    def fitted(self, picture: Image.Image, how: Image.Resampling) -> Image.Image:
        """A picture at this size."""
        size = (self.width, self.height)
        return picture if picture.size == size else picture.resize(size, how)


def draw(loaded: Loaded, wanted: Checked, halt: Halt, facts: dict[str, Any]) -> Generator[Step, None, bool]:
    """Yield the steps of all variants; the generator returns False when memory ran out.

    Raises:
        BackendError: the model cannot draw this. Stopped: ``halt`` was set. What was finished has been yielded.
    """
    arrived: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
    closed = threading.Event()
    easel = Easel(loaded, wanted, Halt(*halt.events, closed), facts, arrived.put)
    # a thread of its own: a pipeline calls back, and whoever iterates wants to be called by nobody
    with ThreadPoolExecutor(1, "painter") as thread:
        drawn = thread.submit(easel.all)
        drawn.add_done_callback(lambda _: arrived.put(None))
        try:
            yield from iter(arrived.get, None)
        finally:  # also when the caller closes the generator early
            closed.set()
        return drawn.result()


class Easel:
    """One wish and the pipeline for it; ``facts`` go with every picture."""

    def __init__(self, loaded: Loaded, wanted: Checked, halt: Halt, facts: dict[str, Any], tell: Tell) -> None:
        self.loaded, self.wanted, self.halt, self.tell = loaded, wanted, halt, tell
        self.pipeline = loaded.for_task(wanted.wish.task)
        self.sheet = sheet(wanted, loaded)
        self.told = self._told()
        self.facts = facts | self._how()

    def all(self) -> bool:
        """Draw every variant; False when memory ran out."""
        wish = self.wanted.wish
        seed = random.randrange(2**32) if wish.seed is None else wish.seed
        hooks = hook(self.pipeline, self.halt.look)
        try:
            for variant in range(wish.variants):
                self._one(seed + variant, variant)
        except MemoryError:
            return False
        finally:
            for taken in hooks:
                taken.remove()
        return True

    def _one(self, seed: int, variant: int) -> None:
        self.halt.look()
        self.tell(Step(variant, seed=seed))
        at, factors, own = (0, 0), self.loaded.factors, self.sheet

        def after(pipe: Any, number: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
            nonlocal at
            self.halt.look()
            at = (number + 1, int(getattr(pipe, "num_timesteps", own.steps)))
            shown = factors.picture(pipe, values["latents"], own.width, own.height) if factors else b""
            self.tell(Step(variant, *at, preview=shown, seed=seed))
            return values

        picture, notes = self._finished(self._call(seed, after))
        self.halt.look()
        made = written(picture)
        notes = [*own.notes, *notes, *made.notes]
        facts = self.facts | ({"notes": notes} if notes else {})
        self.tell(Step(variant, *at, image=made.data, seed=seed, facts=facts))

    def _call(self, seed: int, after: Callable[..., Any]) -> Any:
        """What the pipeline makes. Raises MemoryError, or BackendError for whatever else it stumbles over."""
        import torch

        if hasattr(getattr(self.pipeline, "vae", None), "use_tiling"):
            self.pipeline.vae.use_tiling = self.sheet.width * self.sheet.height > TILED
        noise = torch.Generator("cpu").manual_seed(seed)  # the same noise on every device
        try:
            return self.pipeline(**self.told, generator=noise, callback_on_step_end=after)
        except UNFIT as error:
            said = " ".join(str(error).split())[:160] or type(error).__name__
            if (
                isinstance(error, torch.OutOfMemoryError) or "allocate memory" in said
            ):  # how torch says it on a processor
                raise MemoryError from error
            raise BackendError(
                f"The model cannot draw this ({said}). Try another size or task, or another copy of the model."
            ) from error

    def _finished(self, result: Any) -> tuple[Image.Image, list[str]]:
        """The picture of a result, outside of a mask the source to the pixel; and what the person should know of it."""
        picture: Image.Image = result.images[0].convert("RGB")
        source, mask = self.wanted.source, self.wanted.mask
        if source is not None and mask is not None:
            whole = picture if picture.size == source.size else picture.resize(source.size, Image.Resampling.LANCZOS)
            picture = Image.composite(whole, source, mask)
        unsafe = any(getattr(result, "nsfw_content_detected", None) or ())
        return picture, [UNSAFE] if unsafe else []

    def _told(self) -> dict[str, Any]:
        """What the pipeline is called with, of what it understands."""
        wish, source, mask, own = self.wanted.wish, self.wanted.source, self.wanted.mask, self.sheet
        guides = self.loaded.family.guides
        told = {
            "prompt": wish.prompt, "negative_prompt": wish.negative or (None if guides == "guidance_scale" else " "),
            "width": own.width, "height": own.height, "num_inference_steps": own.steps, "strength": wish.strength,
            guides: wish.guidance, "max_area": own.width * own.height, "_auto_resize": False,
            "image": source and own.fitted(source, Image.Resampling.LANCZOS),
            "mask_image": mask and own.fitted(mask, Image.Resampling.BILINEAR),
        }  # fmt: skip
        understood = accepts(self.pipeline)
        return {k: v for k, v in told.items() if v is not None and k in understood}

    def _how(self) -> dict[str, Any]:
        """What a picture's row tells of its making, beside the wish."""
        told, guides = self.told, self.loaded.family.guides
        how = {
            "steps": told.get("num_inference_steps"), "guidance": told.get(guides), "strength": told.get("strength"),
            "width": self.sheet.width, "height": self.sheet.height, "pipeline": type(self.pipeline).__name__,
            "scheduler": type(self.pipeline.scheduler).__name__,
        }  # fmt: skip
        return {k: v for k, v in how.items() if v is not None}


def sheet(wanted: Checked, loaded: Loaded) -> Sheet:
    """The size for a wish: its own, else the source's, scaled down to as many pixels as the model draws by itself."""
    wish, source, notes = wanted.wish, wanted.source, list[str]()
    width, height = wish.width or loaded.side, wish.height or loaded.side
    if source is not None and not (wish.width and wish.height):
        width, height = _like(source.size, wish, loaded)
        if (width, height) != source.size:
            notes.append(f"Worked at {width} x {height} of {source.width} x {source.height} pixels.")
    steps, strength = wish.steps or loaded.family.steps, wish.strength
    if source is not None and wish.task != "instruct" and strength and int(steps * strength) < 1:
        steps = math.ceil(1 / strength)
        notes.append(f"Drawn with {steps} steps: fewer at strength {strength:g} would be none.")
    if wish.negative and wish.guidance is not None and wish.guidance <= 1:
        notes.append("The negative prompt had no effect: that takes a guidance above 1.")
    return Sheet(width, height, steps, tuple(notes))


def _like(size: tuple[int, int], wish: Wish, loaded: Loaded) -> tuple[int, int]:
    """A size with the proportions of a source: as wide or as high as wished, else no larger than the model is used to."""
    if wish.width or wish.height:
        scale = (wish.width or 0) / size[0] or (wish.height or 0) / size[1]
    else:
        scale = min(1.0, loaded.side / math.sqrt(size[0] * size[1]))
    scale, multiple = min(scale, MAX_SIDE / max(size)), loaded.family.multiple
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height
