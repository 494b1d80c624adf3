"""What a user may call a picture -> a Pillow image in grey."""

import os
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr import images
from hwr.errors import DataError


def open_picture(source: Any) -> Image.Image:
    """One picture in mode L from a path, bytes, an open file, an image, an array or a tensor.

    Raises:
        DataError: It is none, or a broken one.
    """
    if isinstance(source, Image.Image):
        return _grey(source, "it")
    if hasattr(source, "requires_grad"):  # a torch tensor, whose channels come first
        source = source.detach().cpu().numpy()
        source = np.moveaxis(source, 0, -1) if source.ndim == 3 else source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes | bytearray):
        name, source = "it", BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        name = os.fspath(source)
    elif hasattr(source, "read"):
        name = "it"
    else:
        raise DataError(f"a {type(source).__name__} is no picture")
    try:
        with Image.open(source) as picture:
            return _grey(picture, name)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"no picture {name}") from error
    except Exception as error:  # Pillow raises many kinds for files that are no pictures
        raise DataError(f"{name} cannot be read as a picture") from error


def _grey(picture: Image.Image, name: str) -> Image.Image:
    if 0 in picture.size:
        raise DataError(f"{name} has no pixels")
    try:
        return images.grey(picture)
    except ValueError as error:
        raise DataError(f"{name} cannot be read as a picture: {error}") from error
    except Exception as error:
        raise DataError(f"{name} is a broken picture") from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"an array of shape {array.shape} is no picture")
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
            raise DataError("an array of floats must lie between 0 and 1, or 0 and 255")
        array = np.round(array * (255 if array.max() <= 1 else 1)).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
            raise DataError(f"an array of {array.dtype} must hold numbers from 0 to 255")
        array = array.astype(np.uint8)
    return _grey(Image.fromarray(np.ascontiguousarray(array)), "it")


def each(pictures: Any) -> Iterable[Any]:
    """One picture or many, as many."""
    if isinstance(pictures, str | os.PathLike | bytes | bytearray | Image.Image):
        return (pictures,)
    if isinstance(pictures, np.ndarray) or hasattr(pictures, "requires_grad"):
        channels = pictures.shape[-1 if isinstance(pictures, np.ndarray) else 0 :][:1]
        single = pictures.ndim < 3 or (pictures.ndim == 3 and channels[0] in (1, 3, 4))
        return (pictures,) if single else iter(pictures)
    if hasattr(pictures, "read") or not hasattr(pictures, "__iter__"):
        return (pictures,)
    return pictures  # type: ignore[no-any-return]
