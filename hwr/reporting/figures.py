"""Draw the confusion matrix, the learning curves and the reliability diagram with matplotlib."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hwr.charset import Charset
from hwr.errors import printable

MAX_CLASSES = 100
"""A larger confusion matrix shows the classes with the most errors."""
MAX_COUNTS = 600
"""With more cells to fill, the numbers are left out."""
BINS = 15
"""Of equal width, as in the expected calibration error."""


def confusion(counts: NDArray[np.int64], charset: Charset, title: str) -> bytes:
    """Draw a confusion matrix with digits, upper and lower case apart, as a PNG.

    Args:
        counts: Images of each true class (row) predicted as each class (column), shape (C, C).
        charset: The C classes.
        title: The title.
    """
    order, starts = _by_group(charset)
    errors = counts.sum(axis=1) + counts.sum(axis=0) - 2 * np.diag(counts)
    if len(order) > MAX_CLASSES:
        kept = set(np.argsort(-errors, kind="stable")[:MAX_CLASSES].tolist())
        order, starts = [index for index in order if index in kept], []
        title += f"\nthe {MAX_CLASSES} of {len(charset):,} classes with the most errors"
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(order, order)]
    diagonal = np.eye(len(order), dtype=bool)
    size = min(14.0, 5.0 + 0.12 * len(order))
    figure = Figure(figsize=(size, size), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    # Pale: the errors are of interest.
    axes.imshow(np.where(diagonal & (shares > 0), shares, np.nan), cmap="Greys", vmin=0, vmax=3)
    wrong = np.where(diagonal, 0, shares)
    colors = axes.imshow(np.where(wrong > 0, wrong, np.nan), cmap="YlOrRd", vmin=0)
    if wrong.any():
        bar = figure.colorbar(colors, ax=axes, shrink=0.5, aspect=40, pad=0.01)
        bar.set_label("errors: share of the images of a class (gray: correct)")
    cells = np.argwhere(wrong > 0)
    for row, column in cells if len(cells) <= MAX_COUNTS else ():
        color = "white" if wrong[row, column] > 0.6 * wrong.max() else "black"
        count = str(counts[order[row], order[column]])
        place: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}
        axes.text(column, row, count, fontsize=8, color=color, **place)
    _label_classes(axes, [_short(charset.names[index]) for index in order], starts)
    axes.set_title(title, fontsize=13, pad=10)
    axes.set_xlabel("predicted", fontsize=12)
    axes.set_ylabel("true", fontsize=12)
    return _png(figure)


def curves(history: Mapping[int, Mapping[str, float]], test: Mapping[str, float]) -> bytes:
    """Draw loss and accuracy by epoch as a PNG, 160 mm wide.

    Args:
        history: Epoch, from 1, to its metrics, such as `train/loss` and `val/acc`.
        test: The metrics of the test, such as `test/loss`.
    """
    figure = Figure(figsize=(6.3, 2.6), dpi=200, layout="constrained")
    names = {"loss": "loss", "acc": "accuracy"}
    for axes, (name, words) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for stage, color in (("train", "tab:gray"), ("val", "tab:blue")):
            tag = f"{stage}/{name}"
            points = [(epoch, row[tag]) for epoch, row in sorted(history.items()) if tag in row]
            if points:
                mark = "o" if len(points) <= 3 else ""
                axes.plot(
                    *zip(*points, strict=True), color=color, lw=1.3, marker=mark, ms=3, label=stage
                )
        if f"test/{name}" in test:
            value = test[f"test/{name}"]
            axes.axhline(value, color="tab:red", linestyle="--", linewidth=1, label="test")
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_ylabel(words, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_style(axes)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
    return _png(figure)


def reliability(probability: NDArray[np.float32], label: NDArray[np.int64]) -> bytes:
    """Draw how often predictions are correct by their probability as a PNG, 80 mm wide.

    Args:
        probability: Shape (N, C).
        label: Shape (N,).
    """
    confidence, correct = probability.max(axis=1), probability.argmax(axis=1) == label
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(index, minlength=BINS)
    filled = count > 0
    mean = np.bincount(index, confidence, BINS)[filled] / count[filled]
    share = np.bincount(index, correct, BINS)[filled] / count[filled]
    figure = Figure(figsize=(3.2, 3.3), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    size = 4 + 120 * count[filled] / len(label)
    axes.scatter(mean, share, s=size, color="tab:blue", zorder=3, clip_on=False)
    axes.set_xlabel("predicted probability (mean of each bin)", fontsize=8)
    axes.set_ylabel("share correct (dot area: images)", fontsize=8)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_aspect("equal")
    _plain_style(axes)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """Render a figure as the content of a PNG file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # characters that the font lacks
        figure.savefig(stream, format="png")
    return stream.getvalue()


def _short(name: str, length: int = 12) -> str:
    """Shorten a class name and escape what a terminal or matplotlib would interpret."""
    text = printable(name)
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")


def _by_group(charset: Charset) -> tuple[list[int], list[int]]:
    """Order classes by group; return the order and the position where each group starts."""
    order: list[int] = []
    starts = []
    for mask in charset.groups().values():
        starts.append(len(order))
        order += np.flatnonzero(mask).tolist()
    starts.append(len(order))
    return order + sorted(set(range(len(charset))) - set(order)), starts


def _label_classes(axes: Axes, names: Sequence[str], starts: Sequence[int]) -> None:
    """Write class names on all four sides, draw a grid, and lines between the groups."""
    count = len(names)
    turn = 90 if max(map(len, names)) > 2 else 0
    size = 9 if count <= 70 else 7
    axes.set_xticks(range(count), names, fontsize=size, rotation=turn)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.tick_params(top=True, labeltop=True, right=True, labelright=True, length=0)
    edges = np.arange(count + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="0.93", linewidth=0.5)
    axes.set_axisbelow(True)
    for start in starts:
        if 0 < start < count:
            axes.axhline(start - 0.5, color="0.25", linewidth=1.2)
            axes.axvline(start - 0.5, color="0.25", linewidth=1.2)


def _plain_style(axes: Axes) -> None:
    """Use small tick labels, a pale grid, and no frame above and to the right."""
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.5)
