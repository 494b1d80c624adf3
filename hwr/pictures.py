"""What a user may call a picture -> a Pillow image in grey."""

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

from hwr import images
from hwr.errors import DataError
from hwr.files import expanded

SLACK = 0.1
"""By which floats from 0 to 1 may overshoot, as where somebody has interpolated."""


def open_picture(source: Any, held: ExitStack | None = None) -> Image.Image:
    """One picture in mode L from a path, bytes, an open file, an image, an array or a tensor.

    Args:
        source: The picture.
        held: If it is large, the other large ones wait until this is closed.

    Raises:
        DataError: It is none, or a broken one.
    """
    with ExitStack() as until_here:
        return _open(source, held or until_here)


def is_done(source: Any, size: tuple[int, int]) -> bool:
    """Whether a picture is a grey array of this size, 0 black to 255 white, that needs no more."""
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8 or source.shape != size:
        return False
    return bool(source.max() > 1)  # else it is a mask


def as_arrays(pictures: Any, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Many pictures of this size in one array or tensor, as `open_picture` would have each.

    Args:
        pictures: Any, of the shapes that `Recognizer` takes.
        size: H and W.

    Returns:
        Shape (N, H, W), maybe the same memory; None if they are something else, or need more.
    """
    if hasattr(pictures, "requires_grad"):
        try:
            pictures, channel = _plain(pictures), 1
        except DataError:  # each is told of by its number
            return None
    elif type(pictures) is np.ndarray:
        channel = 3 if pictures.shape[-1] in (1, 3, 4) else 1
    else:
        return None
    if pictures.ndim == 4 and pictures.shape[channel] == 1:
        pictures = pictures.squeeze(channel)
    if pictures.shape[1:] != size or pictures.dtype not in ("uint8", "float32", "float64"):
        return None
    low, high = pictures.min((1, 2)), pictures.max((1, 2))
    if pictures.dtype == np.uint8:
        masks = high <= 1
        if masks.any():
            pictures = np.where(masks[:, None, None], 255 * pictures, pictures)
        return cast(NDArray[np.uint8], pictures)
    ends = float(low.min(initial=0)), float(high.max(initial=0))
    if not (ends[0] >= -SLACK and ends[1] <= 1 + SLACK):  # or some are no numbers
        return None
    return _bytes(pictures, *ends)


def _open(source: Any, held: ExitStack) -> Image.Image:
    if isinstance(source, Image.Image):
        return _grey(source, "it", held)
    if hasattr(source, "requires_grad"):
        source = _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, held)
    name = "it"
    if isinstance(source, bytes | bytearray | memoryview):
        source = BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        source = expanded(source)
        name = str(source) if len(str(source)) < 300 else f"{str(source)[:300]}…"
    elif not hasattr(source, "read"):
        raise DataError(f"an object of type {type(source).__name__} is no picture")
    try:
        if hasattr(source, "read") and not source.seekable():
            source = BytesIO(source.read())
        if isinstance(source, Path) and S_IFMT(source.stat().st_mode) not in (S_IFREG, S_IFDIR):
            raise DataError(f"no picture {name}: it is no file but a pipe or a device")
        most = (Image.MAX_IMAGE_PIXELS or sys.maxsize) * 3 // 4  # 67 million
        with images.open_limited(source, most) as picture:
            return _grey(picture, name, held)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"no picture {name}") from error
    except IsADirectoryError as error:
        raise DataError(f"no picture {name}: it is a folder") from error
    except images.TooLarge as error:
        raise DataError(f"{name} cannot be read as a picture: {error}") from error
    except Exception as error:  # Pillow raises many kinds for files that are no pictures
        raise DataError(f"{name} cannot be read as a picture: {images.why(error)}") from error


def _grey(picture: Image.Image, name: str, held: ExitStack) -> Image.Image:
    if 0 in picture.size:
        raise DataError(f"{name} has no pixels")
    try:
        held.enter_context(images.turn(picture))
        if picture.mode == "F":
            picture.load()  # which turns a TIFF
            ends = images.extrema(picture)
            return images.in_strips(
                picture, lambda part: Image.fromarray(_bytes(np.asarray(part), *ends))
            )
        return images.grey(picture)
    except ValueError as error:
        raise DataError(f"{name} cannot be read as a picture: {error}") from error
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} is a broken picture") from error


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """A tensor, whose channels come first, as an array, whose channels come last."""
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


def _from_array(array: NDArray[Any], held: ExitStack) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)  # channels first, as one of a batch
    channels = array.shape[2:] or (1,)
    if array.ndim not in (2, 3) or not array.size or channels[0] not in (1, 3, 4):
        raise DataError(f"an array of shape {array.shape} is no picture")
    array = array[..., 0] if channels[0] == 1 and array.ndim == 3 else array
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array of {array.dtype} is no picture")
    plain = _bytes(array, float(array.min()), float(array.max()))
    return _grey(Image.fromarray(np.ascontiguousarray(plain)), "it", held)


def _bytes(array: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values from 0 to 255, whatever the range was, from `low` to `high`."""
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


def each(pictures: Any) -> Iterable[Any]:
    """One picture or many, as many."""
    if isinstance(pictures, str | os.PathLike | bytes | bytearray | memoryview | Image.Image):
        return (pictures,)
    if isinstance(pictures, np.ndarray) or hasattr(pictures, "requires_grad"):
        return (pictures,) if _single(pictures) else iter(pictures)
    if hasattr(pictures, "read") or not hasattr(pictures, "__iter__"):
        return (pictures,)
    return pictures  # type: ignore[no-any-return]


def many_in_one(pictures: Any) -> bool:
    """Whether many pictures are one array or dense tensor, which slices cut."""
    dense = str(getattr(pictures, "layout", "")) == "torch.strided"
    return (isinstance(pictures, np.ndarray) or dense) and not _single(pictures)


def _single(array: Any) -> bool:
    channels = array.shape[-1 if isinstance(array, np.ndarray) else 0 :][:1]
    return array.ndim < 3 or (array.ndim == 3 and channels[0] in (1, 3, 4))
