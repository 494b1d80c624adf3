"""A dataset that the program draws: no data needed."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from hwr.data import drawing
from hwr.data.cache import cached, digest, in_threads, source
from hwr.data.dataset import CharacterDataset
from hwr.data.table import writers_of
from hwr.preprocessing import images


class SyntheticDataset(CharacterDataset):
    """Images of synthetic writers, each of whom draws every character once.

    Args:
        name: What the dataset is called in metrics.
        writers: How many there are, 1 to 999.
        seed: Seed of the drawing.
        preprocessing: `notebook` or `ink`.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1, or 3: the gray image three times.
        cache: Folder of drawn images; None: `HWR_CACHE`, else `~/.cache/hwr`.
    """

    def __init__(
        self,
        name: str = "synthetic",
        writers: int = 55,
        seed: int = 0,
        preprocessing: str = "notebook",
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        cache: str | None = None,
    ) -> None:
        files, labels = drawing.files_and_labels(writers)
        gray = torch.from_numpy(_drawn(writers, seed, preprocessing, height, width, cache))
        super().__init__(
            name,
            gray.unsqueeze(1).expand(-1, channels, -1, -1),
            labels,
            files=files,
            writers=writers_of(files),
            aspect=drawing.SIZE[0] / drawing.SIZE[1] if preprocessing == "notebook" else None,
            preprocessing=preprocessing,
        )


@lru_cache(maxsize=2)
def _drawn(
    writers: int, seed: int, preprocessing: str, height: int, width: int, cache: str | None
) -> NDArray[np.uint8]:
    """Draw arrays (N, H, W); the last two datasets stay in memory for the jobs of a sweep."""
    prepare = images.PREPARE[preprocessing]

    def draw(writer: int) -> NDArray[np.uint8]:
        drawn = drawing.draw_images(writer, seed)
        return np.stack([prepare(image, height, width) for image in drawn])

    def draw_all() -> NDArray[np.uint8]:
        by_writer = in_threads(draw, range(1, writers + 1), "drawing", "writer")
        return np.stack(by_writer, axis=1).reshape(-1, height, width)

    key = [writers, seed, preprocessing, height, width, source(drawing), digest(drawing.LETTERS)]
    return cached(cache, key, (len(drawing.CHARACTERS) * writers, height, width), draw_all)
