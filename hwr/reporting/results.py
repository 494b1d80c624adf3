"""Draw the plots of a test and write TensorBoard's own views of it, for models and the forest."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from hwr.charset import Charset
from hwr.errors import printable
from hwr.files import atomic_write
from hwr.reporting import figures, grids, metrics, tables

FILES = ("confusion", "mistakes", "reliability", "curves")
"""Plots that also become files of the run folder."""
MAX_POINTS = 5000
"""More embeddings move slowly in a browser."""
MAX_SPRITE = 8192
"""Pixels of the height and width of a texture that every WebGL takes."""


@dataclass(frozen=True)
class TestResult:
    """Hold what a model predicted for the test images.

    Attributes:
        images: uint8, shape (N, C, H, W).
        label: Shape (N,).
        probability: Shape (N, classes), float32.
        charset: The classes.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    charset: Charset

    @property
    def prediction(self) -> NDArray[np.int64]:
        """Return the predicted classes, shape (N,)."""
        return np.asarray(self.probability.argmax(axis=1))


def draw(result: TestResult, name: str) -> dict[str, bytes]:
    """Draw the plots of a test as PNGs by tag; `name` is that of the model."""
    label, prediction, charset = result.label, result.prediction, result.charset
    correct = int((prediction == label).sum())
    title = (
        f"{name}: {correct:,} of {len(label):,} test images correct ({correct / len(label):.1%})"
    )
    counts = metrics.confusion(torch.from_numpy(result.probability), torch.from_numpy(label))
    return {
        "test/confusion": figures.confusion(counts, charset, title),
        "test/mistakes": grids.mistakes(result.images, label, result.probability, charset),
        "test/best_and_worst": grids.extremes(result.images, label, result.probability, charset),
        "test/reliability": figures.reliability(result.probability, label),
    }


def save(plots: Mapping[str, bytes], folder: Path) -> None:
    """Write those plots of `FILES` into a folder, such as `test/confusion` as `confusion.png`."""
    for tag, png in plots.items():
        name = tag.rpartition("/")[2]
        if name in FILES:
            with atomic_write(folder / f"{name}.png") as temporary:
                temporary.write_bytes(png)


def pixels(png: bytes) -> NDArray[np.uint8]:
    """Decode a PNG to an array (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def write_events(
    writer: SummaryWriter, result: TestResult, embedding: NDArray[np.float32], step: int
) -> None:
    """Write precision-recall curves, embeddings and tables of a test for TensorBoard.

    Args:
        writer: Where to write.
        result: The test.
        embedding: A point for each of the first images, shape (M, D).
        step: The step of the training.
    """
    label, probability, charset = result.label, result.probability, result.charset
    writer.add_text("test/confused", tables.confused(label, result.prediction, charset), step)
    writer.add_text("test/per_class", tables.per_class(label, result.prediction, charset), step)
    own = label[:, None] == np.arange(len(charset))
    writer.add_pr_curve("pr/all", own, probability, step)
    for index in _confusable(charset):
        tag = f"pr_confusable/{charset.names[index]}"
        writer.add_pr_curve(tag, own[:, index], probability[:, index], step)
    names = [_word(name) for name in charset.names]
    rows = [
        [names[true], names[other], "correct" if true == other else "wrong"]
        for true, other in zip(label[: len(embedding)], result.prediction, strict=False)
    ]
    head = ["true", "predicted", "outcome"]
    thumbnails = _thumbnails(torch.from_numpy(result.images[: len(embedding)]))
    rounded = np.round(embedding.astype(np.float64), 4)  # written as text
    writer.add_embedding(rounded, rows, thumbnails, step, "test_images", head)


def _confusable(charset: Charset) -> list[int]:
    """List the classes that others look like."""
    group = charset.lookalike()
    return np.flatnonzero(np.bincount(group)[group] > 1).tolist()


def _word(name: str) -> str:
    """Make a class name one cell of a line, never empty."""
    return printable(name)[:40].strip() or "(blank)"


def _thumbnails(images: torch.Tensor) -> torch.Tensor:
    """Scale images (N, C, H, W) to 0..1, small enough that all fit into one sprite."""
    across = int(np.ceil(np.sqrt(len(images))))
    stride = int(np.ceil(across * max(images.shape[2:]) / MAX_SPRITE))
    return images[:, :, ::stride, ::stride].float() / 255
