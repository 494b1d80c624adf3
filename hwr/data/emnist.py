"""EMNIST (G. Cohen et al., 2017), as torchvision reads it."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hwr.data.cache import cached, in_threads, stamps
from hwr.data.dataset import CharacterDataset
from hwr.errors import DataError
from hwr.preprocessing import images

CHUNK = 10_000
"""Images that are resized at a time."""


class EmnistDataset(CharacterDataset):
    """EMNIST, upright and black on white, with unknown writers.

    With preprocessing `notebook`, images of another size than 28 x 28 are resized to fit, on white.

    Args:
        name: What the dataset is called in metrics.
        root: Folder that holds `EMNIST/raw/`.
        variant: `byclass` or `balanced`.
        part: `train`, `test`, or `all`.
        download: Fetch the files where they are missing.
        preprocessing: `notebook` or `ink`.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1, or 3: the gray image three times.
        cache: Folder of arrays that `ink` made; None: `HWR_CACHE`, else `~/.cache/hwr`.

    Raises:
        DataError: The files are missing or broken.
    """

    def __init__(
        self,
        name: str = "emnist",
        root: str | Path = "data/emnist",
        variant: str = "byclass",
        part: str = "all",
        download: bool = False,
        preprocessing: str = "notebook",
        height: int = 28,
        width: int = 28,
        channels: int = 1,
        cache: str | None = None,
    ) -> None:
        parts = ("train", "test") if part == "all" else (part,)
        paths = [file for part in parts for file in _paths(root, variant, part)]
        files, labels, gray = _loaded(
            *(root, variant, parts, download, preprocessing, height, width, cache), stamps(paths)
        )
        super().__init__(
            name,
            torch.from_numpy(gray).unsqueeze(1).expand(-1, channels, -1, -1),
            labels,
            files=files,
            preprocessing=preprocessing,
        )


def _paths(root: str | Path, variant: str, part: str) -> list[Path]:
    start = Path(root).expanduser() / f"EMNIST/raw/emnist-{variant}-{part}"
    return [Path(f"{start}-{end}-ubyte") for end in ("images-idx3", "labels-idx1")]


@lru_cache(maxsize=1)
def _loaded(
    root: str | Path,
    variant: str,
    parts: tuple[str, ...],
    download: bool,
    preprocessing: str,
    height: int,
    width: int,
    cache: str | None,
    stamps: object,
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.uint8]]:
    """Return files, labels and arrays (N, H, W), from memory while no file is touched."""
    files: list[str] = []
    labels: list[str] = []
    arrays = []
    for part in parts:
        data, targets = _read(Path(root).expanduser(), variant, part, download)
        arrays.append(_prepared(255 - data.transpose(1, 2), preprocessing, height, width, cache))
        labels += targets
        files += [f"{part}-{number:06d}" for number in range(len(data))]
    return tuple(files), tuple(labels), np.concatenate(arrays)


def _read(root: Path, variant: str, part: str, download: bool) -> tuple[Tensor, list[str]]:
    """Read images (N, 28, 28), lying on their side, white on black, and labels."""
    from torchvision.datasets import EMNIST  # takes a second

    try:
        emnist: Any = EMNIST(str(root), variant, train=part == "train", download=download)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        why = str(error).splitlines()[0] if str(error) else "a file is broken"
        if isinstance(error, RuntimeError) and not download:
            names = " and ".join(path.name for path in _paths(root, variant, part))
            why = (
                f"it needs {names} in EMNIST/raw; put them there, or fetch them with "
                "data.download=true"
            )
        raise DataError(f"no EMNIST in {root}: {why}") from error
    if len(emnist.data) != len(emnist.targets) or int(emnist.targets.max()) >= len(emnist.classes):
        raise DataError(f"EMNIST in {root}: images and labels of the {part} part don't match")
    return emnist.data, [emnist.classes[label] for label in emnist.targets.tolist()]


def _prepared(
    upright: Tensor, preprocessing: str, height: int, width: int, cache: str | None
) -> NDArray[np.uint8]:
    """Make arrays (N, H, W) of black on white images (N, 28, 28)."""
    if preprocessing == "notebook":
        return _fitted(upright, height, width)
    source = upright.contiguous().numpy()

    def prepare(row: int) -> NDArray[np.uint8]:
        return images.PREPARE[preprocessing](Image.fromarray(source[row]), height, width)

    def prepare_all() -> NDArray[np.uint8]:
        return np.stack(in_threads(prepare, range(len(source)), "preparing", "image", chunk=256))

    key = ["emnist", hashlib.sha256(source.data).hexdigest(), preprocessing, height, width]
    return cached(cache, key, (len(source), height, width), prepare_all)


def _fitted(square: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """Resize square images (N, S, S) to fit into white arrays (N, H, W)."""
    side = min(height, width)
    result = torch.full((len(square), height, width), 255, dtype=torch.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    for start in range(0, len(square), CHUNK):
        part = square[start : start + CHUNK]
        if side != part.shape[1]:
            scaled = functional.interpolate(
                part.unsqueeze(1).float(), (side, side), mode="bicubic", antialias=True
            )
            part = scaled.squeeze(1).round().clamp(0, 255).to(torch.uint8)
        result[start : start + CHUNK, top : top + side, left : left + side] = part
    return result.numpy()
