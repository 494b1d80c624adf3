"""Draw the plots of a test and write TensorBoard's own views of it, for models and the forest."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import classification_report
from torch.utils.tensorboard import SummaryWriter

from hwr.errors import sanitize
from hwr.files import atomic_write
from hwr.reporting import figures
from hwr.reporting.figures import Plot, TestResult

MAX_POINTS = 5000
"""More embeddings move slowly in a browser."""
MAX_THUMBNAIL = 64
"""Pixels of the height and width of an image in the projector, whose textures are limited."""
PACKAGES = ("hwr", "torch", "torchvision", "pytorch-lightning", "scikit-learn", "numpy")


def draw(result: TestResult, name: str) -> dict[str, Plot]:
    """Draw the plots of a test by tag; `name` is that of the model."""
    correct, count = int((result.prediction == result.label).sum()), len(result.label)
    title = f"{name}: {correct:,} of {count:,} test images correct ({correct / count:.1%})"
    return {
        "test/confusion": figures.confusion(result, figures.drawable(title)),
        "test/mistakes": figures.mistakes(result),
        "test/reliability": figures.reliability(result),
    }


def save(plots: Mapping[str, Plot], folder: Path) -> None:
    """Write the plots of a test into a folder, such as `test/confusion` as `confusion.png`."""
    for tag, plot in plots.items():
        with atomic_write(folder / f"{tag.removeprefix('test/')}.png") as temporary:
            Image.fromarray(plot).save(temporary, format="PNG")


def write_settings(writer: SummaryWriter, settings: Mapping[str, Any]) -> None:
    """Write settings, versions and machine for TensorBoard's text tab."""
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    writer.add_text("run/settings", _code(text))
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines = [f"Python {platform.python_version()}", *versions, platform.platform(), gpu]
    writer.add_text("run/environment", _code("\n".join(lines)))


def write_test(
    writer: SummaryWriter, result: TestResult, embedding: NDArray[np.float32], step: int
) -> None:
    """Write a precision-recall curve, embeddings and a table of a test for TensorBoard.

    Args:
        writer: Where to write.
        result: The test.
        embedding: A point for each of the test images, shape (N, D).
        step: The step of the training.
    """
    label, probability, prediction = result.label, result.probability, result.prediction
    names = [sanitize(name)[:24].strip() or "(blank)" for name in result.charset.names]
    report = classification_report(
        label, prediction, labels=range(len(names)), target_names=names, digits=3, zero_division=0
    )
    writer.add_text("test/per_class", _code(report), step)
    writer.add_pr_curve("pr/all", label[:, None] == np.arange(len(names)), probability, step)
    rows = [
        [names[true], names[guess], "correct" if true == guess else "wrong"]
        for true, guess in zip(label[:MAX_POINTS], prediction, strict=False)
    ]
    stride = -(-max(result.images.shape[2:]) // MAX_THUMBNAIL)
    thumbnails = torch.from_numpy(result.images[:MAX_POINTS, :, ::stride, ::stride]) / 255
    head = ["true", "predicted", "outcome"]
    points = embedding[:MAX_POINTS].astype(np.float64).round(4)  # written as text
    writer.add_embedding(points, rows, thumbnails, step, "test_images", head)


def _code(text: str) -> str:
    """Format text as a Markdown block of code."""
    return "\n".join(f"    {sanitize(line)}" for line in text.split("\n"))
