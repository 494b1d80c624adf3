"""Open image files, arrays and tensors as Pillow images, gray or RGB."""

import math
import os
import re
import sys
from base64 import b64decode
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, ImageOps, PngImagePlugin, UnidentifiedImageError

from hwr.errors import DataError
from hwr.files import expand_user, walk

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA", "PCX"]
FORMATS += ["AVIF"] if find_spec("PIL.AvifImagePlugin") else []  # since Pillow 11.3
with suppress(ImportError):
    import_module("pillow_heif").register_heif_opener()
    FORMATS.append("HEIF")
"""Formats that are read. Others can hold programs, which Pillow would let Ghostscript run."""
OTHER_SUFFIXES = {".heic", ".heif", ".hif", ".avif", ".jxl", ".svg", ".pdf", ".eps", ".ai", ".psd"}
OTHER_SUFFIXES |= {".xcf", ".ico", ".emf", ".wmf", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"}
"""Images of other formats; those in a folder are rejected rather than left out."""
HINTS = {
    rb"....ftyp(hei|hev|mif|msf)": "a HEIC image needs pip install pillow-heif",
    rb"....ftypavi": "an AVIF image needs Pillow 11.3 or later",
    rb"version https://git-lfs": "it is a pointer of Git LFS; run git lfs pull",
    rb"\s*<(!doctype )?html": "it is a web page; download the image again",
}
"""How files that are not images begin, and what to do."""
MAX_PIXELS = 67_000_000
"""Pixels of an image that is given to a recognizer."""


def open_image(source: Any, channels: int = 1) -> Image.Image:
    """Open one image of any kind, upright, transparent pixels on white.

    Args:
        source: A path, bytes, an open file, a Pillow image, an array (H, W), (H, W, 1 or 3 or 4)
            or (1 or 3 or 4, H, W), or a tensor (H, W) or (1 or 3 or 4, H, W); integers from 0 to
            255, of 16 bits to 65,535, masks of 0 and 1, or floats from 0 to 1.
        channels: 1 for mode L, 3 for mode RGB.

    Raises:
        DataError: It isn't an image, or is broken.
    """
    name = str(source)[:200] if isinstance(source, str | os.PathLike) else "the image"
    try:
        if isinstance(source, np.ndarray) or hasattr(source, "requires_grad"):
            source = _from_array(source)
        if isinstance(source, Image.Image):
            return convert(source, channels)
        if isinstance(source, str):
            source = _from_text(source)
        if isinstance(source, str | os.PathLike):
            file: Any = expand_user(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            file = BytesIO(source)
        elif hasattr(source, "read"):
            file = BytesIO(source.read())
        else:
            raise ValueError(
                f"an object of type {type(source).__name__} is not an image; "
                "give a path, bytes, a Pillow image, an array or a tensor"
            )
        with open_file(file, MAX_PIXELS) as image:
            return convert(image, channels)
    except Exception as error:  # Pillow raises many kinds for files that are not images
        raise DataError(f"{name} cannot be read as an image: {reason(error)}") from error


def open_file(file: BinaryIO | Path, max_pixels: int) -> Image.Image:
    """Open an image file, and decode nothing yet.

    Args:
        file: Its path, or the file, which must be seekable.
        max_pixels: How many it may have.

    Raises:
        Exception: It isn't an image, is broken, or has more pixels; Pillow raises many kinds, and
            `reason` says in a few words what is wrong.
    """
    with _open(file) as image:
        if image.width * image.height > max_pixels:
            size = f"{image.width} x {image.height}"
            raise ValueError(f"{size} pixels are more than {max_pixels:,} (data.max_pixels)")
        if image.format == "PNG":
            image.verify()  # decoding doesn't check the checksums
    return _open(file)


def _open(file: BinaryIO | Path) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        if not isinstance(file, Path):
            file.seek(0)
        try:
            PngImagePlugin.PngImageFile(file)  # tells which chunk is broken
        except SyntaxError as broken:
            if "not a PNG" not in str(broken):
                raise ValueError(f"{broken}; save it again") from error
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            stream.seek(0)
            start = stream.read(64)
        hints = [hint for begin, hint in HINTS.items() if re.match(begin, start, re.I | re.S)]
        raise ValueError(hints[0] if hints else f"it is none of {', '.join(FORMATS)}") from error


def convert(image: Image.Image, channels: int = 1) -> Image.Image:
    """Convert any image to mode L (one channel) or RGB (three), upright, transparent on white.

    Raises:
        ValueError: It is animated, or its numbers have no known range.
    """
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a phone's photo
        raise ValueError("it has several frames; save one of them")
    mode = "L" if channels == 1 else "RGB"
    image.load()  # rotates a TIFF
    orientation = _orientation(image)
    if image.has_transparency_data:
        result = _on_white(image, mode)
    elif image.mode[0] in "IF":  # Pillow would clip these to 8 bits
        result = Image.fromarray(_to_uint8(np.asarray(image))).convert(mode)
    else:
        result = image.convert(mode)
    result.info = {}  # or broken Exif data would be decoded again
    # Rotated last: the image may have four channels.
    result.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(result)


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of an upright image file; nothing is decoded."""
    with Image.open(path, formats=FORMATS) as image:
        rotated = _orientation(image) >= 5
        return (image.height, image.width) if rotated else image.size


def reason(error: Exception) -> str:
    """Return in a few words why an image could not be read."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


@cache
def suffixes() -> frozenset[str]:
    """Return how names of image files end, in lower case."""
    extensions = Image.registered_extensions()
    return frozenset(suffix for suffix, name in extensions.items() if name in [*FORMATS, "MPO"])


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the images of a folder and its subfolders, sorted, and its other files.

    A file without a suffix is an image if its content is.
    """
    images: list[Path] = []
    others: list[Path] = []
    for file in walk(folder):
        suffix = file.suffix.lower()
        is_image = suffix in suffixes() or suffix in OTHER_SUFFIXES
        if not suffix:
            with suppress(Exception):  # Pillow raises many kinds for files that are not images
                open_file(file, sys.maxsize).close()
                is_image = True
        (images if is_image else others).append(file)
    return sorted(images), others


def as_iterable(images: Any) -> Iterable[Any]:
    """Return one image or many, as `Recognizer.predict` takes them, as an iterable."""
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":  # of paths
        images = images.tolist()
    if isinstance(images, np.ndarray) or hasattr(images, "requires_grad"):
        axis = -1 if isinstance(images, np.ndarray) else 0
        single = images.ndim < 3 or (images.ndim == 3 and images.shape[axis] in (1, 3, 4))
    else:
        kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
        single = isinstance(images, kinds) or hasattr(images, "read")
    result: Iterable[Any] = (images,) if single or not hasattr(images, "__iter__") else images
    return result


def _orientation(image: Image.Image) -> int:
    """Return the orientation in an image's Exif data; 1 is upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises many kinds for broken Exif data
        return 1


def _from_text(text: str) -> str | bytes:
    """Return the bytes of a data URL; other text stays a path.

    Raises:
        ValueError: It is a web address, or base64.
    """
    if text.startswith("data:"):
        return b64decode(text.partition(";base64,")[2])
    if text.startswith(("http:", "https:")):
        raise ValueError("it is a web address; download the image, and give its path or bytes")
    if len(text) > 255 and re.fullmatch(r"[A-Za-z0-9+/=\s_-]+", text):
        raise ValueError("it is base64 text; give base64.b64decode(text), which are bytes")
    return text


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    alpha = image.getchannel("A")
    result = Image.new(mode, image.size, "white")
    result.paste(image.convert(mode), mask=alpha)
    if np.min(result.getextrema()) > 250:  # white ink on nothing
        return ImageChops.invert(alpha).convert(mode)
    return result


def _from_array(array: Any) -> Image.Image:
    channels_first = array.ndim == 3 and array.shape[-1] not in (1, 3, 4)
    if hasattr(array, "requires_grad"):
        channels_first = array.ndim == 3
        array = array.detach().cpu().float().numpy()
    if channels_first:
        array = np.moveaxis(array, 0, -1)
    if array.shape[2:] == (1,):
        array = array[..., 0]
    if array.ndim < 2 or not array.size or array.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f"an array of shape {array.shape} is not an image")
    return Image.fromarray(np.ascontiguousarray(_to_uint8(array)))


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert integers of 8 to 16 bits, masks, or floats from 0 to 1 or 255, to 0 to 255."""
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f":
        # Interpolation may overshoot by a tenth.
        factor, slack = (255, 0.1) if high <= 1.1 else (1, 5)
        standardized = 1.1 < high < 10  # such dark images are hardly ever meant
        if standardized or not (-slack <= low and high <= 255 / factor + slack):  # NaN too
            raise ValueError(
                f"floats must lie between 0 and 1, or 0 and 255, not {low:g} and {high:g}; "
                "if they were standardized, undo that"
            )
        return np.round(array * factor).clip(0, 255).astype(np.uint8)
    if array.dtype.kind not in "biu" or low < 0 or high > 65535:
        raise ValueError(f"values of {array.dtype} must be integers from 0 to 255, or of 16 bits")
    if high <= 1:  # a mask
        return array.astype(np.uint8) * np.uint8(255)
    bits = max(8, 2 * math.ceil(int(high).bit_length() / 2))  # 10, 12 or 14 of 16 may be in use
    return (array >> (bits - 8)).astype(np.uint8)
