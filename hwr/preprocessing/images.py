"""Read image files into arrays: the preprocessings that training and inference share.

Gray arrays have shape (H, W), color ones (3, H, W); 0 is black, 255 white.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from hwr.errors import DataError
from hwr.preprocessing.background import WORKING, ink_box, settle

LARGE = 2**24
"""Images of more pixels are decoded one at a time, or two threads would need twice the memory."""
HEAVY = ("AVIF", "JPEG2000", "WEBP")
"""Decoding these takes 12 to 25 bytes a pixel, others 4 to 12: half as many pixels are allowed."""
WINDOW = 16 / 15
"""Side of the `ink` window over the image's shorter side: 960 pixels of 900."""
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA", "PCX"]
FORMATS += ["AVIF"] if find_spec("PIL.AvifImagePlugin") else []  # since Pillow 11.3
"""Formats that are read. Others can hold programs, which Pillow would let Ghostscript run."""
SHEET = 2**30 // 12
"""Pixels of a padded image, as many as Pillow allows; larger images are reduced first."""
STRIP = 2**22
"""Pixels that are converted at a time."""

_one_large = RLock()


def read(
    file: BinaryIO, preprocessing: str, height: int, width: int, max_pixels: int, channels: int = 1
) -> NDArray[np.uint8]:
    """Read an image file into an array, as `prepare` makes it.

    Raises:
        Exception: The file isn't an image, is broken, has several frames, or more than
            `max_pixels`; Pillow raises many kinds.
    """
    with open_limited(file, max_pixels) as image, turn(image):
        return prepare(convert(image, channels), preprocessing, height, width)


def prepare(image: Image.Image, preprocessing: str, height: int, width: int) -> NDArray[np.uint8]:
    """Make the array of an image: (height, width) in mode L, (3, height, width) in mode RGB.

    Raises:
        DataError: The preprocessing is for gray images only.
    """
    if image.mode != "RGB":
        return PREPARE[preprocessing](image, height, width)
    if preprocessing != "notebook":
        raise DataError(f"preprocessing={preprocessing} is for gray images; use channels=1")
    resized = np.asarray(image.resize((width, height)))
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


@contextmanager
def turn(image: Image.Image) -> Iterator[None]:
    """Wait, if the image is large, until no other large one is decoded and prepared."""
    with _one_large if image.width * image.height > LARGE else nullcontext():
        yield


