"""Any picture -> black ink on white paper, in the frame of the training set.

Everything here is Pillow and NumPy, so that a deployment needs no more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from hwr.images import prepare

WHITE = 250
"""Paper that is this bright all round, of 255, is left as it is."""
FRAMED = 600
"""Height of a sheet on which ink was scaled."""
WORKING = 150
"""Paper and ink are looked for in a copy with about so many pixels on its shorter side."""


@dataclass(frozen=True)
class Frame:
    """How ink lies in the pictures of a training set; lengths are shares of the frame's height.

    Attributes:
        aspect: Width of the frame over its height.
        x: Median middle of the ink, from the left.
        y: Likewise, from the top.
        spread: 1st, 50th and 99th percentile of the ink's diagonal.
        weight: 1st and 50th percentile of how dark ink is in an array, 0 to 1: thin lines are grey.
    """

    aspect: float
    x: float
    y: float
    spread: tuple[float, float, float]
    weight: tuple[float, float]

    @classmethod
    def of(cls, images: NDArray[np.uint8], aspect: float) -> "Frame | None":
        """What is usual in arrays (N, H, W), 0 black to 255 white; None if there is no ink."""
        found = [moments(image, aspect) for image in images]
        usual = np.array([row for row in found if row is not None])
        if not len(usual):
            return None
        low, middle, high = np.quantile(usual, (0.01, 0.5, 0.99), axis=0).tolist()
        spread, weight = (low[2], middle[2], high[2]), (low[3], middle[3])
        return cls(aspect, middle[0], middle[1], spread, weight)

    @classmethod
    def from_plain(cls, plain: dict[str, Any] | None) -> "Frame | None":
        """From the plain values that a checkpoint holds."""
        if not plain:
            return None
        spread, weight = tuple(map(float, plain["spread"])), tuple(map(float, plain["weight"]))
        return cls(plain["aspect"], plain["x"], plain["y"], spread, weight)  # type: ignore[arg-type]


def moments(image: NDArray[np.uint8], aspect: float) -> tuple[float, float, float, float] | None:
    """Middle of the ink (x, y), its diagonal and its weight; None without ink.

    Args:
        image: Shape (H, W), 0 black to 255 white.
        aspect: Width of the frame over its height, whatever H and W are.
    """
    ink = np.clip(255.0 - image - 25, 0, None)
    total = ink.sum()
    if total < 255:
        return None
    down, across = ink.sum(axis=1) / total, ink.sum(axis=0) / total
    left, right = _ends(across)
    top, bottom = _ends(down)
    spread = np.hypot((right - left) * aspect, bottom - top)
    weight = float((ink**2).sum() / total / 230)
    return (left + right) / 2 * aspect, (top + bottom) / 2, float(spread), weight


def _ends(share: NDArray[np.float64]) -> tuple[float, float]:
    """Between which places, from 0 to 1, all but 2 % of the ink at each end lies."""
    total = np.concatenate([[0], np.cumsum(share)])
    place = np.linspace(0, 1, len(total))
    return float(np.interp(0.02, total, place)), float(np.interp(0.98, total, place))


def settle(grey: Image.Image) -> Image.Image:
    """Black ink on white paper from a picture in mode L of any polarity, paper and light.

    Pictures on white paper come back as they are.
    """
    shorter = min(grey.size)
    small = np.asarray(grey.reduce(max(1, shorter // WORKING)), np.float32)
    rim = max(1, min(small.shape) // 30)
    border = np.concatenate(
        [part.ravel() for part in (small[:rim], small[-rim:], small[:, :rim], small[:, -rim:])]
    )
    paper, dark, light = np.median(border), *np.quantile(small, (0.005, 0.995))
    if light - paper > paper - dark:
        grey, small, border = ImageChops.invert(grey), 255 - small, 255 - border
    if np.quantile(border, 0.1) >= WHITE and (small.min() < 128 or shorter < WORKING):
        return grey
    if shorter > 8 * WORKING:
        grey = grey.reduce(shorter // (4 * WORKING))
    level = _paper(small)
    share = small / np.maximum(level, 1)
    ink = float(np.quantile(share, 0.005))
    if ink > 0.9:  # nothing but paper
        return Image.new("L", grey.size, 255)
    ink = float(np.median(share[share < (1 + ink) / 2]))
    wide = np.asarray(Image.fromarray(level).resize(grey.size, Image.Resampling.BILINEAR))
    share = np.asarray(grey, np.float32) / np.maximum(wide, 1)
    # What is nearly as bright as the paper about it is paper: grain, noise, the end of a shadow.
    found = np.clip((share - ink) / (0.93 - min(ink, 0.8)), 0, 1)
    return Image.fromarray((255 * found).astype(np.uint8))


def _paper(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The brightness of the paper under the ink: a surface of second order through the paper."""
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, min(grey.shape) // 40)
    points, values = terms[::step, ::step].reshape(-1, 6), grey[::step, ::step].ravel()
    kept = values > (np.quantile(values, 0.005) + np.median(values)) / 2
    weights = np.array([np.median(values), 0, 0, 0, 0, 0], np.float32)
    for _ in range(8):
        if kept.sum() < 12:
            break
        weights = np.linalg.lstsq(points[kept], values[kept], rcond=None)[0]
        apart = np.abs(values - points @ weights)
        kept = apart < max(6.0, 2.5 * float(np.median(apart[kept])))
    return np.clip(terms @ weights, 1, 255)


