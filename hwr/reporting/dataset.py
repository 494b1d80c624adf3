"""Show a dataset before training: what is in it, what looks odd, and an overview of its images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hwr.data import drawing, load_dataset, table
from hwr.data.cache import in_threads
from hwr.errors import DataError, printable
from hwr.files import atomic_write
from hwr.preprocessing import images

CELL = (48, 36)
"""Width and height of an image in the overview, in pixels."""
OVERVIEW = (100, 60)
"""Classes and images of each that the overview shows at most."""
ALIKE = 3.0
"""Root mean square difference, of 255 gray values, below which images are near-duplicates."""
COMPARED = 20_000
"""Up to so many images are compared pair by pair."""

Source = tuple[Sequence[str], Sequence[str], Sequence[str] | None, Callable[[int], Image.Image]]


def show(node: Mapping[str, Any], folder: Path) -> str:
    """Write `overview.png`, `statistics.png` and `images.csv` of a dataset.

    Args:
        node: Settings of the dataset.
        folder: Where the files go.

    Returns:
        The report as text.

    Raises:
        DataError: There is no dataset, or none of its images can be read.
    """
    wrong: list[str] = []
    files, labels, writers, opened = _source(node, wrong)
    cells: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    measured = in_threads(lambda row: _measure(opened, row), range(len(files)), "reading", "image")
    for number, found in enumerate(measured):
        if isinstance(found, str):
            wrong.append(f"{files[number]} {found}")
            continue
        row = {"file": files[number], "label": labels[number]}
        if writers is not None:
            row["writer"] = writers[number]
        rows.append({**row, **found[0]})
        cells.append(found[1])
    if not rows:
        raise DataError(f"no image of data={node.get('name')} can be read: {wrong[0]}")
    frame, thumbs = pd.DataFrame(rows), np.stack(cells)
    with atomic_write(folder / "images.csv") as temporary:
        frame.to_csv(temporary, index=False)
    with atomic_write(folder / "overview.png") as temporary:
        _overview(frame, thumbs).save(temporary, format="PNG")
    with atomic_write(folder / "statistics.png") as temporary:
        _statistics(frame).savefig(temporary, format="png")
    return _report(frame, thumbs, wrong, folder)


def _source(node: Mapping[str, Any], wrong: list[str]) -> Source:
    """Return files, labels, writers, and a function that opens the image of a row."""
    if node["_target_"] == "hwr.data.FolderDataset":
        names = ("root", "csv", "image_column", "label_column", "writer_column")
        rows = table.read(*(node[name] for name in names))
        wrong += [f"row {row}: {what}" if row else what for row, what in rows.wrong]

        def open_file(row: int) -> Image.Image:
            return images.open_limited(rows.paths[row], node["max_pixels"])

        return rows.files, rows.labels, rows.writers, open_file
    if node["_target_"] == "hwr.data.SyntheticDataset":
        count = node["writers"]
        drawn = lru_cache(4)(lambda writer: drawing.draw_images(writer, node["seed"]))
        files, labels = drawing.files_and_labels(count)
        # Writer by writer, so that none is drawn again for every character.
        order = [c * count + w for w in range(count) for c in range(62)]
        files, labels = tuple(files[i] for i in order), tuple(labels[i] for i in order)
        by_writer = (files, labels, table.writers_of(files))
        return *by_writer, lambda row: drawn(row // 62 + 1)[row % 62]
    if node["_target_"] == "hwr.data.EmnistDataset":
        node = {**node, "height": 28, "width": 28, "preprocessing": "notebook"}
    dataset = load_dataset(node)
    labels = tuple(dataset.charset.names[label] for label in dataset.labels)
    writers = None if dataset.writers is None else list(map(str, dataset.writers))
    arrays = dataset.images.permute(0, 2, 3, 1).squeeze(3).numpy()
    return dataset.files, labels, writers, lambda row: Image.fromarray(arrays[row])


def _measure(
    opened: Callable[[int], Image.Image], row: int
) -> tuple[dict[str, Any], NDArray[np.uint8]] | str:
    """Measure an image, and make a small one of it; or say what is wrong with it."""
    with ExitStack() as held:
        try:
            with opened(row) as image:
                held.enter_context(images.turn(image))
                mode, gray = image.mode, images.convert(image)
        except Exception as error:  # Pillow raises many kinds for broken files
            return f"cannot be read as an image ({images.why(error)})"
        del image
        return _measured(mode, gray)


def _measured(mode: str, gray: Image.Image) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    histogram = np.array(gray.histogram())
    background = int(np.searchsorted(np.cumsum(histogram), gray.width * gray.height / 2))
    ink = gray.point([255 * (abs(value - background) > 64) for value in range(256)])
    left, top, right, bottom = ink.getbbox() or (0, 0, 0, 0)
    found = {
        "width": gray.width,
        "height": gray.height,
        "mode": mode,
        "ink_width": right - left,
        "ink_height": bottom - top,
        "ink_x": (left + right) / 2,
        "ink_y": (top + bottom) / 2,
        "empty": right == left,
        "inverted": background < 128,
        "at_border": right > left
        and (left == 0 or top == 0 or right == gray.width or bottom == gray.height),
    }
    return found, np.asarray(gray.resize(CELL))


def _duplicates(thumbs: NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """List pairs of images that differ by less than `ALIKE`, and by how much, nearest first."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    square = (flat**2).sum(axis=1)
    pairs = []
    for start in range(0, len(flat), 1000):
        part = slice(start, start + 1000)
        distance = square[part, None] + square[None] - 2 * flat[part] @ flat.T
        near = np.argwhere(distance < ALIKE**2 * flat.shape[1])
        pairs += [
            (int(i) + start, int(j), float(max(distance[i, j], 0) / flat.shape[1]) ** 0.5)
            for i, j in near
            if i + start < j
        ]
    return sorted(pairs, key=lambda pair: pair[2])


