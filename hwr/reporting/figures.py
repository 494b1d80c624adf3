"""Draw confusion matrix, errors, learning curves and reliability diagram.

All plots are arrays (H, W, 3), uint8.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from torch.nn import functional
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from hwr.charset import Charset
from hwr.errors import sanitize

Plot = NDArray[np.uint8]
MAX_CLASSES = 100
"""A larger confusion matrix shows the classes with the most errors."""
MAX_COUNTS = 600
"""With more cells to fill, the numbers are left out."""
MAX_IMAGES, COLUMNS, WIDTH = 120, 10, 110
"""Images in a grid and in a row of it; pixels of the width of one."""
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
"""Covers more characters than Pillow's own font."""
CHARACTERS = FT2Font(str(FONT)).get_charmap().keys()
"""Code points that the font has."""


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


def confusion(result: TestResult, title: str) -> Plot:
    """Draw a confusion matrix, with lines between digits, upper and lower case."""
    charset = result.charset
    counts = confusion_matrix(result.label, result.prediction, labels=range(len(charset)))
    shown = np.arange(len(charset))
    if len(shown) > MAX_CLASSES:
        errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        shown = np.sort(np.argsort(-errors, kind="stable")[:MAX_CLASSES])
        title += f"\nthe {MAX_CLASSES} of {len(charset):,} classes with the most errors"
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    correct, wrong = np.diag(shares.diagonal()), shares - np.diag(shares.diagonal())
    names = [shorten(charset.names[index]) for index in shown]
    size = min(14.0, 5.0 + 0.12 * len(shown))
    figure = Figure(figsize=(size, size), dpi=110, layout="constrained")
    axes: Any = figure.add_subplot(title=title)
    # Pale: the errors are of interest.
    axes.imshow(np.where(correct > 0, correct, np.nan), cmap="Greys", vmin=0, vmax=3)
    display = ConfusionMatrixDisplay(np.where(wrong > 0, wrong, np.nan), display_labels=names)
    display.plot(ax=axes, cmap="YlOrRd", im_kw={"vmin": 0}, colorbar=False, include_values=False)
    if wrong.any():
        bar = figure.colorbar(display.im_, ax=axes, shrink=0.5, aspect=40, pad=0.01)
        bar.set_label("errors: share of the images of a class (gray: correct)")
    cells = np.argwhere(wrong > 0)
    for row, column in cells if len(cells) <= MAX_COUNTS else ():
        color = "white" if wrong[row, column] > 0.6 * wrong.max() else "black"
        style = {"fontsize": 8, "color": color, "ha": "center", "va": "center"}
        axes.text(column, row, counts[shown[row], shown[column]], in_layout=False, **style)
    axes.tick_params(top=True, labeltop=True, right=True, labelright=True, length=0, labelsize=9)
    axes.tick_params("x", rotation=90 if max(map(len, names)) > 2 else 0)
    lines = [np.flatnonzero(mask[shown])[:1] for mask in charset.groups().values()]
    pale, dark = np.arange(len(shown)) - 0.5, np.concatenate([*lines, []]) - 0.5
    for edges, color, order in ((pale, "0.93", 0), (dark, "0.25", 3)):
        axes.hlines(edges, -0.5, len(shown) - 0.5, color, linewidth=0.8, zorder=order)
        axes.vlines(edges, -0.5, len(shown) - 0.5, color, linewidth=0.8, zorder=order)
    return render(figure)


