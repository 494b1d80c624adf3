"""Normalize polarity and background of gray images, and locate the ink.

Imports Pillow and NumPy only, so that a deployment needs no more.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

WHITE = 250
"""A background that is this bright on all sides, of 255, is left as it is."""
BLACK = 15
"""Ink that is this dark somewhere, of 255, is left as it is."""
INK = np.uint8(230)
"""Darker pixels hold ink."""
SMALL = 48
"""Ink of images with fewer pixels on their shorter side may be gray because it is blurred."""
WORKING = 150
"""Background and ink are measured in a copy with about so many pixels on its shorter side."""
MOST = 2**24
"""Pixels of an image that is normalized, at twenty bytes each; larger ones are reduced."""


def ink_box(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return left, top, right and bottom of the ink, without 2 % of the ink at each end.

    Args:
        gray: One image, shape (H, W), or many, shape (N, H, W); 0 black to 255 white.

    Returns:
        Shares of width and height, 0 to 1, shape (4,) or (N, 4); NaN without ink.
    """
    # Integers: their sums are the same in any order, and fast.
    ink = INK - np.minimum(gray, INK)
    columns, lines = (ink.sum(axis=axis, dtype=np.uint32).astype(float) for axis in (-2, -1))
    (left, right), (top, bottom) = _ends(columns), _ends(lines)
    box = np.stack([left, top, right, bottom], axis=-1)
    box[lines.sum(axis=-1) < 255] = np.nan
    return box


def darkness(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the ink in each pixel, from 0; light gray is none."""
    return np.clip(float(INK) - gray, 0, None)


def _ends(ink: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return both ends of the ink along the last axis, 0 to 1, without 2 % of the ink each."""
    whole = np.maximum(ink.sum(axis=-1, keepdims=True), 1e-9)
    total = np.concatenate([np.zeros_like(whole), np.cumsum(ink, axis=-1) / whole], axis=-1)
    ends = []
    for share in (0.02, 0.98):
        after = np.maximum((total >= share).argmax(axis=-1), 1)[..., None]
        low, high = (np.take_along_axis(total, after - k, axis=-1) for k in (1, 0))
        part = (share - low) / np.maximum(high - low, 1e-9)
        ends.append(((after - 1 + part) / ink.shape[-1])[..., 0])
    return ends


def settle(gray: Image.Image) -> Image.Image:
    """Make an image in mode L of any polarity, background and light black on white.

    Images of black on white are returned unchanged.
    """
    shorter = min(gray.size)
    shrink = max(1, shorter // WORKING)
    small = np.asarray(gray.reduce(shrink), np.float32)
    dark, middle, light = np.quantile(small, (0.005, 0.5, 0.995))
    gray, small = _without_frame(gray, small, shrink, dark, middle)
    rim = max(1, min(small.shape) // 30)
    border = np.concatenate(
        [part.ravel() for part in (small[:rim], small[-rim:], small[:, :rim], small[:, -rim:])]
    )
    low, paper, high = np.quantile(border, (0.1, 0.5, 0.9))
    if light - paper > paper - dark:
        gray, small, low = ImageChops.invert(gray), 255 - small, 255 - high
    if low >= WHITE and (small.min() <= BLACK or shorter < SMALL):
        return gray
    if shorter > 8 * WORKING:
        gray = gray.reduce(shorter // (4 * WORKING))
    if (pixels := gray.width * gray.height) > MOST:  # far longer than wide
        gray = gray.reduce(math.ceil(math.sqrt(pixels / MOST)))
    level = _paper(small)
    share = small / np.maximum(level, 1)
    ink = float(np.quantile(share, 0.005))
    if ink > 0.9:  # nothing but background
        return Image.new("L", gray.size, 255)
    ink = float(np.median(share[share < (1 + ink) / 2]))
    wide = np.asarray(Image.fromarray(level).resize(gray.size, Image.Resampling.BILINEAR))
    share = np.asarray(gray, np.float32) / np.maximum(wide, 1)
    # Pixels nearly as bright as the background are background: grain, noise, edges of shadows.
    found = np.clip((share - ink) / (0.93 - min(ink, 0.8)), 0, 1)
    return Image.fromarray((255 * found).astype(np.uint8))


def clean(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the images, of many small ones, that `settle` certainly leaves unchanged; fast.

    Args:
        gray: Shape (N, H, W), the shorter side of less than 300 pixels.

    Returns:
        Shape (N,); `settle` may leave others unchanged, too.
    """
    height, width = gray.shape[1:]
    rim = max(1, min(height, width) // 30)
    sides = gray[:, :rim], gray[:, -rim:], gray[..., :rim], gray[..., -rim:]
    border = np.concatenate([side.reshape(len(gray), -1) for side in sides], axis=1)
    last = border.shape[1] - 1
    white = (border < WHITE).sum(1) <= int(0.1 * last)  # its tenth percentile is
    median_white = (border < 255).sum(1) <= last // 2  # nothing is brighter, so it isn't inverted
    # A frame has lines along all sides of which four fifths are darker than this.
    unframed = 5 * (gray[:, : height // 6] < 235).sum(2).max(1, initial=0) <= 4 * width
    dark = min(height, width) < SMALL or gray.min((1, 2)) <= BLACK
    found: NDArray[np.bool_] = white & median_white & unframed & dark
    return found


def _without_frame(
    gray: Image.Image, small: NDArray[np.float32], shrink: int, dark: float, paper: float
) -> tuple[Image.Image, NDArray[np.float32]]:
    """Remove a dark frame around a light background, such as of a scan, from both images."""
    if paper - dark < 40:
        return gray, small
    solid = small < (dark + paper) / 2
    found = []
    for lines in (solid, solid[::-1], solid.T, solid.T[::-1]):  # top, bottom, left, right
        edge = lines[: len(lines) // 6].mean(axis=1) > 0.8
        found.append(edge.size - int(edge[::-1].argmax()) + 1 if edge.any() else 0)
    if not all(found):  # ink may well lie along one side
        return gray, small
    top, bottom, left, right = found
    height, width = small.shape
    inside = np.full_like(small, paper)
    inside[top : height - bottom, left : width - right] = small[top:-bottom, left:-right]
    box = (left * shrink, top * shrink, (width - right) * shrink, (height - bottom) * shrink)
    sheet = Image.new("L", gray.size, int(paper))
    sheet.paste(gray.crop(box), box[:2])
    return sheet, inside


def _paper(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the brightness of the background under the ink, by a surface of second order."""
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
        apart = np.abs(values - points @ weights)
        kept = apart < max(6.0, 2.5 * float(np.median(apart[kept])))
    return np.clip(terms @ weights, 1, 255)
