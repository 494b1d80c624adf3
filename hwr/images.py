"""Picture -> array: the named preprocessings that networks and forest share."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

# Of pictures between 89 and 179 million pixels Pillow only warns; nobody's memory should tell.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def read(file: BinaryIO, height: int, width: int, max_pixels: int) -> NDArray[np.uint8]:
    """The array (height, width) of a picture file, 0 black to 255 white.

    Raises:
        Exception: The file is no picture, a broken one, one of several frames, or has more than
            `max_pixels`; Pillow raises many kinds.
    """
    with open_limited(file, max_pixels) as picture:
        return prepare(grey(picture), height, width)


def open_limited(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    """Open a picture, of which nothing is decoded yet.

    Raises:
        Exception: As for `read`.
    """
    try:
        picture = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("more pixels than allowed (data.max_pixels)") from error
    if picture.width * picture.height > max_pixels:
        size = f"{picture.width} x {picture.height}"
        picture.close()
        raise ValueError(f"{size} pixels are more than allowed (data.max_pixels)")
    return picture


def why(error: Exception) -> str:
    """In a few words, why a picture could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return "it has no picture's format"
    return (str(error) or type(error).__name__).splitlines()[0]


def grey(picture: Image.Image) -> Image.Image:
    """Any picture in mode L, upright, what is transparent taken for white paper.

    Raises:
        ValueError: It is animated, or its pixels are no 8- or 16-bit numbers.
    """
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # a phone's photo
        raise ValueError("it has several frames")
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), colours)
    if picture.mode.startswith("I"):  # Pillow would clip 16 bits to 8
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits")
        return Image.fromarray((values // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    return picture.convert("L")


def aspect(path: Path) -> float:
    """Width over height of a picture file, as it is to be looked at; nothing is decoded."""
    with Image.open(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(0x0112, 1) >= 5
    return height / width if turned else width / height


def prepare(grey: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """The array (height, width) of a picture in mode L, 0 black to 255 white.

    It is, bit for bit, the notebook's `grey.resize((width, height))`.
    """
    if 3 * grey.width < 4 * grey.height or grey.width < width:  # columns may come first
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
