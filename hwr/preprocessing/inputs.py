"""Open whatever a user may pass as an image, as a Pillow image in gray or RGB."""

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr.errors import DataError
from hwr.files import expand_user
from hwr.preprocessing import images

SLACK = 0.1
"""Amount by which floats from 0 to 1 may overshoot, such as after interpolation."""


def open_picture(source: Any, held: ExitStack | None = None, channels: int = 1) -> Image.Image:
    """Open an image from a path, bytes, an open file, a Pillow image, an array or a tensor.

    Args:
        source: The image.
        held: If the image is large, other large ones wait until this is closed.
        channels: 1 for mode L, 3 for mode RGB.

    Raises:
        DataError: It isn't an image, or is broken.
    """
    with ExitStack() as until_here:
        return _open(source, held or until_here, channels)


def is_done(source: Any, size: tuple[int, int]) -> bool:
    """Tell whether an image is a gray array of this size, 0 black to 255 white, ready to use."""
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8 or source.shape != size:
        return False
    return bool(source.max() > 1)  # else it is a mask


def as_arrays(many: Any, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Convert many gray images of this size in one array or tensor, as `open_picture` does each.

    Args:
        many: Any, of the shapes that `Recognizer` takes.
        size: H and W.

    Returns:
        Shape (N, H, W), maybe the same memory; None if they are something else, or need more.
    """
    if hasattr(many, "requires_grad"):
        try:
            many, channel = _plain(many), 1
        except DataError:  # raised for each with its number
            return None
    elif type(many) is np.ndarray:
        channel = 3 if many.shape[-1] in (1, 3, 4) else 1
    else:
        return None
    if many.ndim == 4 and many.shape[channel] == 1:
        many = many.squeeze(channel)
    if many.shape[1:] != size or many.dtype not in ("uint8", "float32", "float64"):
        return None
    low, high = many.min((1, 2)), many.max((1, 2))
    if many.dtype == np.uint8:
        masks = high <= 1
        if masks.any():
            many = np.where(masks[:, None, None], 255 * many, many)
        return cast(NDArray[np.uint8], many)
    ends = float(low.min(initial=0)), float(high.max(initial=0))
    if not (ends[0] >= -SLACK and ends[1] <= 1 + SLACK):  # or some are NaN
        return None
    return _bytes(many, *ends)


def _open(source: Any, held: ExitStack, channels: int) -> Image.Image:
    if isinstance(source, Image.Image):
        return _convert(source, "it", held, channels)
    if hasattr(source, "requires_grad"):
        source = _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, held, channels)
    name = "it"
    if isinstance(source, bytes | bytearray | memoryview):
        source = BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        source = expand_user(source)
        name = str(source) if len(str(source)) < 300 else f"{str(source)[:300]}…"
    elif not hasattr(source, "read"):
        raise DataError(f"an object of type {type(source).__name__} is not an image")
    try:
        if hasattr(source, "read") and not source.seekable():
            source = BytesIO(source.read())
        if isinstance(source, Path) and S_IFMT(source.stat().st_mode) not in (S_IFREG, S_IFDIR):
            raise DataError(f"no image {name}: it is not a file but a pipe or a device")
        most = (Image.MAX_IMAGE_PIXELS or sys.maxsize) * 3 // 4  # 67 million
        with images.open_limited(source, most) as image:
            return _convert(image, name, held, channels)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"no image {name}") from error
    except IsADirectoryError as error:
        raise DataError(f"no image {name}: it is a folder") from error
    except images.TooLarge as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    except Exception as error:  # Pillow raises many kinds for files that are not images
        raise DataError(f"{name} cannot be read as an image: {images.why(error)}") from error


def _convert(image: Image.Image, name: str, held: ExitStack, channels: int) -> Image.Image:
    if 0 in image.size:
        raise DataError(f"{name} has no pixels")
    try:
        held.enter_context(images.turn(image))
        if image.mode == "F":
            image.load()  # which turns a TIFF
            ends = images.extrema(image)
            gray = images.in_strips(
                image, lambda part: Image.fromarray(_bytes(np.asarray(part), *ends))
            )
            return gray if channels == 1 else gray.convert("RGB")
        return images.convert(image, channels)
    except ValueError as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} is a broken image") from error


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """Convert a tensor, whose channels come first, to an array, whose channels come last."""
    array = _plain(tensor)
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def _plain(tensor: Any) -> NDArray[Any]:
    try:
        plain = tensor.detach().cpu()
        plain = plain.to_dense() if plain.is_sparse else plain
        # NumPy knows no bfloat16.
        array: NDArray[Any] = (plain.float() if plain.is_floating_point() else plain).numpy()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise DataError(f"a tensor cannot be read: {str(error).splitlines()[0]}") from error
    return array


def _from_array(array: NDArray[Any], held: ExitStack, channels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)  # channels first, as one of a batch
    depth = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or not array.size or depth not in (1, 3, 4):
        raise DataError(f"an array of shape {array.shape} is not an image")
    array = array[..., 0] if depth == 1 and array.ndim == 3 else array
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array of {array.dtype} is not an image")
    plain = _bytes(array, float(array.min()), float(array.max()))
    return _convert(Image.fromarray(np.ascontiguousarray(plain)), "it", held, channels)


def _bytes(array: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Convert values from `low` to `high`, whatever their range, to values from 0 to 255."""
    wide = array.dtype.kind == "u" and array.dtype.itemsize == 2 and high > 255
    slack, top = (SLACK, 1 + SLACK) if high <= 1 + SLACK else (5.0, 260.0)
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and -slack <= low and high <= top):
            raise DataError("an array of floats must lie between 0 and 1, or 0 and 255")
        array = np.round(array.astype(np.float32) * (255 if high <= 1 + SLACK else 1)).clip(0, 255)
    elif wide:
        array = array // 257
    elif low < 0 or high > 255:
        raise DataError(f"an array of {array.dtype} must hold numbers from 0 to 255")
    elif high <= 1:  # a mask
        return array.astype(np.uint8) * np.uint8(255)
    return array.astype(np.uint8)


def each(many: Any) -> Iterable[Any]:
    """Return one image or many as an iterable."""
    if isinstance(many, str | os.PathLike | bytes | bytearray | memoryview | Image.Image):
        return (many,)
    if isinstance(many, np.ndarray) or hasattr(many, "requires_grad"):
        return (many,) if _single(many) else iter(many)
    if hasattr(many, "read") or not hasattr(many, "__iter__"):
        return (many,)
    return many  # type: ignore[no-any-return]


def many_in_one(many: Any) -> bool:
    """Tell whether many images are one array or dense tensor, which can be sliced."""
    dense = str(getattr(many, "layout", "")) == "torch.strided"
    return (isinstance(many, np.ndarray) or dense) and not _single(many)


def _single(array: Any) -> bool:
    channels = array.shape[-1 if isinstance(array, np.ndarray) else 0 :][:1]
    return array.ndim < 3 or (array.ndim == 3 and channels[0] in (1, 3, 4))
