"""Kinds of damage one by one: blur, noise, blocks of JPEG; and whether a picture is of one colour. Pure functions of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NEARLY = 8  # of 255, in every channel: what counts as the same colour
SMALL = (256, 256)


def greys(picture: Image.Image) -> np.ndarray:
    """Greys of a picture, 0 to 255: (height, width)."""
    import numpy as np

    return np.asarray(picture.convert("L"), np.float64)


def blur(grey: np.ndarray) -> float:
    """0 (sharp) to 1 (blurred): Crété-Roffet and others, "The blur effect", SPIE 6492, 2007."""
    from skimage.measure import blur_effect

    return min(1.0, max(0.0, float(blur_effect(grey / 255)))) if grey.std() > 0 else 1.0  # nothing in it can be sharp


def noise(grey: np.ndarray) -> float:
    """Standard deviation of the noise, in steps of grey: Donoho and Johnstone, Biometrika 81(3), 1994, section 4.2."""
    import numpy as np
    from skimage.restoration import estimate_sigma

    found = float(estimate_sigma(grey)) if grey.std() > 0 else 0.0
    return found if np.isfinite(found) else 0.0


def blocks(grey: np.ndarray) -> float:
    """About 1 (blocks) to 10 (none): Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of JPEG compressed
    images", ICIP 2002, with their parameters. 10 where it cannot be told, in a picture without any step."""
    edges, active, crossed = ((a + b) / 2 for a, b in zip(_steps(grey), _steps(grey.T), strict=True))
    if min(edges, active, crossed) <= 0:
        return 10.0
    return float(-245.9 + 261.9 * edges**-0.0240 * active**0.0160 * crossed**0.0064)


def _steps(grey: np.ndarray) -> tuple[float, float, float]:
    """Along the rows: mean step over the borders of blocks, mean of the others, and how often steps change their sign."""
    import numpy as np

    step = np.diff(grey, axis=1)
    edges = float(np.abs(step[:, 7::8]).mean())
    return edges, float((8 * np.abs(step).mean() - edges) / 7), float((step[:, :-1] * step[:, 1:] < 0).mean())


def flat(picture: Image.Image) -> float:
    """Share of the pixels, 0 to 1, that have nearly the commonest colour of a picture."""
    import numpy as np
    from PIL import Image

    small = picture.convert("RGB")
    small.thumbnail(SMALL, Image.Resampling.NEAREST)  # no colour that was not there
    pixels = np.asarray(small, np.int16).reshape(-1, 3)
    coarse = pixels // NEARLY @ np.array([1, 64, 4096])
    commonest = np.median(pixels[coarse == np.bincount(coarse).argmax()], axis=0)
    return float((np.abs(pixels - commonest).max(1) <= NEARLY).mean())
