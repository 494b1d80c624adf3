"""Move and scale the ink of any gray image to where a training set has it.

Imports Pillow and NumPy only, so that a deployment needs no more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from hwr.preprocessing import images
from hwr.preprocessing.background import WORKING, clean, darkness, ink_box

CHUNK, ENOUGH = 1000, 20_000
"""Arrays that are measured at a time, and at most."""
FRAMED = 600
"""Height in pixels of an image whose ink was scaled."""
FOREIGN = 1.1
"""Ink is scaled if it is larger or smaller than the usual sizes by this factor."""
SAME = 0.02
"""Share of a side by which an image may be padded and still has the usual aspect."""
THICK, THIN = 1.1, 1.0
"""Factors of the usual stroke width from which on strokes are thinned, or thickened."""
REACH = 2
"""Pixels on each side that bicubic interpolation looks at."""
BLURRED = 2
"""Factor of the array's size: strokes of smaller images are blurred, not thin."""


@dataclass(frozen=True)
class Frame:
    """Position, size and stroke width of the ink of a training set, as shares of the height.

    Attributes:
        aspect: Width over height of the images.
        x: Median center of the ink, from the left.
        y: Median center of the ink, from the top.
        spread: 1st, 50th and 99th percentile of the ink's diagonal.
        weight: 1st and 50th percentile of the darkness of ink, 0 to 1: thin strokes are gray.
        pen: 50th and 99th percentile of the width of strokes that are wider than a pixel.
        centre: Ink of a usual size is moved to the usual position. If False, it stays where it is
            in images of the usual aspect, for models that find it themselves.
    """

    aspect: float
    x: float
    y: float
    spread: tuple[float, float, float]
    weight: tuple[float, float]
    pen: tuple[float, float]
    centre: bool = True

    @classmethod
    def of(cls, arrays: NDArray[np.uint8], aspect: float, centre: bool = True) -> "Frame | None":
        """Measure arrays (N, H, W), 0 black to 255 white; return None if there is no ink."""
        some = arrays[:: -(-len(arrays) // ENOUGH)]
        starts = range(0, len(some), CHUNK)
        found = np.concatenate([moments(some[start : start + CHUNK], aspect) for start in starts])
        usual = found[~np.isnan(found[:, 0])]
        if not len(usual):
            return None
        low, middle, high = np.quantile(usual, (0.01, 0.5, 0.99), axis=0).tolist()
        return cls(
            aspect=aspect,
            x=middle[0],
            y=middle[1],
            spread=(low[2], middle[2], high[2]),
            weight=(low[3], middle[3]),
            pen=(middle[4], high[4]),
            centre=centre,
        )

    @classmethod
    def from_plain(cls, plain: dict[str, Any] | None) -> "Frame | None":
        """Make a frame from the plain values that a checkpoint holds.

        Raises:
            ValueError, TypeError, KeyError: They are not those of a frame.
        """
        if plain is None:
            return None
        plain = {"centre": True, **plain}  # files from before it was told apart
        values = {name: np.array(plain[name], float) for name in ("aspect", "x", "y", *_LENGTHS)}
        lengths = {name: value.tolist() for name, value in values.items()}
        frame = cls(**lengths, centre=plain["centre"])
        if not isinstance(frame.centre, bool):
            raise ValueError("neither true nor false")
        if len(plain) != len(values) + 1 or not all(np.isfinite(v).all() for v in values.values()):
            raise ValueError("not the values of a frame")
        if any(values[name].shape != (length,) for name, length in _LENGTHS.items()):
            raise ValueError("not as many values as a frame has")
        if not 0.001 < frame.aspect < 1000 or max(abs(frame.x), abs(frame.y)) > 1000:
            raise ValueError("not a position in an image")
        if not 1e-4 < min(frame.spread) <= max(frame.spread) < 1000:  # images are scaled by it
            raise ValueError("not a size of ink")
        return frame


_LENGTHS = {"spread": 3, "weight": 2, "pen": 2}


def moments(array: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Measure the ink's center (x, y), diagonal, weight and stroke width, as in `Frame`.

    Args:
        array: One, shape (H, W), or many, shape (N, H, W); 0 black to 255 white.
        aspect: Width over height of the image, whatever H and W are.

    Returns:
        Shape (5,) or (N, 5); NaN without ink.
    """
    x, y, spread = place(array, aspect)
    ink = darkness(array)
    total = np.maximum(ink.sum(axis=(-2, -1)), 1e-9)
    # Area of a stroke over half of its outline, along which the brightness rises and falls.
    down, across = np.diff(ink, axis=-2, append=0), np.diff(ink, axis=-1, append=0)
    height, width = array.shape[-2:]
    cell = aspect * height / width  # width of a pixel over its height
    outline = np.hypot(down * cell, across).sum(axis=(-2, -1))
    pen = 2 * total * cell / np.maximum(outline, 1) / height
    weight = (ink**2).sum(axis=(-2, -1)) / total / 230
    return np.stack([x, y, spread, weight, pen], axis=-1)


def place(array: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Measure the ink's center (x, y) and diagonal as `moments` does, shape (3,) or (3, N)."""
    left, top, right, bottom = np.moveaxis(ink_box(array), -1, 0)
    spread = np.hypot((right - left) * aspect, bottom - top)
    return np.stack([(left + right) / 2 * aspect, (top + bottom) / 2, spread])


def fit(
    gray: Image.Image, usual: Frame, preprocessing: str, height: int, width: int
) -> NDArray[np.uint8]:
    """Make the array (height, width) of an image, with its ink as in the training set.

    The ink is moved to the usual position (preprocessing `ink` does so itself). It is scaled only
    if no size of the training set is similar, and strokes are thickened or thinned only if they are
    thinner or thicker than almost all of the training set.

    Args:
        gray: Black on white, mode L.
        usual: The training set's frame.
        preprocessing: One of `images.PREPARE`.
        height: Height of the array in pixels.
        width: Width of the array in pixels.
    """
    look: Callable[[Image.Image], NDArray[np.uint8]]
    original = gray
    if preprocessing == "ink":
        look = partial(images.window, height=height, width=width)
        found = moments(look(gray), usual.aspect)
        if found[2] > 0 and not _usual_size(found[2], usual):
            look = partial(look, zoom=found[2] / usual.spread[1])
    else:
        look = partial(images.notebook, height=height, width=width)
        gray = into_frame(gray, usual, look)
    array = look(gray)
    if min(original.height / height, original.width / width) < BLURRED:
        return array
    return _with_usual_pen(gray, array, usual, look)


def fit_many(
    arrays: NDArray[np.uint8], usual: Frame | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Apply `settle` and `fit` to many arrays at once, where they only move the ink.

    Args:
        arrays: Of the model's size, shape (N, H, W).
        usual: The training set's frame; None: ink stays where it is.

    Returns:
        The arrays, and which of them are ready, shape (N,); the others are unchanged.
    """
    height, width = arrays.shape[1:]
    whole = usual is None or _sides(width, height, usual) == (width, height)
    if min(height, width) >= 2 * WORKING or not whole:
        return arrays, np.zeros(len(arrays), np.bool_)
    ready = clean(arrays)
    if usual is None:
        return arrays, ready
    x, y, spread = place(arrays, usual.aspect)
    blank = np.isnan(x)
    ready &= blank | _usual_size(spread, usual)
    if not usual.centre:
        return arrays, ready
    moved, sides = ready & ~blank, ((usual.y - y, height), (usual.x - x, width))
    # Moved by a side, all is white.
    down, right = (
        np.where(moved, np.rint(by * height).clip(-side, side), 0).astype(int) for by, side in sides
    )
    above, before = (int(abs(by).max(initial=0)) for by in (down, right))
    sheet = np.pad(arrays, ((0, 0), (above, above), (before, before)), constant_values=255)
    windows = sliding_window_view(sheet, (height, width), (1, 2))
    return windows[np.arange(len(arrays)), above - down, before - right], ready


def _usual_size(spread: Any, usual: Frame) -> Any:
    return (usual.spread[0] / FOREIGN <= spread) & (spread <= FOREIGN * usual.spread[2])


def _sides(width: int, height: int, usual: Frame) -> tuple[int, int]:
    """Return width and height of the smallest image of the usual aspect that holds another."""
    wide = max(width, round(height * usual.aspect))
    return wide, max(height, round(wide / usual.aspect))


def into_frame(
    gray: Image.Image, usual: Frame, look: Callable[[Image.Image], NDArray[np.uint8]]
) -> Image.Image:
    """Move the ink of an image of black on white to the usual position and size."""
    wide = max(gray.width, gray.height * usual.aspect)
    if (excess := images.excess(wide, max(gray.height, wide / usual.aspect))) > 1:
        gray = gray.reduce(excess)
    wide, high = _sides(gray.width, gray.height, usual)
    left, top = (wide - gray.width) // 2, (high - gray.height) // 2
    sheet = _on_paper(gray, (wide, high), (left, top))
    found = moments(look(sheet), usual.aspect)
    if np.isnan(found[0]):
        return sheet
    x, y, spread, *_ = found
    if _usual_size(spread, usual):
        if not usual.centre and max(left / wide, top / high) < SAME:
            return sheet
        move = (round((usual.x - x) * high) + left, round((usual.y - y) * high) + top)
        return _on_paper(gray, (wide, high), move)
    return _scaled(sheet, usual.spread[1] / spread, (x * high, y * high), usual)


def _on_paper(gray: Image.Image, size: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    if gray.size == size and place == (0, 0):
        return gray
    sheet = Image.new("L", size, 255)
    sheet.paste(gray, place)
    return sheet


def _scaled(
    sheet: Image.Image, scale: float, centre: tuple[float, float], usual: Frame
) -> Image.Image:
    """Scale the ink by a factor and move its center to the usual position."""
    scale *= FRAMED / sheet.height
    size = (round(FRAMED * usual.aspect), FRAMED)
    shrink = max(1, int(1 / scale))
    if shrink > 1:
        sheet, scale = sheet.reduce(shrink), scale * shrink
        centre = (centre[0] / shrink, centre[1] / shrink)
    corner = (centre[0] - usual.x * FRAMED / scale, centre[1] - usual.y * FRAMED / scale)
    ink = ImageChops.invert(sheet).getbbox() or (0, 0, 0, 0)
    # Only where ink comes to lie, and as far as it is smoothed: elsewhere all stays white.
    spans = []
    for k, side in enumerate(size):
        first = math.floor((ink[k] - REACH - corner[k]) * scale)
        last = math.ceil((ink[k + 2] + REACH - corner[k]) * scale)
        first = min(max(0, first), side - 1)
        spans.append((first, max(min(last, side), first + 1)))
    (left, right), (top, bottom) = spans
    box = (left, top, right, bottom)
    extent = tuple(corner[k % 2] + side / scale for k, side in enumerate(box))
    part = (right - left, bottom - top)
    bicubic = Image.Resampling.BICUBIC
    whole = Image.new("L", size, 255)
    whole.paste(sheet.transform(part, Image.Transform.EXTENT, extent, bicubic, fillcolor=255), box)
    return whole


def _with_usual_pen(
    sheet: Image.Image,
    array: NDArray[np.uint8],
    usual: Frame,
    look: Callable[[Image.Image], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Thicken or thin the strokes if their width is not usual, and return the array."""
    found = moments(array, usual.aspect)
    thin = found[3] < THIN * usual.weight[0]
    if not (thin or found[4] > THICK * usual.pen[1]):
        return array

    def apart(found: NDArray[np.float64]) -> float:
        return float(abs(found[3] - usual.weight[1] if thin else found[4] - usual.pen[0]))

    change = ImageFilter.MinFilter(3) if thin else ImageFilter.MaxFilter(3)
    best, least = array, apart(found)
    if min(sheet.size) > 2 * WORKING:
        sheet = sheet.reduce(min(sheet.size) // (2 * WORKING))
    for _ in range(12):
        sheet = sheet.filter(change)
        array = look(sheet)
        found = moments(array, usual.aspect)
        if not apart(found) < least:
            break
        best, least = array, apart(found)
    return best
