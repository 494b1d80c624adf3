"""Picture -> array: the named preprocessings that networks and forest share."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from hwr import memory
from hwr.paper import WORKING, ink_box, settle

LARGE = 2**24
"""Pictures of more pixels are decoded one at a time, or two threads would need twice the memory."""
HEAVY = ("AVIF", "JPEG2000", "WEBP")
"""Decoding these takes 12 to 25 bytes a pixel, others 4 to 12: half as many pixels are allowed."""
WINDOW = 16 / 15
"""Side of the `ink` window over the picture's shorter side: 960 pixels of 900."""
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA", "PCX"]
FORMATS += ["AVIF"] if find_spec("PIL.AvifImagePlugin") else []  # since Pillow 11.3
"""What is read. Others can hold programs, which Pillow would let Ghostscript run."""
SHEET = 2**30 // 12
"""Pixels of a sheet about a picture, as many as Pillow allows; a smaller copy needs no more."""
STRIP = 2**22
"""Pixels that are turned grey at a time."""

_one_large = RLock()


def read(
    file: BinaryIO, preprocessing: str, height: int, width: int, max_pixels: int
) -> NDArray[np.uint8]:
    """The array (height, width) of a picture file, 0 black to 255 white.

    Raises:
        Exception: The file is no picture, a broken one, one of several frames, or has more than
            `max_pixels`; Pillow raises many kinds.
    """
    with open_limited(file, max_pixels) as picture, turn(picture):
        return PREPARE[preprocessing](grey(picture), height, width)


@contextmanager
def turn(picture: Image.Image) -> Iterator[None]:
    """Held while a picture is decoded and prepared: a large one waits until no other one is."""
    if picture.width * picture.height <= LARGE:
        yield
        return
    with _one_large:
        memory.trim()  # what the last one has left, which another thread may have freed
        yield


