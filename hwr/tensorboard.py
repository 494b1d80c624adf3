"""What a run shows in TensorBoard; the models know nothing of it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from hwr.errors import printable


def open_events(folder: Path) -> SummaryWriter:
    """A writer of a fresh event file; those of an earlier start in the folder are removed.

    A resumed run writes its earlier epochs again, so that no curve is doubled or broken.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(folder), flush_secs=10)


def write_scalars(writer: SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    """One point of each curve."""
    for tag, value in figures.items():
        writer.add_scalar(tag, value, epoch)


def write_confusion(
    writer: SummaryWriter, counts: NDArray[np.int64], names: Sequence[str], epoch: int
) -> None:
    """The confusion matrix of the test pictures as a picture, tag `test/confusion`."""
    figure = Figure(figsize=(11, 11), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # the root shows rare mistakes too
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{right} of {total} test pictures read rightly; square root of shares by row")
    axes.set_xlabel("read as")
    axes.set_ylabel("is")
    if len(names) <= 100:
        short = [printable(name)[:12].replace("$", r"\$") for name in names]
        turn = 90 if max(map(len, short)) > 2 else 0
        axes.set_xticks(range(len(names)), short, fontsize=7, rotation=turn)
        axes.set_yticks(range(len(names)), short, fontsize=7)
        axes.tick_params(top=True, labeltop=True, length=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # characters that the font hasn't
        writer.add_figure("test/confusion", figure, epoch)
