"""EMNIST (G. Cohen et al., 2017), as torchvision reads it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hwr.data.cache import cached, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.errors import DataError
from hwr.files import expand_user
from hwr.preprocessing.preprocessor import Preprocessor

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
        statistics: What the training images of a model look like (`ImageStatistics`), plain
            values; images are brought to that, as for inference. None: taken as they come.

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
        statistics: dict[str, Any] | None = None,
    ) -> None:
        preprocessor = Preprocessor.of(preprocessing, height, width, 1, statistics)
        files: list[str] = []
        labels: list[str] = []
        arrays: list[Tensor] = []
        for subset in ("train", "test") if part == "all" else (part,):
            square, names = _read(expand_user(root), variant, subset, download)
            if preprocessing == "notebook" and not statistics:
                arrays += [_fit(chunk, height, width) for chunk in torch.split(square, CHUNK)]
            else:
                arrays.append(_prepare(square, preprocessor, cache))
            labels += names
            files += [f"{subset}-{number:06d}" for number in range(len(square))]
        super().__init__(
            name,
            torch.cat(arrays).unsqueeze(1).expand(-1, channels, -1, -1),
            labels,
            files=files,
            preprocessing=preprocessing,
        )


def _read(root: Path, variant: str, part: str, download: bool) -> tuple[Tensor, list[str]]:
    """Read images (N, 28, 28), upright and black on white, and their labels."""
    from torchvision.datasets import EMNIST  # takes a second

    try:
        emnist: Any = EMNIST(str(root), variant, train=part == "train", download=download)
        labels = [emnist.classes[label] for label in emnist.targets.tolist()]
        if len(emnist.data) != len(labels):
            raise ValueError(f"{len(emnist.data)} images, but {len(labels)} labels")
    except (RuntimeError, OSError, ValueError, AssertionError, IndexError) as error:
        raise DataError(
            f"cannot read EMNIST/raw/emnist-{variant}-{part}-* in {root}: {error or 'broken'}; "
            "data.download=true fetches missing files"
        ) from error
    return 255 - emnist.data.transpose(1, 2).contiguous(), labels


def _prepare(square: Tensor, preprocessor: Preprocessor, cache: str | None) -> Tensor:
    """Preprocess images (N, 28, 28) one by one into arrays (N, H, W)."""

    def prepare(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return preprocessor(Image.fromarray(array), "auto")

    key = ["emnist", hashlib.sha256(square.numpy().data).hexdigest(), preprocessor]
    rows = list(square.numpy())
    array = cached(
        cache, key, lambda: np.stack(in_threads(prepare, rows, "preparing", "image", 256))
    )
    return torch.from_numpy(array)


def _fit(square: Tensor, height: int, width: int) -> Tensor:
    """Resize images (N, 28, 28) to fit into white ones (N, H, W)."""
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    scaled = functional.interpolate(
        square.unsqueeze(1).float(), (side, side), mode="bicubic", antialias=True
    )
    gray = scaled.squeeze(1).round().clamp(0, 255).to(torch.uint8)
    padding = (left, width - side - left, top, height - side - top)
    return functional.pad(gray, padding, value=255)
