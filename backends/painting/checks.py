"""Whether a wish can be fulfilled: its words, its numbers, its picture and its mask, before anything is loaded.

Owns the limits and the lines about them. Never draws, and trusts no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from backends.base import BackendError
from backends.images.files import opened
from backends.painting.base import TASKS, Can, Wish

MAX_SIDE = 4096  # of a picture that is drawn
MAX_SOURCE_SIDE = 30_000
MAX_VARIANTS, MAX_STEPS, MAX_PROMPT = 16, 500, 20_000
DOES = {"generate": "draws from words", "edit": "changes a picture", "inpaint": "repaints a part of a picture",
        "instruct": "follows an instruction on a picture"}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """A wish whose numbers are whole, its source in RGB and its mask in L, both upright and of one size; None without."""

    wish: Wish
    source: Image.Image | None
    mask: Image.Image | None


def checked(wish: Wish, can: Can, name: str) -> Checked:
    """The wish with the defaults of ``can``, and its pictures opened.

    Raises:
        BackendError: a task that it cannot do, an empty prompt, a number out of range, no source, a mask that does not fit.
    """
    if wish.task not in TASKS:
        raise BackendError(f"{str(wish.task)[:40]!r} is nothing a painter does. Choose one of: {', '.join(TASKS)}.")
    if wish.task not in can.tasks:
        does = ", ".join(DOES[t] for t in can.tasks)
        raise BackendError(f"{name} {does}; it has no {wish.task!r}. Choose another model.")
    _words(wish, can, name)
    _number("variants", wish.variants, 1, MAX_VARIANTS, whole=True)
    _number("steps", wish.steps, 1, MAX_STEPS, whole=True)
    _number("guidance", wish.guidance, 0, 50)
    _number("strength", wish.strength, 0.01, 1)
    _number("seed", wish.seed, 0, 2**53, whole=True)  # as far as a browser counts
    for side in ("width", "height"):
        _side(side, getattr(wish, side), can.multiple)
    if wish.guidance is not None and not can.guidance:
        raise BackendError(f"{name} takes no guidance. Leave it empty.")
    source, mask = _pictures(wish)
    defaults = {k: v for k, v in can.defaults.items() if getattr(wish, k) is None}
    if source is not None:  # its own size counts, unless somebody says otherwise
        defaults = {k: v for k, v in defaults.items() if k not in ("width", "height")}
    return Checked(replace(wish, **defaults, prompt=wish.prompt.strip(), negative=wish.negative.strip()), source, mask)


def _words(wish: Wish, can: Can, name: str) -> None:
    if not wish.prompt.strip():
        what = "should be different" if wish.task != "generate" else "the picture should show"
        raise BackendError(f"The prompt is empty. Say what {what}.")
    for text in (wish.prompt, wish.negative):
        if len(text) > MAX_PROMPT:
            raise BackendError(f"A prompt of {len(text):,} characters is too long; at most {MAX_PROMPT:,}. Shorten it.")
    if wish.negative.strip() and not can.negative:
        raise BackendError(
            f"{name} takes no negative prompt. Leave it empty, and say in the prompt what should be there."
        )


def _number(what: str, value: Any, least: float, most: float, whole: bool = False) -> None:
    if value is None and what != "variants":
        return
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not math.isfinite(value) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise BackendError(f"{what} = {value!r:.40} cannot be. Give {kind} from {least:g} to {most:,g}.")


def _side(what: str, value: Any, multiple: int) -> None:
    if value is None:
        return
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise BackendError(
            f"A {what} of {value!r:.40} pixels cannot be drawn. Give a whole number from {multiple} to {MAX_SIDE:,}."
        )
    if value % multiple:
        near = max(multiple, round(value / multiple) * multiple)
        raise BackendError(
            f"A {what} of {value} pixels cannot be drawn: this model takes multiples of {multiple}. Give {near}."
        )


def _pictures(wish: Wish) -> tuple[Image.Image | None, Image.Image | None]:
    if wish.task == "generate":
        if wish.source is not None or wish.mask is not None:
            raise BackendError(
                "A picture is drawn from words alone here. Choose edit, inpaint or instruct to change one."
            )
        return None, None
    if not wish.source:
        raise BackendError("There is no picture to change. Choose one, or generate a new one.")
    source = opened(wish.source)[0]
    if max(source.size) > MAX_SOURCE_SIDE:
        raise BackendError(
            f"The picture has {source.width:,} x {source.height:,} pixels; at most {MAX_SOURCE_SIDE:,} a side. Crop or resize it first."
        )
    if wish.task != "inpaint":
        if wish.mask is not None:
            raise BackendError(
                f"A mask belongs to inpaint; {wish.task} changes the whole picture. Take the mask away, or choose inpaint."
            )
        return _flat(source), None
    if not wish.mask:
        raise BackendError("There is no mask. Paint over what may change.")
    mask = _flat(opened(wish.mask)[0], "black").convert("L")
    if mask.size != source.size:
        raise BackendError(
            f"The mask has {mask.width} x {mask.height} pixels, the picture {source.width} x {source.height}: draw it on this picture."
        )
    if mask.getextrema()[1] == 0:
        raise BackendError("The mask is empty: nothing may change. Paint over what should be different.")
    return _flat(source), mask


def _flat(picture: Image.Image, ground_colour: str = "white") -> Image.Image:
    """The picture without transparency: painters see none."""
    if picture.mode != "RGBA":
        return picture
    ground = Image.new("RGBA", picture.size, ground_colour)
    return Image.alpha_composite(ground, picture).convert("RGB")
