"""What can be measured of a picture, of two, and of a picture and a text: each a number with its name, range and direction.

Owns the measures and what each means (``assets/checks.json``). Keeps nothing, knows no rows, and never says good or bad.
The parts: ``damage`` (blur, noise, blocks, one colour), ``brisque`` (quality), ``style`` (distances of two pictures).
"""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from backends import BackendError
from backends.images.files import opened

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1  # rises when a number would come out otherwise: what is kept of an earlier one is measured again
NEEDS = ("numpy", "scipy", "skimage", "pywt", "imagehash")
GET_IT = "pip install 'intermt-studio[checks]'"
SIDE = 1_024  # pixels of the longer side: a larger picture is measured on a copy of that size
LEAST = 32  # pixels of the shorter side, under which these statistics say nothing
BLANK = 0.98  # share of one colour, over which there is no texture to speak of


@dataclass(frozen=True, slots=True)
class Measure:
    """What a number means. ``of``: picture, pair or text; ``better``: lower, higher, or '' where neither is; not ``strict``: the
    range is the usual one, and a number may lie a little outside."""

    key: str
    of: str
    name: str
    low: float
    high: float
    strict: bool
    better: str
    means: str
    source: str

    @property
    def range(self) -> str:
        """Its range and direction in words, such as ``0 to 1, lower is better``."""
        about = "" if self.strict else "about "
        return f"{about}{self.low:g} to {self.high:g}" + (f", {self.better} is better" if self.better else "")


@functools.cache
def measures() -> dict[str, Measure]:
    """Every measure by its key, in the order of a screen."""
    rows = json.loads(files("assets").joinpath("checks.json").read_text(encoding="utf-8"))
    return {row["key"]: Measure(**row) for row in rows}


def missing() -> list[str]:
    """The packages that measuring lacks here; none is imported."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def measured(data: bytes) -> dict[str, Any]:
    """The numbers of one picture file by their keys: ``quality, blur, noise, jpeg, flat``; and ``style``, for ``apart``.

    A picture of under 32 pixels, or of one colour, has only ``flat`` and ``style``. Transparent parts count as white.

    Raises:
        BackendError: a package is missing, or no picture can be had from the bytes (see ``images.opened``).
    """
    if lacking := missing():
        raise BackendError(f"Measuring pictures needs {', '.join(lacking)}. Get it with: {GET_IT}")
    from PIL import Image

    from backends.checks import brisque, damage

    picture = opened(data)[0]
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    found: dict[str, Any] = {"flat": damage.flat(picture), "style": style_of(picture)}
    if min(picture.size) >= LEAST and found["flat"] < BLANK:
        grey = damage.greys(picture)
        found |= {"quality": brisque.score(grey), "blur": damage.blur(grey), "noise": damage.noise(grey), "jpeg": damage.blocks(grey)}  # fmt: skip
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def style_of(picture: Image.Image) -> dict[str, Any]:
    """The ``style`` of a picture in RGB, as ``measured`` gives it."""
    from backends.checks import style

    return style.told(picture)


def apart(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How far the styles of two pictures lie apart, by key (``palette, texture``), from their ``style`` as ``measured`` gives it."""
    return {key: _unshared(one[key], other[key]) for key in ("palette", "texture")}


def bits(looks: int, other: int) -> int:
    """In how many of 64 bits two perceptual hashes differ."""
    return ((looks ^ other) & (2**64 - 1)).bit_count()


def _unshared(one: list[int], other: list[int]) -> float:
    """One minus the intersection of two histograms, each given in whole numbers."""
    shared = sum(map(min, one, other))
    return round(1 - shared / max(sum(one), sum(other), 1), 4)
