"""Figures of a run for TensorBoard and for print: confusion, curves, reliability."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hwr.alphabet import Alphabet
from hwr.errors import printable

MOST_CLASSES = 100
"""More don't fit into a picture with their names; those with most mistakes are shown."""
BINS = 15
"""Of equal width, as the expected calibration error has them."""
MOST_COUNTS = 600
"""Up to so many mistakes are counted in their cells."""


def short(name: str, length: int = 12) -> str:
    """A class name fit for a figure: no control characters, cut off, no mathematics."""
    text = printable(name)
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # characters that the font hasn't
        figure.savefig(stream, format="png")
    return stream.getvalue()


def confusion(counts: NDArray[np.int64], alphabet: Alphabet, title: str) -> Figure:
    """The confusion matrix: digits, upper and lower case apart, mistakes coloured, hits pale.

    Args:
        counts: Pictures of each true class (row) read as each class (column), shape (C, C).
        alphabet: The C classes.
        title: What it is of.
    """
    order, starts = _arranged(alphabet)
    wrong = counts.sum(axis=1) - np.diag(counts) + counts.sum(axis=0) - np.diag(counts)
    if len(order) > MOST_CLASSES:
        kept = set(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())
        order, starts = [index for index in order if index in kept], {}
        title += f"\nthe {MOST_CLASSES} of {len(alphabet):,} classes with most mistakes"
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(order, order)]
    hits, misses = np.diag(shares), shares - np.diag(np.diag(shares))
    size = min(14.0, 5.0 + 0.12 * len(order))
    figure = Figure(figsize=(size, size), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    drawn = np.diag(np.where(hits > 0, hits, np.nan))
    drawn[~np.eye(len(order), dtype=bool)] = np.nan
    axes.imshow(drawn, cmap="Greys", vmin=0, vmax=3)  # damped: the mistakes are what counts
    colour = axes.imshow(np.where(misses > 0, misses, np.nan), cmap="YlOrRd", vmin=0)
    if len(order) > 1 and misses.any():
        bar = figure.colorbar(colour, ax=axes, shrink=0.5, aspect=40, pad=0.01)
        bar.set_label("mistakes: share of the pictures of a class; hits are grey")
    _count(axes, counts[np.ix_(order, order)], misses)
    _name(axes, [short(alphabet.names[index]) for index in order], starts)
    axes.set_title(title, fontsize=13)
    axes.set_xlabel("read as", fontsize=12)
    axes.set_ylabel("is", fontsize=12)
    return figure


def _arranged(alphabet: Alphabet) -> tuple[list[int], dict[str, int]]:
    """Classes by group, and where each group starts; no starts where there is one only."""
    order: list[int] = []
    starts: dict[str, int] = {}
    for group, mask in alphabet.groups().items():
        starts[group] = len(order)
        order += np.flatnonzero(mask).tolist()
    others = [index for index in range(len(alphabet)) if index not in set(order)]
    if others and order:
        starts["others"] = len(order)
    return order + others, starts


def _count(axes: Axes, counts: NDArray[np.int64], misses: NDArray[np.float64]) -> None:
    """Numbers in the cells of mistakes, where there is room for them."""
    cells = np.argwhere(misses > 0)
    if len(cells) > MOST_COUNTS:
        return
    for row, column in cells:
        dark = misses[row, column] > 0.6 * misses.max()
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )


def _name(axes: Axes, names: Sequence[str], starts: Mapping[str, int]) -> None:
    """Class names on all four sides, a grid for the eye, and lines between the groups."""
    count = len(names)
    turn = 90 if max(map(len, names)) > 2 else 0
    size = 9 if count <= 70 else 7
    axes.set_xticks(range(count), names, fontsize=size, rotation=turn)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.tick_params(top=True, labeltop=True, right=True, labelright=True, length=0)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="0.93", linewidth=0.5)
    axes.set_axisbelow(True)
    for start in starts.values():
        for line in (axes.axhline, axes.axvline) if start else ():
            line(start - 0.5, color="0.25", linewidth=1.2)


def curves(
    history: Sequence[Mapping[str, float]], tests: Mapping[str, float], reported: int, title: str
) -> Figure:
    """Loss and accuracy by epoch, for print: 160 mm wide, 200 dots an inch.

    Args:
        history: The figures of each epoch, from the first.
        tests: `test/loss` and `test/acc` of the reported epoch.
        reported: The epoch whose weights were tested, from 1.
        title: What it is of.
    """
    figure = Figure(figsize=(6.3, 2.8), dpi=200, layout="constrained")
    for axes, (name, words) in zip(
        figure.subplots(1, 2), (("loss", "loss in nats"), ("acc", "accuracy")), strict=True
    ):
        for part, style in (("train", "tab:gray"), ("val", "tab:blue")):
            points = [
                (epoch, row[f"{part}/{name}"])
                for epoch, row in enumerate(history, start=1)
                if math.isfinite(row.get(f"{part}/{name}", math.nan))
            ]
            mark = "o" if len(points) <= 3 else ""
            if points:
                axes.plot(*zip(*points, strict=True), color=style, marker=mark, ms=3, label=part)
        axes.plot(
            reported, tests[f"test/{name}"], "D", color="tab:red", ms=4, label="test", zorder=3
        )
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_ylabel(words, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.5)
        axes.legend(fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def reliability(probability: NDArray[np.float32], label: NDArray[np.int64], title: str) -> Figure:
    """How often a reading is right, over how sure it was of it, for print: 80 mm wide.

    Args:
        probability: Shape (N, C).
        label: Shape (N,).
        title: What it is of.
    """
    sure, right = probability.max(axis=1), probability.argmax(axis=1) == label
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    count = np.bincount(places, minlength=BINS)
    found = count > 0
    mean = np.bincount(places, sure, BINS)[found] / count[found]
    share = np.bincount(places, right, BINS)[found] / count[found]
    figure = Figure(figsize=(3.2, 3.4), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    size = 4 + 120 * count[found] / len(label)
    axes.scatter(mean, share, s=size, color="tab:blue", zorder=3, clip_on=False)
    axes.set_xlabel("probability of what was read (mean of a bin)", fontsize=8)
    axes.set_ylabel("share read rightly (area: pictures)", fontsize=8)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_title(title, fontsize=7)
    return figure