def _report(
    frame: pd.DataFrame,
    thumbs: NDArray[np.uint8],
    wrong: Sequence[str],
    folder: Path,
) -> str:
    counts = frame["label"].value_counts()
    each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}-{counts.max()}"
    people = f", {frame['writer'].nunique()} writers" if "writer" in frame else ""
    sizes = (frame["width"].astype(str) + " x " + frame["height"].astype(str)).value_counts()
    odd = ["empty", "inverted", "at_border"]
    by_class = frame.groupby("label").agg(
        images=("file", "size"), height=("ink_height", "median"), width=("ink_width", "median")
    )
    by_class.index = by_class.index.map(_short)
    lines = [
        f"{len(frame):,} images, {len(counts):,} classes of {each} images{people}",
        f"sizes  {_counts(sizes)}",
        f"modes  {_counts(frame['mode'].value_counts())}",
        "",
        frame.drop(columns=odd).head().map(_short).to_string(),
        "",
        frame[["ink_height", "ink_width", "ink_x", "ink_y"]].describe().round(1).to_string(),
        "",
        "images of each class, and medians of its ink in pixels"
        + (" (first 100)" if len(by_class) > 100 else ""),
        _in_columns(by_class.head(100).to_string().splitlines()),
        "",
    ]
    for name, words in zip(odd, ("empty", "inverted", "touching the border"), strict=True):
        lines.append(_listed(words, frame["file"][frame[name]].tolist()))
    if len(frame) > COMPARED:
        lines.append(f"near-duplicates: not looked for in more than {COMPARED:,} images")
    else:
        files, labels = frame["file"], frame["label"]
        pairs = [
            f"{files[i]} ({labels[i]}) = {files[j]} ({labels[j]})"
            for i, j, _ in _duplicates(thumbs)
        ]
        lines.append(_listed("near-duplicates", pairs))
    lines.append(_listed("wrong", wrong))
    names = "overview.png, statistics.png and images.csv"
    return "\n".join([*lines, f"{names} are in {printable(str(folder))}"])


def _counts(counts: "pd.Series[int]") -> str:
    listed = ", ".join(f"{name} ({count:,})" for name, count in counts.head(8).items())
    return listed + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")


def _listed(words: str, names: Sequence[str]) -> str:
    if not names:
        return f"{words}: none"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{words}: {len(names):,}: {printable('; '.join(names[:5]))}{more}"


