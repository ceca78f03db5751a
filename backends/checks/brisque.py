"""Quality without a reference: BRISQUE, with the model that its authors released.

A. Mittal, A. K. Moorthy and A. C. Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE Transactions on Image
Processing 21(12), 2012. Light and contrast are taken out of the picture; what is left of an undamaged photograph is nearly Gaussian, and
36 numbers of its shape, at two sizes, go through a regression trained on the LIVE database. ``assets/brisque_live.txt`` has the numbers of
that regression and the notice under which they may be copied. Written anew because the packages that have it need torchvision
and a download (piq, pyiqa), or OpenCV, a compiler and an unpickled file (brisque).
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

GAMMA, RHO = 0.05, -155.845
SIGMA = 7 / 6  # pixels, of a window of 7


def score(grey: np.ndarray) -> float:
    """About 0 (undamaged) to 100 of a picture's greys (height, width), 0 to 255; at least 32 pixels each way."""
    import numpy as np

    low, high, weights, vectors = _model()
    scaled = 2 * (features(grey) - low) / (high - low) - 1
    return float(weights @ np.exp(-GAMMA * ((vectors - scaled) ** 2).sum(1)) - RHO)


def features(grey: np.ndarray) -> np.ndarray:
    """The 36 features: for the picture and for its half, shape and spread of what is left, and of products of neighbours."""
    import numpy as np
    from PIL import Image

    found: list[float] = []
    for _ in range(2):
        left = _normalised(grey)
        found += _symmetric(left)
        for pair in (left[:, :-1] * left[:, 1:], left[:-1] * left[1:], left[:-1, :-1] * left[1:, 1:], left[1:, :-1] * left[:-1, 1:]):  # fmt: skip
            found += _asymmetric(pair)
        half = Image.fromarray(grey.astype(np.float32)).resize((grey.shape[1] // 2, grey.shape[0] // 2), Image.Resampling.BICUBIC)  # fmt: skip
        grey = np.asarray(half, np.float64)
    return np.array(found)


@functools.cache
def _model() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least and largest of each feature (36,), weights (vectors,), vectors (vectors, 36)."""
    import numpy as np

    with files("assets").joinpath("brisque_live.txt").open(encoding="utf-8") as lines:
        rows = np.loadtxt(lines)
    return rows[0, 1:], rows[1, 1:], rows[2:, 0], rows[2:, 1:]


def _normalised(grey: np.ndarray) -> np.ndarray:
    """Each pixel less the mean around it, over the deviation around it plus 1 (equation 1 of the paper)."""
    import numpy as np
    from scipy.ndimage import correlate1d

    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * SIGMA**2))
    window /= window.sum()

    def around(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, 0, mode="nearest"), window, 1, mode="nearest")

    mean = around(grey)
    return (grey - mean) / (np.sqrt(np.abs(around(grey * grey) - mean * mean)) + 1)


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """The shapes that are tried, and the ratio of moments that each has (squared mean of |x| over mean of x squared)."""
    import numpy as np
    from scipy.special import gamma

    shapes = np.arange(0.2, 10.0005, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _symmetric(x: np.ndarray) -> list[float]:
    """Shape and variance of a generalised Gaussian (moment matching, Sharifi and Leon-Garcia 1995)."""
    import numpy as np

    shapes, ratios = _shapes()
    square, size = float(x.ravel() @ x.ravel()) / x.size, float(np.abs(x).mean())
    ratio = square / max(size**2, 1e-12)
    return [float(shapes[np.argmin(np.abs(1 / ratios - ratio))]), square]


def _asymmetric(x: np.ndarray) -> list[float]:
    """Shape, mean, and the variances left and right of 0 of an asymmetric one (Lasmar, Stitou and Berthoumieu 2009)."""
    import numpy as np
    from scipy.special import gamma

    shapes, ratios = _shapes()
    below, size = np.minimum(x, 0).ravel(), float(np.abs(x).mean())
    whole, lower, count = float(x.ravel() @ x.ravel()), float(below @ below), int(np.count_nonzero(x < 0))
    left, right = np.sqrt(lower / max(count, 1)), np.sqrt(max(whole - lower, 0.0) / max(x.size - count, 1))
    skew = max(left, 1e-6) / max(right, 1e-6)
    ratio = size**2 / max(whole / x.size, 1e-12)
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(shapes[np.argmin((ratios - wanted) ** 2)])
    mean = (right - left) * float(np.sqrt(gamma(1 / shape) / gamma(3 / shape)) * gamma(2 / shape) / gamma(1 / shape))
    return [shape, mean, float(left**2), float(right**2)]
