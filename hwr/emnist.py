"""EMNIST (G. Cohen et al., 2017), through torchvision's reader, in the form of the other sets."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr import images
from hwr.errors import DataError
from hwr.schema import EmnistConfig

CHUNK = 10_000
"""Pictures that are scaled at a time."""


def read(
    config: EmnistConfig,
) -> tuple[tuple[str, ...], tuple[str, ...], None, NDArray[np.uint8], float, str]:
    """Files, labels, no writers, arrays (N, H, W), their aspect, and fingerprint.

    The pictures (28 x 28, stored lying on their side, white on black) are stood up and inverted;
    by `notebook` they are scaled to fit where the size is another, on white paper.

    Raises:
        DataError: The files are missing or broken.
    """
    from torchvision.datasets import EMNIST  # brings torch

    root = Path(config.root).expanduser()
    files: list[str] = []
    labels: list[str] = []
    arrays = []
    for part in ("train", "test") if config.part == "all" else (config.part,):
        try:
            found: Any = EMNIST(
                str(root), config.variant, train=part == "train", download=config.download
            )
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            why = str(error).splitlines()[0] if str(error) else "a file is broken"
            if isinstance(error, RuntimeError) and not config.download:
                why = (
                    f"it needs EMNIST/raw/emnist-{config.variant}-{part}-images-idx3-ubyte and "
                    "-labels-idx1-ubyte; put them there, or fetch them with data.download=true"
                )
            raise DataError(f"no EMNIST in {root}: {why}") from error
        if len(found.data) != len(found.targets) or int(found.targets.max()) >= len(found.classes):
            raise DataError(f"EMNIST in {root}: pictures and labels of the {part} part don't match")
        arrays.append(_prepare(255 - found.data.transpose(1, 2), config))
        labels += [found.classes[label] for label in found.targets.tolist()]
        files += [f"{part}-{number:06d}" for number in range(len(found.data))]
    image = np.concatenate(arrays)
    digest = hashlib.sha256(image.data)
    digest.update("\n".join(labels).encode())
    return (
        tuple(files),
        tuple(labels),
        None,
        image,
        config.width / config.height,
        digest.hexdigest(),
    )


def _prepare(image: Any, config: EmnistConfig) -> NDArray[np.uint8]:
    """Upright black on white pictures (N, 28, 28) as arrays (N, H, W)."""
    if config.preprocessing == "notebook":
        return _fit(image, config.height, config.width)
    prepare = images.PREPARE[config.preprocessing]
    each = (prepare(Image.fromarray(one), config.height, config.width) for one in image.numpy())
    return np.stack(list(each))


def _fit(image: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Square pictures (N, S, S) on white paper (N, H, W), as large as it takes them."""
    import torch
    from torch.nn import functional

    side = min(height, width)
    paper = np.full((len(image), height, width), 255, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    for start in range(0, len(image), CHUNK):
        part = image[start : start + CHUNK]
        if side != part.shape[1]:
            scaled = functional.interpolate(
                part.unsqueeze(1).float(), (side, side), mode="bicubic", antialias=True
            )
            part = scaled.squeeze(1).round().clamp(0, 255).to(torch.uint8)
        paper[start : start + CHUNK, top : top + side, left : left + side] = part.numpy()
    return paper