def open_limited(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    """Open an image, and decode nothing yet.

    Args:
        file: Its path, or the file, which must be seekable.
        max_pixels: How many it may have.

    Raises:
        Exception: As for `read`.
    """
    image = _opened(file, max_pixels)
    if image.format != "PNG":
        return image
    image.verify()  # decoding doesn't check the checksums
    return _opened(file, max_pixels)


def _opened(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge("more pixels than allowed") from error
    heavy = image.format in HEAVY
    if image.width * image.height > (max_pixels // 2 if heavy else max_pixels):
        what = f" in a {image.format}" if heavy else ""
        size = f"{image.width} x {image.height}"
        image.close()
        raise TooLarge(f"{size} pixels are more than allowed{what}")
    return image


@cache
def suffixes() -> frozenset[str]:
    """Return how names of image files end, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in [*FORMATS, "MPO"])


class TooLarge(ValueError):
    """An image has more pixels than allowed."""


def why(error: Exception) -> str:
    """Say in a few words why an image of a dataset could not be read."""
    if isinstance(error, TooLarge):
        return f"{error} (data.max_pixels)"
    if isinstance(error, UnidentifiedImageError):
        return "its format is not one of images"
    return (str(error) or type(error).__name__).splitlines()[0]


def convert(image: Image.Image, channels: int = 1) -> Image.Image:
    """Convert any image to mode L (one channel) or RGB (three), upright, transparent on white.

    Raises:
        ValueError: It is animated, or its pixels aren't 8- or 16-bit numbers.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a phone's photo
        raise ValueError("it has several frames")
    mode = "L" if channels == 1 else "RGB"
    image.load()  # which turns a TIFF
    orientation = image.getexif().get(0x0112, 1)
    if image.has_transparency_data:
        result = in_strips(image, lambda part: _on_white(part, mode), mode)
        if np.min(result.getextrema()) > 250:  # white on nothing
            alpha = in_strips(image, lambda part: ImageChops.invert(_alpha(part).getchannel("A")))
            result = alpha.convert(mode)
    elif image.mode.startswith("I"):  # Pillow would clip 16 bits to 8
        low, high = extrema(image)
        if low < 0 or high > 65535:
            raise ValueError("its pixels have more than 16 bits")
        # Values below 256 are an image of 8 bits in a wider mode.
        factor = 257 if high > 255 else 1
        gray = in_strips(
            image, lambda part: Image.fromarray((np.asarray(part) // factor).astype(np.uint8))
        )
        result = gray.convert(mode)
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    else:
        result = in_strips(image, lambda part: part.convert(mode), mode)
    if orientation == 1:
        return result
    result.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(result)  # smaller than the image, which may have four channels


def _alpha(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        return image
    return image.convert("LA" if image.mode == "La" else "RGBA")


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    image, result = _alpha(image), Image.new(mode, image.size, "white")
    result.paste(image.convert(mode), mask=image.getchannel("A"))
    return result


def in_strips(
    image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str = "L"
) -> Image.Image:
    """Change an image strip by strip into one of the given mode, without copies of its size."""
    if image.width * image.height <= STRIP:
        return change(image)
    result = Image.new(mode, image.size)
    for top, strip in _strips(image):
        result.paste(change(strip), (0, top))
    return result


def extrema(image: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest value of an image of one channel."""
    arrays = (np.asarray(strip) for _, strip in _strips(image))
    low, high = zip(*((float(values.min()), float(values.max())) for values in arrays), strict=True)
    return min(low), max(high)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield top, image.crop(box)


def aspect(path: Path) -> float:
    """Return width over height of an upright image file; nothing is decoded."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5
    return height / width if turned else width / height


def notebook(gray: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize a gray image, bit for bit as the notebook's `image.resize((width, height))`."""
    if 3 * gray.width < 4 * gray.height or gray.width < width:  # columns may come first
        return np.asarray(gray.resize((width, height)))
    box = ImageChops.invert(gray).getbbox()
    if box is None:
        return np.full((height, width), 255, np.uint8)
    # Pillow scales the rows first, then the columns, and rounds to 8 bits in between. White rows
    # stay white, so only the rows that hold ink need the first pass: a tenth of the whole time.
    _, top, _, bottom = box
    rows = gray.resize((width, bottom - top), box=(0, top, gray.width, bottom))
    sheet = Image.new("L", (width, gray.height), 255)
    sheet.paste(rows, (0, top))
    return np.asarray(sheet.resize((width, height)))


def ink(gray: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Center the ink of a gray image of any polarity and background in a window of fixed scale."""
    return window(settle(gray), height, width)


def window(gray: Image.Image, height: int, width: int, zoom: float = 1) -> NDArray[np.uint8]:
    """Crop a window, in whose center the ink lies, from an image of black on white.

    The window's size depends on the image's size alone, so that large ink stays larger than small
    ink. Only ink that it can't hold makes it larger.

    Args:
        gray: Mode L.
        height: Height of the array in pixels.
        width: Width of the array in pixels.
        zoom: Factor by which the window is larger, and the ink in it smaller.
    """
    shrink = max(1, min(gray.size) // WORKING)
    small = np.asarray(gray.reduce(shrink))
    box = ink_box(small)
    if np.isnan(box[0]):
        return np.full((height, width), 255, np.uint8)
    across, down = shrink * small.shape[1], shrink * small.shape[0]
    left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    high = WINDOW * min(gray.height, gray.width * height / width)
    high = zoom * max(high, 1.1 * (bottom - top), 1.1 * (right - left) * height / width)
    wide = high * width / height
    if (fewer := excess(wide, high)) > 1:  # of an image far longer than wide, or of large ink
        gray = gray.reduce(fewer)
        ends = (left, top, right, bottom, wide, high)
        left, top, right, bottom, wide, high = (length / fewer for length in ends)
    x, y = (left + right - wide) / 2, (top + bottom - high) / 2
    # Pillow crops whole pixels, and what lies outside is 0; so the crop is done on a negative.
    corner = math.floor(x), math.floor(y)
    outer = (*corner, math.ceil(x + wide), math.ceil(y + high))
    cut = (x - corner[0], y - corner[1], x - corner[0] + wide, y - corner[1] + high)
    sheet = ImageChops.invert(gray).crop(outer)
    return 255 - np.asarray(sheet.resize((width, height), box=cut))


def excess(wide: float, high: float) -> int:
    """Return the factor, at least 1, by which sides must be reduced to at most `SHEET` pixels."""
    return max(1, math.ceil(math.sqrt(wide * high / SHEET)))


PREPARE: dict[str, Callable[[Image.Image, int, int], NDArray[np.uint8]]] = {
    "notebook": notebook,
    "ink": ink,
}
"""Preprocessings by name: from an image in mode L to an array (height, width)."""


def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale values from 0-255 to 0-1, the shape unchanged."""
    return images.astype(np.float32) / np.float32(255)