def into_frame(grey: Image.Image, usual: Frame, height: int, width: int) -> Image.Image:
    """A picture of black on white as the training set would have it.

    Its ink is moved to the usual place. It is scaled only where its size is foreign to the
    training set, and thickened only where its lines are thinner than any there.

    Args:
        grey: Mode L.
        usual: The training set's frame.
        height: Of the arrays that the model takes, in pixels.
        width: Likewise.
    """
    wide = max(grey.width, round(grey.height * usual.aspect))
    high = max(grey.height, round(wide / usual.aspect))
    left, top = (wide - grey.width) // 2, (high - grey.height) // 2
    sheet = _on_paper(grey, (wide, high), (left, top))
    found = moments(prepare(sheet, height, width), usual.aspect)
    if found is None:
        return sheet
    x, y, spread, _ = found
    if 0.9 * usual.spread[0] <= spread <= 1.1 * usual.spread[2]:
        move = (round((usual.x - x) * high) + left, round((usual.y - y) * high) + top)
        sheet = _on_paper(grey, (wide, high), move)
    else:
        sheet = _scaled(sheet, usual.spread[1] / spread, (x * high, y * high), usual)
    return _thickened(sheet, usual, height, width)


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
    left = centre[0] - usual.x * FRAMED / scale
    top = centre[1] - usual.y * FRAMED / scale
    box = (left, top, left + size[0] / scale, top + size[1] / scale)
    extent, bicubic = Image.Transform.EXTENT, Image.Resampling.BICUBIC
    return sheet.transform(size, extent, box, bicubic, fillcolor=255)


def _thickened(sheet: Image.Image, usual: Frame, height: int, width: int) -> Image.Image:
    """The sheet with thicker lines, if they are thinner than any in the training set."""
    low, middle = usual.weight
    found = moments(prepare(sheet, height, width), usual.aspect)
    if found is None or found[3] >= low:
        return sheet
    best, apart = sheet, middle - found[3]
    if sheet.height > 2 * WORKING:
        sheet = sheet.reduce(sheet.height // (2 * WORKING))
    for _ in range(12):
        sheet = sheet.filter(ImageFilter.MinFilter(3))
        found = moments(prepare(sheet, height, width), usual.aspect)
        if found is None or abs(middle - found[3]) >= apart:
            break
        best, apart = sheet, abs(middle - found[3])
    return best
