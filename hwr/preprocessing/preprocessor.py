"""Turn images into the arrays that a model takes, the same for training and inference."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from hwr.errors import DataError
from hwr.preprocessing.background import MEASURED, normalize_background
from hwr.preprocessing.ink import ink_box, measure_ink
from hwr.preprocessing.statistics import ImageStatistics

NAMES = ("notebook", "ink")
"""Values of `data.preprocessing`."""
WINDOW = 16 / 15
"""Side of the `ink` window over the image's shorter side: 960 pixels of 900."""
MAX_CROP = 2**26
"""Pixels of a crop before it is resized; it may reach far beyond the image."""
FOREIGN = 1.1
"""Ink is scaled if it is larger or smaller than the usual sizes by this factor."""
PADDED = 0.02
"""Share of a side by which an image may be padded and still has the usual aspect."""
THICK, THIN = 1.1, 1.0
"""Factors of the usual stroke width from which on strokes are thinned, or thickened."""
BLURRED = 2
"""Factor of the array's size: strokes of smaller images are blurred, not thin."""
Normalize = Literal["auto", "as_is"]
Box = tuple[float, float, float, float]
"""Left, top, width and height of a part of an image, in pixels; it may reach beyond the image."""


@dataclass(frozen=True)
class Preprocessor:
    """Turn images into arrays from 0 (black) to 255 (white).

    Attributes:
        name: `notebook` resizes the image, bit for bit as the notebook's
            `image.resize((width, height))`. `ink` normalizes the background, and centers the ink
            in a window whose size depends on the image's size alone, so that large ink stays
            larger than small ink; only ink that it can't hold makes the window larger.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1 for arrays (H, W), 3 for color, arrays (3, H, W).
        statistics: What the training images look like; None if that is not known.

    Raises:
        DataError: There is no such preprocessing, or it is for gray images only.
    """

    name: str
    height: int
    width: int
    channels: int = 1
    statistics: ImageStatistics | None = None

    @classmethod
    def of(cls, name: str, height: int, width: int, channels: int, statistics: Any) -> Self:
        """Make a preprocessor with statistics as plain values, or None."""
        return cls(name, height, width, channels, statistics and ImageStatistics(**statistics))

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise DataError(f"preprocessing={self.name} must be one of {', '.join(NAMES)}")
        if self.name == "ink" and self.channels != 1:
            raise DataError(
                f"preprocessing=ink is for gray images; use channels=1, not {self.channels}"
            )

    def __call__(self, image: Image.Image, normalize: Normalize = "as_is") -> NDArray[np.uint8]:
        """Make the array of an image.

        Args:
            image: Mode L, or RGB for color.
            normalize: `as_is` prepares the image as training does. So does `auto` if the image
                looks like the training images, or these are not known; otherwise it normalizes the
                background, moves and scales the ink to where the training images have it, and
                gives it their brightness.

        Returns:
            Shape (height, width), in color (3, height, width).

        Raises:
            DataError: There is no such `normalize`.
        """
        if normalize not in ("auto", "as_is"):
            raise DataError(f"normalize={normalize!r} must be 'auto' or 'as_is'")
        if self.channels == 3:
            resized = np.asarray(image.resize((self.width, self.height)))
            return np.ascontiguousarray(resized.transpose(2, 0, 1))
        size, usual = image.size, self.statistics
        if self.name == "ink":
            image = normalize_background(image)
        array = self._prepare(image)
        if normalize == "as_is" or usual is None or usual.covers(array, size):
            return array
        if self.name != "ink":
            image = normalize_background(image)
        return usual.with_levels(self._like_training(image, usual))

    def _prepare(self, gray: Image.Image) -> NDArray[np.uint8]:
        """Make the array as training does, of an image that is normalized if it has to be."""
        whole = (0.0, 0.0, *gray.size)
        return self._crop(gray, self._window(gray) if self.name == "ink" else whole)

    def _crop(self, gray: Image.Image, box: Box | None) -> NDArray[np.uint8]:
        """Make the array of a part of an image; what lies beyond it is white."""
        size = (self.width, self.height)
        if box is None:
            return np.full((self.height, self.width), 255, np.uint8)
        if box == (0, 0, *gray.size):
            return np.asarray(gray.resize(size))
        reduction = max(1, math.ceil(math.sqrt(box[2] * box[3] / MAX_CROP)))
        left, top, width, height = (length / reduction for length in box)
        # Pillow crops whole pixels, and what lies outside is 0; so the crop is done on a negative.
        x, y = math.floor(left), math.floor(top)
        negative = ImageChops.invert(gray.reduce(reduction))
        negative = negative.crop((x, y, math.ceil(left + width), math.ceil(top + height)))
        inner = (left - x, top - y, left - x + width, top - y + height)
        return 255 - np.asarray(negative.resize(size, box=inner))

    def _window(self, gray: Image.Image) -> Box | None:
        """Return the window of `ink`, in whose center the ink lies; None without ink."""
        shrink = max(1, min(gray.size) // MEASURED)
        small = np.asarray(gray.reduce(shrink))
        left, top, right, bottom = ink_box(small) * (shrink * np.tile(small.shape[::-1], 2))
        if np.isnan(left):
            return None
        high = WINDOW * min(gray.height, gray.width * self.height / self.width)
        high = max(high, 1.1 * (bottom - top), 1.1 * (right - left) * self.height / self.width)
        wide = high * self.width / self.height
        return (left + right - wide) / 2, (top + bottom - high) / 2, wide, high

    def _like_training(self, gray: Image.Image, usual: ImageStatistics) -> NDArray[np.uint8]:
        """Make the array of black on white, with its ink as in the training images.

        Ink is scaled only if no size of the training images is similar, and strokes are thickened
        or thinned only if they are thinner or thicker than almost all of the training images.
        """
        high = max(gray.height, gray.width / usual.aspect)
        wide = high * usual.aspect
        box: Box | None = (gray.width - wide) / 2, (gray.height - high) / 2, wide, high
        stays = not usual.recenter and max(1 - gray.width / wide, 1 - gray.height / high) < PADDED
        if self.name == "ink":
            box, stays = self._window(gray), True
        array = self._crop(gray, box)
        x, y, diagonal, _, _ = measure_ink(array, usual.aspect)
        if box is None or np.isnan(x):
            return array
        smallest, median, largest = usual.diagonal
        zoom = 1.0
        if not smallest / FOREIGN <= diagonal <= FOREIGN * largest:
            zoom = diagonal / median
        if zoom != 1 or not stays:
            left, top, wide, high = box
            left, top = left + high * (x - zoom * usual.x), top + high * (y - zoom * usual.y)
            box = (left, top, zoom * wide, zoom * high)
            array = self._crop(gray, box)
        if box[3] < BLURRED * self.height:
            return array
        return self._with_usual_strokes(gray, box, array, usual)

    def _with_usual_strokes(
        self, gray: Image.Image, box: Box, array: NDArray[np.uint8], usual: ImageStatistics
    ) -> NDArray[np.uint8]:
        """Thicken or thin the strokes in the array of a box, if their width is not usual."""
        ink = measure_ink(array, usual.aspect)
        if ink[3] < THIN * usual.darkness[0]:
            rank, measure, target = 0, 3, usual.darkness[1]
        elif ink[4] > THICK * usual.stroke_width[1]:
            rank, measure, target = 8, 4, usual.stroke_width[0]
        else:
            return array
        least = abs(ink[measure] - target)
        size = (self.width, self.height)
        large = replace(self, height=2 * MEASURED, width=round(2 * MEASURED * usual.aspect))
        image = Image.fromarray(large._crop(gray, box))
        for _ in range(12):
            image = image.filter(ImageFilter.RankFilter(3, rank))  # darkest or lightest of 9
            changed = np.asarray(image.resize(size))
            distance = abs(measure_ink(changed, usual.aspect)[measure] - target)
            if distance >= least:
                break
            array, least = changed, distance
        return array
