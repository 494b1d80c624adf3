"""Measure position, size and stroke width of ink in gray arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = np.uint8(230)
"""Darker pixels hold ink."""
MEASURED_ARRAYS = 5000
"""Arrays of a training set that are measured, at most."""


@dataclass(frozen=True)
class InkStatistics:
    """Position, size and stroke width of the ink of a training set, as shares of the height.

    Attributes:
        aspect: Width over height of the images.
        x: Median center of the ink, from the left.
        y: Median center of the ink, from the top.
        diagonal: 1st, 50th and 99th percentile of the ink's diagonal.
        darkness: 1st and 50th percentile of the darkness of ink, 0 to 1: thin strokes are gray.
        stroke_width: 50th and 99th percentile of the width of strokes that are wider than a pixel.
        recenter: Ink of a usual size is moved to the usual position. If False, it stays where it
            is in images of the usual aspect, for models that find it themselves.
    """

    aspect: float
    x: float
    y: float
    diagonal: tuple[float, float, float]
    darkness: tuple[float, float]
    stroke_width: tuple[float, float]
    recenter: bool = True

    @classmethod
    def of(
        cls, arrays: NDArray[np.uint8], aspect: float, recenter: bool = True
    ) -> "InkStatistics | None":
        """Measure arrays (N, H, W), 0 black to 255 white; return None if there is no ink."""
        some = arrays[:: -(-len(arrays) // MEASURED_ARRAYS)]
        ink = np.stack([measure_ink(array, aspect) for array in some])
        ink = ink[~np.isnan(ink[:, 0])]
        if not len(ink):
            return None
        low, median, high = np.quantile(ink, (0.01, 0.5, 0.99), axis=0).tolist()
        return cls(
            aspect=aspect,
            x=median[0],
            y=median[1],
            diagonal=(low[2], median[2], high[2]),
            darkness=(low[3], median[3]),
            stroke_width=(median[4], high[4]),
            recenter=recenter,
        )


def measure_ink(gray: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Measure x and y of the ink's center, its diagonal, darkness and stroke width.

    Args:
        gray: Shape (H, W), 0 black to 255 white.
        aspect: Width over height of the image, whatever H and W are.

    Returns:
        Values as in `InkStatistics`, shape (5,); NaN for x, y and diagonal without ink.
    """
    left, top, right, bottom = ink_box(gray)
    ink = np.clip(float(THRESHOLD) - gray, 0, None)
    total = max(ink.sum(), 1e-9)
    # Area of a stroke over half of its outline, along which the brightness rises and falls.
    cell = aspect * gray.shape[0] / gray.shape[1]  # width of a pixel over its height
    outline = np.hypot(np.diff(ink, axis=0, append=0) * cell, np.diff(ink, append=0)).sum()
    stroke_width = 2 * total * cell / max(outline, 1) / gray.shape[0]
    diagonal = np.hypot((right - left) * aspect, bottom - top)
    darkness = (ink**2).sum() / total / 230
    center = (left + right) / 2 * aspect, (top + bottom) / 2
    return np.array([*center, diagonal, darkness, stroke_width])


def ink_box(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return left, top, right and bottom of the ink, without 2 % of the ink at each end.

    Args:
        gray: Shape (H, W), 0 black to 255 white.

    Returns:
        Shares of width and height, 0 to 1, shape (4,); NaN without ink.
    """
    ink = THRESHOLD - np.minimum(gray, THRESHOLD)
    if ink.sum() < 255:
        return np.full(4, np.nan)
    ends = []
    for axis in (0, 1):
        total = np.cumsum([0, *ink.sum(axis=axis)])
        ends.append(np.interp((0.02, 0.98), total / total[-1], np.arange(len(total))))
    return (np.array(ends).T / gray.shape[::-1]).ravel()
