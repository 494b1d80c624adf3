"""Sheets of pictures with words beneath: mistakes, best and worst, a batch, filters."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hwr.alphabet import Alphabet
from hwr.errors import printable

Grey = NDArray[np.uint8]
WIDTH = 1200
"""Of a sheet, in pixels: what a browser shows without scaling."""
MOST_MISTAKES, MOST_CLASSES, MOST_FILTERS, MOST_OF_BATCH = 120, 100, 144, 64
RED, GREEN, DARK, PALE = "#b3261e", "#1b6e3c", "#202020", "#808080"


@dataclass(frozen=True)
class Cell:
    """A picture and what is written beneath it.

    Attributes:
        pictures: Grey arrays side by side, each shape (H, W).
        lines: Text and colour of each line.
    """

    pictures: Sequence[Grey]
    lines: Sequence[tuple[str, str]] = ()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: it knows far more alphabets than Pillow's."""
    file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, size)


def sheet(title: str, cells: Sequence[Cell], note: str = "", across: int | None = None) -> bytes:
    """A grid of cells beneath a title, as the content of a PNG file.

    Args:
        title: The heading.
        cells: All with the same number of pictures of the same shape, and of lines.
        note: A second, paler line of the heading.
        across: Cells in a row; None: as many as fit.
    """
    if not cells:
        return _save(_headed(title, note, 0)[0])
    height, width = cells[0].pictures[0].shape
    room = 124 if len(cells[0].pictures) == 1 else 88  # pixels across
    if len(cells) == 1:
        room = 480
    zoom = min(0.75 * room / height, room / width)
    zoom = min(round(zoom), 24) if zoom > 1 else min(1.0, 2 * zoom)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    gap, line = 8, 17
    side = size[0] * len(cells[0].pictures) + 3 * (len(cells[0].pictures) - 1)
    stride = side + gap
    across = across or max(1, min(len(cells), (WIDTH - gap) // stride))
    tall = size[1] + line * len(cells[0].lines) + gap + 4
    canvas, top = _headed(title, note, -(-len(cells) // across) * tall, across * stride + gap)
    pen = ImageDraw.Draw(canvas)
    for number, cell in enumerate(cells):
        left, upper = gap + number % across * stride, top + number // across * tall
        for place, picture in enumerate(cell.pictures):
            x = left + place * (size[0] + 3)
            drawn = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
            canvas.paste(drawn, (x, upper))
            pen.rectangle((x - 1, upper - 1, x + size[0], upper + size[1]), outline="#d0d0d0")
        for row, (text, colour) in enumerate(cell.lines):
            y = upper + size[1] + 3 + row * line
            pen.text((left, y), _fitted(pen, text, side), colour, _font(12))
    return _save(canvas)


def _headed(title: str, note: str, below: int, wide: int = 0) -> tuple[Image.Image, int]:
    """An empty sheet with its heading, and where the cells begin, in pixels."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    needed = max(pen.textlength(title, _font(18)), pen.textlength(note, _font(13)))
    top = 64 if note else 42
    canvas = Image.new("RGB", (max(wide, int(needed) + 24), top + below + 4), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((8, 10), title, DARK, _font(18))
    pen.text((8, 37), note, PALE, _font(13))
    return canvas, top


def _fitted(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Text cut off where the cell ends."""
    text = printable(text)
    if pen.textlength(text, _font(12)) <= width:
        return text
    while text and pen.textlength(f"{text}…", _font(12)) > width:
        text = text[:-1]
    return f"{text}…"


def _save(canvas: Image.Image) -> bytes:
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def mistakes(
    image: Grey, label: NDArray[np.int64], probability: NDArray[np.float32], alphabet: Alphabet
) -> bytes:
    """The mistakes made with most confidence, worst first.

    Args:
        image: Shape (N, H, W).
        label: Shape (N,).
        probability: Shape (N, C).
        alphabet: The C classes.
    """
    guess = probability.argmax(axis=1)
    wrong = np.flatnonzero(guess != label)
    worst = wrong[np.argsort(-probability[wrong, guess[wrong]], kind="stable")][:MOST_MISTAKES]
    names = alphabet.names
    cells = [
        Cell(
            [image[row]],
            [
                (f"is {names[label[row]]}", DARK),
                (f"read {names[guess[row]]}  {probability[row, guess[row]]:.0%}", RED),
                (f"own {probability[row, label[row]]:.1%}", PALE),
            ],
        )
        for row in worst
    ]
    title = f"{len(wrong):,} of {len(label):,} test pictures read wrongly"
    shown = "all" if len(worst) == len(wrong) else f"the {len(worst)} of which the model was surest"
    note = f"{shown}, the surest first" if len(worst) else ""
    return sheet(title, cells, note)


def extremes(
    image: Grey, label: NDArray[np.int64], probability: NDArray[np.float32], alphabet: Alphabet
) -> bytes:
    """Each class's picture with the highest and with the lowest probability of being it.

    Arguments as of `mistakes`. Of more than a hundred classes the worst are shown.
    """
    own, guess = probability[np.arange(len(label)), label], probability.argmax(axis=1)
    found = []
    for index in np.unique(label):
        rows = np.flatnonzero(label == index)
        found.append((rows[own[rows].argmax()], rows[own[rows].argmin()]))
    if many := len(found) > MOST_CLASSES:
        found = sorted(found, key=lambda pair: own[pair[1]])[:MOST_CLASSES]
    cells = []
    for best, worst in found:
        right = guess[worst] == label[worst]
        read = "" if right else f", read {alphabet.names[guess[worst]]}"
        cells.append(
            Cell(
                [image[best], image[worst]],
                [
                    (f"{alphabet.names[label[best]]}: best {own[best]:.0%}", DARK),
                    (f"worst {own[worst]:.1%}{read}", GREEN if right else RED),
                ],
            )
        )
    title = "Best and worst of each class" + (f", the {MOST_CLASSES} worst" if many else "")
    return sheet(title, cells, "test pictures by the probability of their own class")


def batch(image: Grey, label: NDArray[np.int64], alphabet: Alphabet, epoch: int) -> bytes:
    """Training pictures as the network is fed them; arguments as of `mistakes`."""
    shown = range(min(len(label), MOST_OF_BATCH))
    cells = [Cell([image[row]], [(alphabet.names[label[row]], DARK)]) for row in shown]
    return sheet("A training batch as the network sees it", cells, f"the first of epoch {epoch}")


def filters(weight: NDArray[np.float32]) -> bytes:
    """Weights of a network's first layer, shape (K, h, w), as pictures."""
    shown = weight[:MOST_FILTERS]
    # Single outliers would leave the others grey.
    span = np.maximum(np.quantile(np.abs(shown), 0.995, axis=(1, 2), keepdims=True), 1e-12)
    grey = np.clip(127.5 + 127.5 * shown / span, 0, 255).astype(np.uint8)
    some = f", the first {len(shown)}" if len(shown) < len(weight) else ""
    title = f"The {len(weight)} filters of the first layer{some}"
    note = "white positive, black negative, grey none; each scaled by itself"
    return sheet(title, [Cell([picture]) for picture in grey], note)


def importance(weight: NDArray[np.float32]) -> bytes:
    """How much a forest's trees heed each pixel, at least 0, shape (1, H, W), as a picture."""
    grey = (255 * weight / max(float(weight.max()), 1e-12)).astype(np.uint8)
    note = "white: most; by how far splits there part the classes"
    return sheet("How much the trees heed each pixel", [Cell([grey[0]])], note)
