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
from backends.hf.files import Stopped
from backends.images.files import written
from backends.painting.base import Step, Wish
from backends.painting.checks import Checked
from backends.painting.loading import Loaded, accepts, hook

TILED = 1536 * 1536  # pixels above which a VAE works in tiles: a whole picture would take more memory than the rest
# what a configuration that does not fit its weights, or a size that does not fit either, makes diffusers raise
UNFIT = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
Tell = Callable[[Step], None]


class Halt:
    """Several events as one: whoever draws stops once any is set."""

    def __init__(self, *events: threading.Event) -> None:
        self.events = events

    def is_set(self) -> bool:
        """Whether any is."""
        return any(e.is_set() for e in self.events)

    def look(self) -> None:
        """Raise Stopped when any is."""
        if self.is_set():
            raise Stopped


@dataclass(frozen=True)
class Sheet:
    """The size that is worked at, in pixels, and the steps that are taken; ``notes`` say what differs from the wish."""

    width: int
    height: int
    steps: int
    notes: tuple[str, ...]


def draw(loaded: Loaded, wanted: Checked, halt: Halt, facts: dict[str, Any]) -> Generator[Step, None, bool]:
    """Yield the steps of all variants; the generator returns False when memory ran out.

    Raises:
        Stopped: ``halt`` was set. What was finished has been yielded.
    """
    arrived: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
    closed = threading.Event()
    # a thread of its own: a pipeline calls back, and whoever iterates wants to be called by nobody
    with ThreadPoolExecutor(1, "painter") as thread:
        drawn = thread.submit(_all, loaded, wanted, Halt(*halt.events, closed), facts, arrived.put)
        drawn.add_done_callback(lambda _: arrived.put(None))
        try:
            yield from iter(arrived.get, None)
        finally:  # also when the caller closes the generator early
            closed.set()
        return drawn.result()


def _all(loaded: Loaded, wanted: Checked, halt: Halt, facts: dict[str, Any], tell: Tell) -> bool:
    seed = wanted.wish.seed if wanted.wish.seed is not None else random.randrange(2**32)
    pipeline = loaded.for_task(wanted.wish.task)
    hooks = hook(pipeline, halt.look)
    try:
        for variant in range(wanted.wish.variants):
            _one(loaded, pipeline, wanted, halt, facts, seed + variant, variant, tell)
    except MemoryError:
        return False
    finally:
        for taken in hooks:
            taken.remove()
    return True


def _one(
    loaded: Loaded,
    pipeline: Any,
    wanted: Checked,
    halt: Halt,
    facts: dict[str, Any],
    seed: int,
    variant: int,
    tell: Tell,
) -> None:
    import torch

    sheet = _sheet(wanted, loaded)
    told = _told(pipeline, loaded, wanted, sheet)
    halt.look()
    tell(Step(variant, seed=seed))
    at = (0, 0)

    def after(pipe: Any, number: int, _: Any, values: dict[str, Any]) -> dict[str, Any]:
        nonlocal at
        halt.look()
        at = (number + 1, int(getattr(pipe, "num_timesteps", sheet.steps)))
        shown = loaded.factors.picture(pipe, values["latents"], sheet.width, sheet.height) if loaded.factors else b""
        tell(Step(variant, *at, preview=shown, seed=seed))
        return values

    if getattr(pipeline, "vae", None) is not None and hasattr(pipeline.vae, "use_tiling"):
        pipeline.vae.use_tiling = sheet.width * sheet.height > TILED
    noise = torch.Generator("cpu").manual_seed(seed)  # the same noise on every device
    try:
        result = pipeline(**told, generator=noise, callback_on_step_end=after)
    except UNFIT as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(
            error
        ):  # how torch says it on a processor
            raise MemoryError from error
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise BackendError(
            f"The model cannot draw this ({said}). Try another size or task, or another copy of the model."
        ) from error
    halt.look()
    picture: Image.Image = result.images[0].convert("RGB")
    notes = list(sheet.notes)
    if any(getattr(result, "nsfw_content_detected", None) or ()):
        notes.append("The model's own safety checker blacked this picture out. Try another seed or prompt.")
    if (
        wanted.mask is not None and wanted.source is not None
    ):  # outside of the mask the source stays as it is, to the pixel
        whole = (
            picture.resize(wanted.source.size, Image.Resampling.LANCZOS)
            if picture.size != wanted.source.size
            else picture
        )
        picture = Image.composite(whole, wanted.source, wanted.mask)
    made = written(picture)
    how = {
        "pipeline": type(pipeline).__name__,
        "scheduler": type(pipeline.scheduler).__name__,
        "width": sheet.width,
        "height": sheet.height,
    }
    known = facts | how | {k: told[k] for k in ("num_inference_steps", loaded.family.guides) if k in told}
    known = {"steps": known.pop("num_inference_steps", None), "guidance": known.pop(loaded.family.guides, None)} | known
    known |= {"strength": told["strength"]} if "strength" in told else {}
    known |= {"notes": [*notes, *made.notes]} if notes or made.notes else {}
    tell(
        Step(
            variant,
            *at,
            image=made.data,
            seed=seed,
            facts={k: v for k, v in known.items() if v is not None},
        )
    )


def _sheet(wanted: Checked, loaded: Loaded) -> Sheet:
    """The size for a wish: its own, else the source's, scaled down to as many pixels as the model draws by itself."""
    wish, source, multiple = wanted.wish, wanted.source, loaded.family.multiple
    notes: list[str] = []
    width, height = wish.width, wish.height
    if source is not None and not (width and height):
        if width or height:
            scale = (width or 0) / source.width or (height or 0) / source.height
        else:
            scale = min(1.0, math.sqrt(loaded.side**2 / (source.width * source.height)))
        width, height = (max(multiple, round(s * scale / multiple) * multiple) for s in source.size)
        if (width, height) != source.size:
            notes.append(f"Worked at {width} x {height} of {source.width} x {source.height} pixels.")
    steps, strength = wish.steps or loaded.family.steps, wish.strength
    if source is not None and wish.task != "instruct" and strength and int(steps * strength) < 1:
        steps = math.ceil(1 / strength)
        notes.append(f"Drawn with {steps} steps: fewer at strength {strength:g} would be none.")
    return Sheet(width or loaded.side, height or loaded.side, steps, tuple(notes))


def _told(pipeline: Any, loaded: Loaded, wanted: Checked, sheet: Sheet) -> dict[str, Any]:
    """What the pipeline is called with, of what it understands."""
    wish: Wish = wanted.wish
    told: dict[str, Any] = {
        "prompt": wish.prompt, "negative_prompt": wish.negative or (" " if loaded.family.guides != "guidance_scale" else None),
        "width": sheet.width, "height": sheet.height, "num_inference_steps": sheet.steps, "strength": wish.strength,
        loaded.family.guides: wish.guidance, "max_area": sheet.width * sheet.height, "_auto_resize": False,
    }  # fmt: skip
    size = (sheet.width, sheet.height)
    if wanted.source is not None:
        told["image"] = (
            wanted.source if wanted.source.size == size else wanted.source.resize(size, Image.Resampling.LANCZOS)
        )
    if wanted.mask is not None:
        told["mask_image"] = (
            wanted.mask if wanted.mask.size == size else wanted.mask.resize(size, Image.Resampling.BILINEAR)
        )
    understood = accepts(pipeline)
    return {k: v for k, v in told.items() if v is not None and k in understood}
