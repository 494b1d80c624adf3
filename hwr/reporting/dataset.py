"""Show a dataset before training: what is in it, what looks odd, and an overview of its images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import triu
from sklearn.neighbors import radius_neighbors_graph
from torchvision.utils import make_grid

from hwr.data import load_dataset
from hwr.errors import sanitize
from hwr.files import atomic_write
from hwr.reporting.figures import Plot, render, shorten

MAX_CLASSES, MAX_COLUMNS, MAX_SIDE = 100, 60, 64
"""Classes, images of each, and pixels of their sides that the figures show at most."""
NEAR = 3.0
"""Root mean square difference, of 255 gray values, below which images are near-duplicates."""
MAX_COMPARED = 20_000
"""So many images are searched for near-duplicates."""


def show(node: Mapping[str, Any], folder: Path) -> str:
    """Write `overview.png`, `statistics.png` and `images.csv` of a dataset.

    Images are measured in pixels as the model gets them, of `data.height` x `data.width`.

    Args:
        node: Settings of the dataset.
        folder: Where the files go.

    Returns:
        The report as text.

    Raises:
        DataError: There is no dataset, or some of its images are broken.
    """
    dataset = load_dataset(node)
    gray = dataset.images.float().mean(1).round().byte().numpy()
    frame = pd.DataFrame({"file": dataset.files, "label": dataset.labels.tolist()})
    frame["label"] = frame["label"].map(dict(enumerate(dataset.charset.names)))
    if dataset.writers is not None:
        frame["writer"] = dataset.writers
    frame = frame.join(_measure(gray))
    with atomic_write(folder / "images.csv") as temporary:
        frame.to_csv(temporary, index=False)
    plots = {"overview.png": _overview(frame, gray), "statistics.png": _statistics(frame)}
    for name, plot in plots.items():
        with atomic_write(folder / name) as temporary:
            Image.fromarray(plot).save(temporary, format="PNG")
    counts = frame["label"].value_counts()
    each = "-".join(map(str, sorted({counts.min(), counts.max()})))
    writers = f", {frame['writer'].nunique()} writers" if "writer" in frame else ""
    aspect = np.divide(*dataset.file_sizes(np.arange(1))[0])
    size = f"{dataset.width} x {dataset.height}, files {aspect:.3g} times as wide as high"
    odd = {name: frame["file"][frame[name]].tolist() for name in ("empty", "inverted", "at_border")}
    odd["near_duplicates"] = _near_duplicates(frame["file"], gray)
    lines = [
        f"{len(frame):,} images of {size}, {len(counts):,} classes of {each} images{writers}",
        frame[["ink_height", "ink_width", "ink_x", "ink_y"]].describe().round(1).to_string(),
        *(
            f"{name}: {len(files):,}  {'; '.join(files[:5])}".rstrip()
            for name, files in odd.items()
        ),
        f"overview.png, statistics.png and images.csv are in {folder}",
    ]
    return "\n".join(map(sanitize, "\n".join(lines).split("\n")))


def _measure(gray: NDArray[np.uint8]) -> pd.DataFrame:
    """Measure where the ink of images (N, H, W) lies, in pixels."""
    background = np.median(gray, axis=(1, 2), keepdims=True)
    ink = abs(gray - background) > 64
    rows, columns = ink.any(axis=2), ink.any(axis=1)
    top, left = rows.argmax(axis=1), columns.argmax(axis=1)
    bottom = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
    right = columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    empty = ~rows.any(axis=1)
    return pd.DataFrame(
        {
            "ink_width": np.where(empty, 0, right - left),
            "ink_height": np.where(empty, 0, bottom - top),
            "ink_x": (left + right) / 2,
            "ink_y": (top + bottom) / 2,
            "empty": empty,
            "inverted": background[:, 0, 0] < 128,
            "at_border": rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1],
        }
    )


def _near_duplicates(files: "pd.Series[str]", gray: NDArray[np.uint8]) -> list[str]:
    """List pairs of images (N, H, W) that differ by less than `NEAR`."""
    flat = gray[:MAX_COMPARED].reshape(-1, gray[0].size).astype(np.float32)
    pairs = triu(radius_neighbors_graph(flat, NEAR * flat.shape[1] ** 0.5)).tocoo()
    return [f"{files[i]} = {files[j]}" for i, j in zip(pairs.row, pairs.col, strict=True)]


def _overview(frame: pd.DataFrame, gray: NDArray[np.uint8]) -> Plot:
    """Draw classes downwards, writers (or any images, where these are unknown) to the right."""
    column = frame["writer"] if "writer" in frame else frame.groupby("label").cumcount()
    cells = frame.assign(column=column, row=frame.index)
    cells = cells.pivot_table("row", "label", "column", "first").iloc[:MAX_CLASSES, :MAX_COLUMNS]
    stride = -(-max(gray.shape[1:]) // MAX_SIDE)
    gray = gray[:, ::stride, ::stride]
    tiles = np.append(gray, np.full_like(gray[:1], 255), axis=0)  # the last is empty
    chosen = torch.from_numpy(tiles[cells.fillna(-1).to_numpy(int).ravel()])[:, None]
    sheet = make_grid(chosen, cells.shape[1], padding=1, pad_value=220).permute(1, 2, 0).numpy()
    size = (sheet.shape[1] / 80 + 1, sheet.shape[0] / 80 + 0.5)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.add_subplot(frame_on=False)
    axes.imshow(sheet)
    y, x = (np.arange(n) + 0.5 for n in cells.shape)
    axes.set_xticks(x * (gray.shape[2] + 1), [shorten(str(name), 6) for name in cells.columns])
    axes.set_yticks(y * (gray.shape[1] + 1), [shorten(name) for name in cells.index])
    axes.tick_params(length=0, labeltop=True)
    return render(figure)


def _statistics(frame: pd.DataFrame) -> Plot:
    """Plot the number of images and the size of the ink of each class, and where the ink lies."""
    counts = frame["label"].value_counts().sort_index()[:MAX_CLASSES]
    shown = frame[frame["label"].isin(counts.index)]
    figure = Figure(figsize=(14, 12), dpi=100, layout="constrained")
    axes = figure.subplots(4)
    axes[0].bar(range(1, len(counts) + 1), counts, color="0.6")
    for column, place in zip(("ink_height", "ink_width"), axes[1:], strict=False):
        place.boxplot([group for _, group in shown.groupby("label")[column]], sym=".")
    for place, title in zip(axes, ("images", "ink height", "ink width"), strict=False):
        place.set_xticks(range(1, len(counts) + 1), [shorten(name) for name in counts.index])
        place.set(title=f"{title} of each class", xmargin=0.01)
    axes[3].scatter(frame["ink_x"], frame["ink_y"], s=4, alpha=0.1)
    axes[3].set(title="center of the ink in pixels", aspect="equal")
    axes[3].invert_yaxis()
    return render(figure)
