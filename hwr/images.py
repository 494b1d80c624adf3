"""Picture -> array: the named preprocessings that networks and forest share."""

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from hwr.schema import PREPROCESSINGS

SIZES = {"notebook": (30, 40)}
"""Height and width of the arrays, in pixels, by preprocessing."""

assert tuple(SIZES) == PREPROCESSINGS


def read(file: BinaryIO, preprocessing: str) -> NDArray[np.uint8]:
    """The array of a picture file.

    Raises:
        Exception: The file is no picture, or a broken one; Pillow raises many kinds.
    """
    with Image.open(file) as picture:
        return prepare(picture.convert("L"), preprocessing)


def prepare(grey: Image.Image, preprocessing: str) -> NDArray[np.uint8]:
    """The array of a picture in mode L, shape (H, W) as in `SIZES`, 0 black to 255 white.

    `notebook` is, bit for bit, `grey.resize((40, 30))`.
    """
    height, width = SIZES[preprocessing]
    if grey.width < grey.height:  # Pillow may scale the columns of a tall picture first
        return np.asarray(grey.resize((width, height)))
    box = ImageChops.invert(grey).getbbox()
    if box is None:
        return np.full((height, width), 255, np.uint8)
    # Pillow scales the rows first, then the columns, and rounds to 8 bits in between. White rows
    # stay white, so only the rows that hold ink need the first pass: a tenth of the whole time.
    _, top, _, bottom = box
    rows = grey.resize((width, bottom - top), box=(0, top, grey.width, bottom))
    sheet = Image.new("L", (width, grey.height), 255)
    sheet.paste(rows, (0, top))
    return np.asarray(sheet.resize((width, height)))


def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values from 0-255 to 0-1, the same shape."""
    return images.astype(np.float32) / np.float32(255)
