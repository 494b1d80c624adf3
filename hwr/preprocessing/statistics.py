"""Measure what training images look like, so that inference can bring other images to that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr.preprocessing.background import WHITE, border_levels, normalize_background
from hwr.preprocessing.ink import measure_ink

SLACK = 0.1
"""Share of a range by which a training image may lie outside of what was measured."""
LEAST_SLACK = np.array([0.0] * 2 + [6.0] * 6 + [0.02] * 5)
"""Slack of width, height and the values of `describe`, at least: JPEG changes them a little."""


@dataclass(frozen=True)
class ImageStatistics:
    """Describe the training images of a model; lengths are shares of the height.

    Attributes:
        aspect: Median of width over height.
        x: Median center of the ink, from the left.
        y: Median center of the ink, from the top.
        diagonal: 1st, 50th and 99th percentile of the ink's diagonal.
        darkness: 1st and 50th percentile of the darkness of ink, 0 to 1: thin strokes are gray.
        stroke_width: 50th and 99th percentile of the width of strokes that are wider than a pixel.
        levels: Brightness of background and ink, 0 to 255.
        sizes: Smallest width and height of the image files in pixels, largest width and height.
        smallest: The smallest values of `describe`.
        largest: The largest values of `describe`.
        recenter: Ink of other images is moved to the usual position. If False, it stays where it
            is in images of the usual aspect, for models that find it themselves.
    """

    aspect: float
    x: float
    y: float
    diagonal: tuple[float, float, float]
    darkness: tuple[float, float]
    stroke_width: tuple[float, float]
    levels: tuple[float, float]
    sizes: tuple[int, int, int, int]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]
    recenter: bool = True

    @classmethod
    def of(
        cls,
        arrays: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        aspect: float,
        recenter: bool = True,
    ) -> "ImageStatistics | None":
        """Measure the training images of a model.

        Args:
            arrays: Shape (N, H, W), 0 black to 255 white.
            sizes: Width and height of the image files, shape (M, 2).
            aspect: Width over height of the images, whatever H and W are.
            recenter: As the attribute.

        Returns:
            The statistics; None if no image has ink.
        """
        values = np.stack([describe(array, aspect) for array in arrays])
        values = values[~np.isnan(values).any(axis=1)]
        if not len(values):
            return None
        low, median, high = np.quantile(values[:, 6:], (0.01, 0.5, 0.99), axis=0).tolist()
        return cls(
            aspect=aspect,
            x=median[0],
            y=median[1],
            diagonal=(low[2], median[2], high[2]),
            darkness=(low[3], median[3]),
            stroke_width=(median[4], high[4]),
            levels=_levels(values),
            sizes=(*sizes.min(axis=0).tolist(), *sizes.max(axis=0).tolist()),
            smallest=tuple(values.min(axis=0).tolist()),
            largest=tuple(values.max(axis=0).tolist()),
            recenter=recenter,
        )

    def covers(self, array: NDArray[np.uint8], size: tuple[int, int]) -> bool:
        """Return whether an image looks like those that the model was trained on.

        Args:
            array: The image as training would prepare it, shape (H, W).
            size: Width and height of the image file.
        """
        smallest = np.array([*self.sizes[:2], *self.smallest])
        largest = np.array([*self.sizes[2:], *self.largest])
        values = np.array([*size, *describe(array, self.aspect)])
        slack = np.maximum(SLACK * (largest - smallest), LEAST_SLACK)
        return bool(((smallest - slack <= values) & (values <= largest + slack)).all())

    def with_levels(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give black on white the background and ink of the training images."""
        background, ink = self.levels
        scaled = ink + (background - ink) * (array / 255)
        return array if (background, ink) == (255, 0) else np.round(scaled).astype(np.uint8)


def describe(array: NDArray[np.uint8], aspect: float) -> NDArray[np.float64]:
    """Describe light and ink of an image.

    Args:
        array: Shape (H, W), 0 black to 255 white.
        aspect: Width over height of the image, whatever H and W are.

    Returns:
        Three percentiles of the brightness of the border, the darkest, the median and the lightest
        brightness, and the values of `measure_ink`, shape (11,).
    """
    border, normalized = border_levels(array), array
    if border[0] < WHITE:
        normalized = np.asarray(normalize_background(Image.fromarray(array)))
    levels = np.quantile(array, (0.005, 0.5, 0.995))
    return np.concatenate([border, levels, measure_ink(normalized, aspect)])


def _levels(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the usual background of described images (N, 11), and the strongest ink on it."""
    darkest, background, lightest = values[:, 3:6].T
    is_dark = lightest - background > background - darkest
    if is_dark.mean() > 0.5:
        return float(np.median(background[is_dark])), float(np.quantile(lightest, 0.99))
    usual = float(np.median(background[~is_dark]))
    return (255.0, 0.0) if usual >= WHITE else (usual, float(np.quantile(darkest, 0.01)))
