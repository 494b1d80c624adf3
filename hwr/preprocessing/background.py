"""Normalize polarity and background of gray images. Imports Pillow and NumPy only."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

WHITE = 250
"""A background that is this bright on all sides, of 255, is left as it is."""
BLACK = 15
"""Ink that is this dark somewhere, of 255, is left as it is."""
SMALL = 48
"""Ink of images with fewer pixels on their shorter side may be gray because it is blurred."""
MEASURED = 150
"""Background and ink are measured in a copy with about so many pixels on its shorter side."""
PIXELS = 2**20
"""Images of more than four times as many pixels are reduced to normalize them."""


def normalize_background(gray: Image.Image) -> Image.Image:
    """Turn an image of any polarity, background and light into black on white.

    Args:
        gray: Mode L. Black on white is returned unchanged.

    Returns:
        Mode L, maybe reduced.
    """
    shorter = min(gray.size)
    shrink = max(1, shorter // MEASURED)
    small = np.asarray(gray.reduce(shrink), np.float32)
    dark, median, light = np.quantile(small, (0.005, 0.5, 0.995))
    if median - dark >= 40:
        gray, small = _without_dark_border(gray, small, (dark + median) / 2)
    low, background, high = border_levels(small)
    if light - background > background - dark:
        gray, small, low = ImageChops.invert(gray), 255 - small, 255 - high
    if low >= WHITE and (small.min() <= BLACK or shorter < SMALL):
        return gray
    gray = gray.reduce(max(1, int(math.sqrt(gray.width * gray.height / PIXELS))))
    level = _background_level(small)
    share = small / np.maximum(level, 1)
    ink = float(np.quantile(share, 0.005))
    if ink > 0.9:  # nothing but background
        return Image.new("L", gray.size, 255)
    ink = float(np.median(share[share < (1 + ink) / 2]))
    level = np.asarray(Image.fromarray(level).resize(gray.size, Image.Resampling.BILINEAR))
    share = np.asarray(gray, np.float32) / np.maximum(level, 1)
    # Pixels nearly as bright as the background are background: grain, noise, edges of shadows.
    normalized = np.clip((share - ink) / (0.93 - min(ink, 0.8)), 0, 1)
    return Image.fromarray((255 * normalized).astype(np.uint8))


def border_levels(gray: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 10th, 50th and 90th percentile of the brightness along the border."""
    rim = max(1, min(gray.shape) // 30)
    sides = gray[:rim], gray[-rim:], gray[:, :rim], gray[:, -rim:]
    border = np.concatenate([side.ravel() for side in sides])
    return np.asarray(np.quantile(border, (0.1, 0.5, 0.9)))


def _without_dark_border(
    gray: Image.Image, small: NDArray[np.float32], threshold: float
) -> tuple[Image.Image, NDArray[np.float32]]:
    """Crop a dark border around a light background, such as of a scan, from both images."""
    is_dark = small < threshold
    widths = []
    for lines in (is_dark, is_dark[::-1], is_dark.T, is_dark.T[::-1]):  # top, bottom, left, right
        solid = lines[: len(lines) // 6].mean(axis=1) > 0.8
        widths.append(solid.size - int(solid[::-1].argmax()) + 1 if solid.any() else 0)
    if not all(widths):  # ink may well lie along one side
        return gray, small
    top, bottom, left, right = widths
    height, width = small.shape
    box = (left, top, width - right, height - bottom)
    shrink = math.ceil(gray.width / width)
    return gray.crop(tuple(shrink * side for side in box)), small[top:-bottom, left:-right]


def _background_level(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the background's brightness under the ink by a surface of second order."""
    height, width = gray.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, min(gray.shape) // 40)
    points, values = terms[::step, ::step].reshape(-1, 6), gray[::step, ::step].ravel()
    kept = values > (np.quantile(values, 0.005) + np.median(values)) / 2
    weights = np.array([np.median(values), 0, 0, 0, 0, 0], np.float32)
    for _ in range(8):
        if kept.sum() < 12:
            break
        weights = np.linalg.lstsq(points[kept], values[kept], rcond=None)[0]
        residual = np.abs(values - points @ weights)
        kept = residual < max(6.0, 2.5 * float(np.median(residual[kept])))
    return np.clip(terms @ weights, 1, 255)
