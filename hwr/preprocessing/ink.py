"""Measure position, size and stroke width of ink in gray arrays."""

import numpy as np
from numpy.typing import NDArray

THRESHOLD = np.uint8(230)
"""Darker pixels hold ink."""


def measure_ink(gray: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Measure x and y of the ink's center, its diagonal, darkness and stroke width.

    Args:
        gray: Shape (H, W), 0 black to 255 white.
        aspect: Width over height of the image, whatever H and W are.

    Returns:
        Shape (5,), in shares of the height but the darkness, which is from 0 to 1; NaN for x, y and
        diagonal without ink.
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