def _short(value: object) -> object:
    """Remove control characters, and cut off what is too long for a table."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return text if len(text) <= 32 else f"{text[:31]}…"


def _in_columns(lines: Sequence[str]) -> str:
    """Lay out a long table in three columns, the head above each."""
    head, body = lines[:1], lines[1:]
    rows = -(-len(body) // 3)
    parts = [[*head, *body[start : start + rows]] for start in range(0, len(body), rows)]
    width = max(map(len, lines))
    longest = max(map(len, parts))
    padded = [[*part, *[""] * (longest - len(part))] for part in parts]
    return "\n".join("    ".join(cells).rstrip() for cells in _wide(padded, width))


def _wide(parts: list[list[str]], width: int) -> list[tuple[str, ...]]:
    return [tuple(cell.ljust(width) for cell in row) for row in zip(*parts, strict=True)]


def _overview(frame: pd.DataFrame, thumbs: NDArray[np.uint8]) -> Image.Image:
    """Draw classes downwards, writers (or any images, where these are unknown) to the right."""
    classes = sorted(frame["label"].unique())[: OVERVIEW[0]]
    key = "writer" if "writer" in frame else None
    columns = (
        sorted(frame[key].unique(), key=lambda name: (len(name), name))[: OVERVIEW[1]]
        if key
        else list(range(min(OVERVIEW[1], int(frame["label"].value_counts().max()))))
    )
    width, height = CELL
    shown = {name: printable(name)[:16] for name in classes}
    left = 16 + 8 * max(map(len, shown.values()))
    canvas = Image.new("L", (left + width * len(columns), 20 + height * len(classes)), 255)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for x, name in enumerate(columns):
        text = str(int(name)) if key and str(name).isdecimal() else str(name)[:6] if key else ""
        pen.text((left + (x + 0.5) * width, 10), text, 90, font, anchor="mm")
    place = {name: number for number, name in enumerate(columns)}
    for y, name in enumerate(classes):
        pen.text((8, 20 + (y + 0.5) * height), shown[name], 0, font, anchor="lm")
        for x, row in enumerate(np.flatnonzero(frame["label"] == name)):
            column = place.get(frame[key][row]) if key else x
            if column is not None and column < len(columns):
                cell = Image.fromarray(thumbs[row])
                canvas.paste(cell, (left + column * width, 20 + y * height))
    for x in range(len(columns) + 1):
        pen.line([(left + x * width, 20), (left + x * width, canvas.height)], 220)
    for y in range(len(classes) + 1):
        pen.line([(left, 20 + y * height), (canvas.width, 20 + y * height)], 220)
    return canvas


def _statistics(frame: pd.DataFrame) -> Figure:
    """Plot images and ink by class, and where the ink lies."""
    figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
    axes = figure.subplot_mosaic([["count", "count"], ["size", "size"], ["place", "spread"]])
    groups = frame.groupby("label")
    names = list(groups.groups)
    at = np.arange(len(names))
    axes["count"].bar(at, groups.size(), color="0.6")
    axes["count"].set_title("images of each class")
    for column, color in (("ink_height", "tab:blue"), ("ink_width", "tab:orange")):
        low, middle, high = (groups[column].quantile(q) for q in (0.25, 0.5, 0.75))
        axes["size"].errorbar(
            at, middle, [middle - low, high - middle], fmt="o", ms=4, color=color, label=column
        )
    axes["size"].set_title("ink of each class in pixels: median and quartiles")
    axes["size"].legend()
    for name in ("count", "size"):
        axes[name].margins(x=0.01)
        if len(names) <= 100 and all(label.isascii() for label in names):
            axes[name].set_xticks(at, [label.replace("$", r"\$") for label in names])
    axes["place"].scatter(
        frame["ink_x"] / frame["width"], frame["ink_y"] / frame["height"], s=4, alpha=0.3
    )
    axes["place"].set(xlim=(0, 1), ylim=(1, 0), title="middle of the ink, share of the image")
    for column in ("height", "width"):
        share = frame[f"ink_{column}"] / frame[column]
        axes["spread"].hist(share, bins=50, range=(0, 1), histtype="step", label=f"ink {column}")
    axes["spread"].set(xlim=(0, 1), title="ink, share of the image")
    axes["spread"].legend()
    return figure