def open_limited(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    """Open a picture, of which nothing is decoded yet.

    Args:
        file: Its path, or the file, which must be seekable.
        max_pixels: It may have.

    Raises:
        Exception: As for `read`.
    """
    picture = _opened(file, max_pixels)
    if picture.format != "PNG":
        return picture
    picture.verify()  # decoding would not look at the checksums, and take wrong bits for a picture
    return _opened(file, max_pixels)


def _opened(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    try:
        picture = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge("more pixels than allowed") from error
    heavy = picture.format in HEAVY
    if picture.width * picture.height > (max_pixels // 2 if heavy else max_pixels):
        what = f" in a {picture.format}" if heavy else ""
        size = f"{picture.width} x {picture.height}"
        picture.close()
        raise TooLarge(f"{size} pixels are more than allowed{what}")
    return picture


@cache
def suffixes() -> frozenset[str]:
    """How names of pictures end, in small letters."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in [*FORMATS, "MPO"])


class TooLarge(ValueError):
    """A picture has more pixels than it may."""


def why(error: Exception) -> str:
    """In a few words, why a picture of a data set could not be read."""
    if isinstance(error, TooLarge):
        return f"{error} (data.max_pixels)"
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
    picture.load()  # which turns a TIFF
    turned = picture.getexif().get(0x0112, 1)
    if picture.has_transparency_data:
        sheet = in_strips(picture, _on_white)
        if sheet.getextrema()[0] > 250:  # type: ignore[operator]  # white on nothing
            sheet = in_strips(picture, lambda part: ImageChops.invert(_alpha(part).getchannel("A")))
    elif picture.mode.startswith("I"):  # Pillow would clip 16 bits to 8
        low, high = extrema(picture)
        if low < 0 or high > 65535:
            raise ValueError("its pixels have more than 16 bits")
        # What stays below 256 is a picture of 8 bits in a wider mode.
        many = 257 if high > 255 else 1
        sheet = in_strips(
            picture, lambda part: Image.fromarray((np.asarray(part) // many).astype(np.uint8))
        )
    elif picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    else:
        sheet = in_strips(picture, lambda part: part.convert("L"))
    if turned == 1:
        return sheet
    sheet.getexif()[0x0112] = turned
    return ImageOps.exif_transpose(sheet)  # of one byte a pixel; the picture may have four


def _alpha(picture: Image.Image) -> Image.Image:
    if picture.mode in ("LA", "RGBA"):
        return picture
    return picture.convert("LA" if picture.mode == "La" else "RGBA")


def _on_white(picture: Image.Image) -> Image.Image:
    picture, sheet = _alpha(picture), Image.new("L", picture.size, "white")
    sheet.paste(picture.convert("L"), mask=picture.getchannel("A"))
    return sheet


def in_strips(picture: Image.Image, how: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What `how` makes of a picture, in mode L; done strip by strip, it takes no more copies."""
    if picture.width * picture.height <= STRIP:
        return how(picture)
    sheet = Image.new("L", picture.size)
    for top, strip in _strips(picture):
        sheet.paste(how(strip), (0, top))
    return sheet


def extrema(picture: Image.Image) -> tuple[float, float]:
    """The least and the greatest value of a picture of one channel."""
    arrays = (np.asarray(strip) for _, strip in _strips(picture))
    low, high = zip(*((float(values.min()), float(values.max())) for values in arrays), strict=True)
    return min(low), max(high)


def _strips(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        yield top, picture.crop(box)


def aspect(path: Path) -> float:
    """Width over height of a picture file, as it is to be looked at; nothing is decoded."""
    with Image.open(path, formats=FORMATS) as picture:
        width, height = picture.size
        turned = picture.getexif().get(0x0112, 1) >= 5
    return height / width if turned else width / height


def notebook(grey: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """The whole picture, bit for bit the notebook's `grey.resize((width, height))`."""
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


def ink(grey: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """The ink of a picture of any polarity and paper, in the middle of a window of fixed scale."""
    return window(settle(grey), height, width)


def window(grey: Image.Image, height: int, width: int, zoom: float = 1) -> NDArray[np.uint8]:
    """A window on a picture of black on white, its middle that of the ink.

    Its size depends on the picture's alone, so that large ink stays larger than small ink. Only ink
    that it can't hold makes it larger.

    Args:
        grey: Mode L.
        height: Of the array, in pixels.
        width: Likewise.
        zoom: The window is larger by this factor, so the ink in it is smaller.
    """
    shrink = max(1, min(grey.size) // WORKING)
    small = np.asarray(grey.reduce(shrink))
    box = ink_box(small)
    if np.isnan(box[0]):
        return np.full((height, width), 255, np.uint8)
    across, down = shrink * small.shape[1], shrink * small.shape[0]
    left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    high = WINDOW * min(grey.height, grey.width * height / width)
    high = zoom * max(high, 1.1 * (bottom - top), 1.1 * (right - left) * height / width)
    wide = high * width / height
    if (fewer := excess(wide, high)) > 1:  # of a picture far longer than wide, or of large ink
        grey = grey.reduce(fewer)
        ends = (left, top, right, bottom, wide, high)
        left, top, right, bottom, wide, high = (length / fewer for length in ends)
    x, y = (left + right - wide) / 2, (top + bottom - high) / 2
    # Pillow crops whole pixels, and what lies outside is 0; so the crop is done on a negative.
    corner = math.floor(x), math.floor(y)
    outer = (*corner, math.ceil(x + wide), math.ceil(y + high))
    cut = (x - corner[0], y - corner[1], x - corner[0] + wide, y - corner[1] + high)
    sheet = ImageChops.invert(grey).crop(outer)
    return 255 - np.asarray(sheet.resize((width, height), box=cut))


def excess(wide: float, high: float) -> int:
    """How many times as wide and as high as `SHEET` allows a sheet is, rounded up; at least 1."""
    return max(1, math.ceil(math.sqrt(wide * high / SHEET)))


PREPARE: dict[str, Callable[[Image.Image, int, int], NDArray[np.uint8]]] = {
    "notebook": notebook,
    "ink": ink,
}
"""From a picture in mode L to an array (height, width), 0 black to 255 white."""


def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values from 0-255 to 0-1, the same shape."""
    return images.astype(np.float32) / np.float32(255)
