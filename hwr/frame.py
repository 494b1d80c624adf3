"""How ink lies in a training set, and any picture put the same way.

Everything here is Pillow and NumPy, so that a deployment needs no more.
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

from hwr import images
from hwr.paper import WORKING, clean, darkness, ink_box

CHUNK, ENOUGH = 1000, 20_000
"""Arrays that are measured at a time, and at most."""
FRAMED = 600
"""Height of a sheet on which ink was scaled."""
FOREIGN = 1.1
"""So many times larger than the usual sizes, or smaller, ink is scaled."""
SAME = 0.02
"""Share of a side by which a picture may be padded and still have the usual aspect."""
THICK, THIN = 1.1, 1.0
"""Times the usual: from here on lines are thinned, or thickened."""
REACH = 2
"""Pixels on each side that bicubic interpolation looks at."""
BLURRED = 2
"""Times the array's size: lines of smaller pictures are blurred, not thin."""


@dataclass(frozen=True)
class Frame:
    """How ink lies in the arrays of a training set; lengths are shares of their height.

    Attributes:
        aspect: Width over height of what an array shows.
        x: Median middle of the ink, from the left.
        y: Likewise, from the top.
        spread: 1st, 50th and 99th percentile of the ink's diagonal.
        weight: 1st and 50th percentile of how dark ink is in an array, 0 to 1: thin lines are grey.
        pen: 50th and 99th percentile of the width of lines that are wider than a pixel.
        centre: Ink of a usual size is moved to the usual place. If not, it stays where it is in
            pictures of the usual aspect: for networks that find it themselves.
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
        """What is usual in arrays (N, H, W), 0 black to 255 white; None if there is no ink."""
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
        """From the plain values that a checkpoint holds.

        Raises:
            ValueError, TypeError, KeyError: They are no frame's.
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
            raise ValueError("no place in a picture")
        if not 1e-4 < min(frame.spread) <= max(frame.spread) < 1000:  # pictures are scaled by it
            raise ValueError("no size of ink")
        return frame


_LENGTHS = {"spread": 3, "weight": 2, "pen": 2}


def moments(array: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Middle of the ink (x, y), its diagonal, its weight, its pen's width.

    Args:
        array: One, shape (H, W), or many, shape (N, H, W); 0 black to 255 white.
        aspect: Width over height of what one shows, whatever H and W are.

    Returns:
        Shape (5,) or (N, 5); NaN without ink.
    """
    x, y, spread = place(array, aspect)
    ink = darkness(array)
    total = np.maximum(ink.sum(axis=(-2, -1)), 1e-9)
    # The area of a line over half of its outline, along which the brightness rises and falls.
    down, across = np.diff(ink, axis=-2, append=0), np.diff(ink, axis=-1, append=0)
    height, width = array.shape[-2:]
    cell = aspect * height / width  # width of a pixel over its height
    outline = np.hypot(down * cell, across).sum(axis=(-2, -1))
    pen = 2 * total * cell / np.maximum(outline, 1) / height
    weight = (ink**2).sum(axis=(-2, -1)) / total / 230
    return np.stack([x, y, spread, weight, pen], axis=-1)


def place(array: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Middle of the ink (x, y) and its diagonal, as `moments`, shape (3,) or (3, N)."""
    left, top, right, bottom = np.moveaxis(ink_box(array), -1, 0)
    spread = np.hypot((right - left) * aspect, bottom - top)
    return np.stack([(left + right) / 2 * aspect, (top + bottom) / 2, spread])


def fit(
    grey: Image.Image, usual: Frame, preprocessing: str, height: int, width: int
) -> NDArray[np.uint8]:
    """The array (height, width) of a picture, its ink put as the training set would have it.

    It is moved to the usual place (`ink` does so itself). It is scaled only where its size is
    foreign to the training set, and its lines are thickened or thinned only where they are thinner
    or thicker than almost any there.

    Args:
        grey: Black on white, mode L.
        usual: The training set's frame.
        preprocessing: One of `images.PREPARE`.
        height: Of the array, in pixels.
        width: Likewise.
    """
    look: Callable[[Image.Image], NDArray[np.uint8]]
    original = grey
    if preprocessing == "ink":
        look = partial(images.window, height=height, width=width)
        found = moments(look(grey), usual.aspect)
        if found[2] > 0 and not _usual_size(found[2], usual):
            look = partial(look, zoom=found[2] / usual.spread[1])
    else:
        look = partial(images.notebook, height=height, width=width)
        grey = into_frame(grey, usual, look)
    array = look(grey)
    if min(original.height / height, original.width / width) < BLURRED:
        return array
    return _with_usual_pen(grey, array, usual, look)


def fit_many(
    arrays: NDArray[np.uint8], usual: Frame | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What `settle` and `fit` make of arrays of the usual size, where little is to do.

    Args:
        arrays: As the network takes them, shape (N, H, W).
        usual: The training set's frame; None: ink stays where it is.

    Returns:
        The arrays, and which of them are ready, shape (N,): the others are still as they came.
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
    """Of the least sheet of the usual aspect that holds a picture."""
    wide = max(width, round(height * usual.aspect))
    return wide, max(height, round(wide / usual.aspect))


def into_frame(
    grey: Image.Image, usual: Frame, look: Callable[[Image.Image], NDArray[np.uint8]]
) -> Image.Image:
    """A picture of black on white, its ink in the usual place and of a usual size."""
    wide = max(grey.width, grey.height * usual.aspect)
    if (excess := images.excess(wide, max(grey.height, wide / usual.aspect))) > 1:
        grey = grey.reduce(excess)
    wide, high = _sides(grey.width, grey.height, usual)
    left, top = (wide - grey.width) // 2, (high - grey.height) // 2
    sheet = _on_paper(grey, (wide, high), (left, top))
    found = moments(look(sheet), usual.aspect)
    if np.isnan(found[0]):
        return sheet
    x, y, spread, *_ = found
    if _usual_size(spread, usual):
        if not usual.centre and max(left / wide, top / high) < SAME:
            return sheet
        move = (round((usual.x - x) * high) + left, round((usual.y - y) * high) + top)
        return _on_paper(grey, (wide, high), move)
    return _scaled(sheet, usual.spread[1] / spread, (x * high, y * high), usual)


def _on_paper(grey: Image.Image, size: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    if grey.size == size and place == (0, 0):
        return grey
    sheet = Image.new("L", size, 255)
    sheet.paste(grey, place)
    return sheet


def _scaled(
    sheet: Image.Image, scale: float, centre: tuple[float, float], usual: Frame
) -> Image.Image:
    """The sheet with its ink larger by a factor, its middle in the usual place."""
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
    """The array, or that of thicker or thinner lines where they are not as any usual ones."""
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
