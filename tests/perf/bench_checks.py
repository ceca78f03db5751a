"""Measuring pictures: what one takes, and, printed, how often a damaged copy of InterMT's 64 examples gets the worse number at three strengths.

The peer is scikit-image's own blur and noise on the same greys, which are two of the five numbers.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from backends import checks
from tests.conftest import SHARED
from tests.perf import Row, Unavailable, compare

STRENGTHS = {"blur": (1, 2, 4), "noise": (10, 20, 40), "jpeg": (30, 15, 5)}  # radius, deviation, quality
SAID = {"blur": "radius {} px", "noise": "deviation {}", "jpeg": "quality {}"}


def measure() -> list[Row]:
    """One row; the counts are printed, over the whole pictures."""
    if lacking := checks.missing():
        raise Unavailable(f"needs {', '.join(lacking)}: {checks.GET_IT}")
    files = sorted((SHARED / "intermt_examples").glob("*/images/*.jpg"))
    if not files:
        raise Unavailable("no InterMT examples here")
    images = []
    for path in files:
        with Image.open(path) as opened:
            images.append(opened.convert("RGB"))
    order(images)
    return [_speed(images[:12])]


def order(images: list[Image.Image]) -> None:
    """Print in how many of the pictures each damage makes the quality, and its own number, worse."""
    from backends.checks import brisque, damage

    own: dict[str, Callable[[np.ndarray], float]] = {
        "blur": damage.blur, "noise": damage.noise, "jpeg": lambda grey: -damage.blocks(grey)
    }  # fmt: skip
    before = [damage.greys(image) for image in images]
    quality = [brisque.score(grey) for grey in before]
    for kind, strengths in STRENGTHS.items():
        plain = [own[kind](grey) for grey in before]
        for strength in strengths:
            after = [damage.greys(_damaged(image, kind, strength)) for image in images]
            worse = [sum(brisque.score(g) > q for g, q in zip(after, quality, strict=True)),
                     sum(own[kind](g) > p for g, p in zip(after, plain, strict=True))]  # fmt: skip
            print(
                f"InterMT examples, {kind} of {SAID[kind].format(strength)}: quality worse in {worse[0]}, {kind} in {worse[1]} of {len(images)}"
            )


def _damaged(image: Image.Image, kind: str, strength: int) -> Image.Image:
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(strength))
    if kind == "noise":
        exact = np.asarray(image, np.float64)
        noise = np.random.default_rng(0).normal(0, strength, exact.shape)
        return Image.fromarray(np.clip(exact + noise, 0, 255).astype(np.uint8))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=strength)
    return Image.open(out).convert("RGB")


def _speed(images: list[Image.Image]) -> Row:
    from backends.checks import damage

    ours, peer = [], []
    for image in images:
        out = io.BytesIO()
        image.save(out, "PNG")
        checks.measured(out.getvalue())
        start = time.perf_counter()
        checks.measured(out.getvalue())
        ours.append(1000 * (time.perf_counter() - start))
        grey = damage.greys(image)
        start = time.perf_counter()
        damage.blur(grey)
        damage.noise(grey)
        peer.append(1000 * (time.perf_counter() - start))
    return compare(
        "measure a picture of 640 px / its blur and noise by scikit-image",
        ours,
        peer,
        None,
        "{ours:.0f} ms / {peer:.0f} ms",
    )
