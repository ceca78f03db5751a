"""The style of a picture as two histograms: its colours and its texture. Two pictures are compared by what they share of each.

Colours: Swain and Ballard, "Color indexing", IJCV 7(1), 1991, in CIE Lab, whose steps are equal to the eye. Texture: uniform local binary
patterns at three radii, Ojala, Pietikäinen and Mäenpää, IEEE TPAMI 24(7), 2002. Neither knows what is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

WHOLE = 10_000  # what the whole numbers of a histogram add up to
BINS, LIMITS = (4, 8, 8), ((0, 100), (-64, 64), (-64, 64))  # L, a, b
RINGS = ((8, 1), (16, 2), (24, 3))  # points, radius in pixels
COLOUR_SIDE, TEXTURE_SIDE = 128, 384


def told(picture: Image.Image) -> dict[str, list[int]]:
    """``palette`` (256 numbers) and ``texture`` (54), each about ``WHOLE`` together."""
    return {"palette": _whole(_palette(picture)), "texture": _whole(_texture(picture))}


def _whole(histogram: np.ndarray) -> list[int]:
    import numpy as np

    return [int(v) for v in np.rint(histogram * (WHOLE / histogram.sum()))]


def _palette(picture: Image.Image) -> np.ndarray:
    import numpy as np
    from PIL import Image
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2lab

    small = picture.convert("RGB").resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BILINEAR)
    lab = rgb2lab(np.asarray(small)).reshape(-1, 3).clip([low for low, _ in LIMITS], [high for _, high in LIMITS])
    counted, _ = np.histogramdd(lab, bins=BINS, range=LIMITS)
    return gaussian_filter(counted, 0.7, mode="nearest").ravel()  # a colour near the border of a bin lies in both


def _texture(picture: Image.Image) -> np.ndarray:
    import numpy as np
    from PIL import Image
    from skimage.feature import local_binary_pattern

    small = picture.convert("L")
    small.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BICUBIC)
    grey, rings = np.asarray(small), []
    for points, radius in RINGS:
        patterns = local_binary_pattern(grey, points, radius, "uniform").astype(np.int64)
        rings.append(np.bincount(patterns.ravel(), minlength=points + 2) / patterns.size)
    return np.concatenate(rings)