def curves(history: Mapping[int, Mapping[str, float]], test: Mapping[str, float]) -> Plot:
    """Draw loss and accuracy by epoch.

    Args:
        history: Epoch, from 1, to its metrics, such as `train/loss` and `val/acc`.
        test: The metrics of the test, such as `test/loss`.
    """
    epochs = pd.DataFrame.from_dict(dict(history), orient="index").sort_index()
    figure = Figure(figsize=(6.3, 2.6), dpi=200, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "acc"), strict=True):
        for stage, color in (("train", "tab:gray"), ("val", "tab:blue")):
            if f"{stage}/{name}" in epochs:
                points = epochs[f"{stage}/{name}"].dropna()
                axes.plot(points, color=color, linewidth=1.3, marker=".", label=stage)
        if f"test/{name}" in test:
            axes.axhline(test[f"test/{name}"], color="tab:red", linestyle="--", lw=1, label="test")
        axes.set(xlabel="epoch", ylabel={"acc": "accuracy"}.get(name, name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.5)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
    return render(figure)


def reliability(result: TestResult) -> Plot:
    """Draw how often predictions are correct by their probability."""
    confidence = result.probability.max(axis=1).clip(0, 1)
    correct = (result.prediction == result.label).astype(int)
    figure = Figure(figsize=(3.2, 3.8), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    share = np.full(len(correct), 1 / len(correct))
    axes.hist(confidence, 15, range=(0, 1), weights=share, color="0.85", label="share of images")
    CalibrationDisplay.from_predictions(
        correct, confidence, n_bins=15, ax=axes, name="share correct", ms=3, linewidth=1
    )
    axes.set(xlabel="predicted probability", ylabel="", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return render(figure)


def mistakes(result: TestResult) -> Plot:
    """Draw the errors with the highest predicted probabilities."""
    label, prediction, probability = result.label, result.prediction, result.probability
    names = [drawable(name)[:7] for name in result.charset.names]
    wrong = np.flatnonzero(prediction != label)
    rows = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")[:MAX_IMAGES]]
    captions = [
        f"true {names[label[row]]}  {probability[row, label[row]]:.1%}\n"
        f"pred {names[prediction[row]]}  {probability[row].max():.1%}"
        for row in rows
    ]
    title = f"{len(wrong):,} errors in {len(label):,} test images, most confident first"
    if len(rows) < len(wrong):
        title += f" ({len(rows)} shown)"
    return grid(title, result.images[rows], captions)


def grid(title: str, images: NDArray[np.uint8], captions: Sequence[str]) -> Plot:
    """Draw images with captions below a title.

    Args:
        title: The title.
        images: Shape (N, C, H, W), gray or color; the first `MAX_IMAGES` are drawn.
        captions: Of each image, one or two lines; the second is red.
    """
    tiles = torch.from_numpy(images[:MAX_IMAGES]).float()
    zoom = WIDTH / max(tiles.shape[3], 1.33 * tiles.shape[2])
    height, width = (max(1, round(side * zoom)) for side in tiles.shape[2:])
    tiles = functional.interpolate(tiles, (height, width), mode="nearest" if zoom > 1 else "area")
    tiles = functional.pad(tiles, (1, 1, 1, 1), value=208)  # a gray frame
    # White to the right of narrow images and for the caption.
    tiles = functional.pad(tiles, (0, WIDTH - width, 0, 32), value=255).byte()
    across, down = WIDTH + 10, height + 42
    rows = math.ceil(len(tiles) / COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * across + 8, rows * down + 48), "white")
    if len(tiles):
        canvas.paste(to_pil_image(make_grid(tiles, COLUMNS, padding=8, pad_value=255)), (0, 40))
    draw, font = ImageDraw.Draw(canvas), ImageFont.truetype(FONT, 12)
    draw.text((8, 10), drawable(title), "black", ImageFont.truetype(FONT, 18))
    for number, caption in enumerate(captions[:MAX_IMAGES]):
        x, y = number % COLUMNS * across + 8, number // COLUMNS * down + height + 52
        for line, color in zip(caption.split("\n"), ("black", "#b3261e"), strict=False):
            draw.text((x, y), drawable(line)[:17], color, font)
            y += 15
    return np.asarray(canvas)


def render(figure: Figure) -> Plot:
    """Render a figure to an array."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def drawable(text: str) -> str:
    """Compose accents, and replace characters that the font lacks by code points like U+6F22."""
    text = unicodedata.normalize("NFC", sanitize(text))
    return "".join(c if ord(c) in CHARACTERS else f"U+{ord(c):04X}" for c in text)


def shorten(name: str, length: int = 12) -> str:
    """Shorten a class name and escape what a terminal or matplotlib would interpret."""
    text = drawable(name)
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")
