"""Draw grids of images with captions: errors, best and worst, a training batch, filters."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hwr.charset import Charset
from hwr.errors import printable

Images = NDArray[np.uint8]
WIDTH = 1200
"""Of a grid, in pixels: a browser shows it unscaled."""
MAX_MISTAKES, MAX_CLASSES, MAX_FILTERS, MAX_BATCH = 120, 100, 144, 64
RED, GREEN, DARK, PALE = "#b3261e", "#1b6e3c", "#202020", "#808080"


@dataclass(frozen=True)
class Cell:
    """Hold the images of one cell of a grid and the caption below them.

    Attributes:
        images: Side by side, each uint8 of shape (C, H, W), gray or color.
        lines: Text and color of each line of the caption.
    """

    images: Sequence[Images]
    lines: Sequence[tuple[str, str]] = ()


def grid(title: str, cells: Sequence[Cell], note: str = "", columns: int | None = None) -> bytes:
    """Draw cells below a title as a PNG.

    Args:
        title: The heading.
        cells: All with the same number of images of the same shape, and of lines.
        note: A second, paler line of the heading.
        columns: Cells in a row; None: as many as fit.
    """
    if not cells:
        return _png(_with_heading(title, note, 0)[0])
    count, (_, height, width) = len(cells[0].images), cells[0].images[0].shape
    room = 480 if len(cells) == 1 else 124 if count == 1 else 88  # pixels for an image
    zoom = min(0.75 * room / height, room / width)
    zoom = min(round(zoom), 24) if zoom > 1 else min(1.0, 2 * zoom)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    gap, line = 8, 17
    side = size[0] * count + 3 * (count - 1)
    columns = columns or max(1, min(len(cells), (WIDTH - gap) // (side + gap)))
    row_height = size[1] + line * len(cells[0].lines) + gap + 4
    below = -(-len(cells) // columns) * row_height
    canvas, top = _with_heading(title, note, below, columns * (side + gap) + gap)
    draw = ImageDraw.Draw(canvas)
    for number, cell in enumerate(cells):
        left, upper = gap + number % columns * (side + gap), top + number // columns * row_height
        for position, image in enumerate(cell.images):
            x = left + position * (size[0] + 3)
            pixels = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, 2))
            canvas.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (x, upper))
            draw.rectangle((x - 1, upper - 1, x + size[0], upper + size[1]), outline="#d0d0d0")
        for row, (text, color) in enumerate(cell.lines):
            place = (left, upper + size[1] + 3 + row * line)
            draw.text(place, _cut_off(draw, text, side), color, _font(12))
    return _png(canvas)


def mistakes(
    images: Images, label: NDArray[np.int64], probability: NDArray[np.float32], charset: Charset
) -> bytes:
    """Draw the errors with the highest predicted probabilities as a PNG.

    Args:
        images: Shape (N, C, H, W).
        label: Shape (N,).
        probability: Shape (N, classes).
        charset: The classes.
    """
    prediction = probability.argmax(axis=1)
    wrong = np.flatnonzero(prediction != label)
    highest = np.argsort(-probability[wrong, prediction[wrong]], kind="stable")[:MAX_MISTAKES]
    cells = []
    for row in wrong[highest]:
        true, other = label[row], prediction[row]
        lines = [
            (f"true {charset.names[true]}  {probability[row, true]:.1%}", DARK),
            (f"pred {charset.names[other]}  {probability[row, other]:.0%}", RED),
        ]
        cells.append(Cell([images[row]], lines))
    which = (
        "most confident first" if len(cells) == len(wrong) else f"the {len(cells)} most confident"
    )
    note = f"{which}, with the probabilities of the true and the predicted class" if cells else ""
    return grid(f"{len(wrong):,} errors in {len(label):,} test images", cells, note)


def extremes(
    images: Images, label: NDArray[np.int64], probability: NDArray[np.float32], charset: Charset
) -> bytes:
    """Draw each class's image with the highest and the lowest probability of it as a PNG.

    Arguments as in `mistakes`. With more than a hundred classes the worst are shown.
    """
    own, prediction = probability[np.arange(len(label)), label], probability.argmax(axis=1)
    pairs = []
    for index in np.unique(label):
        rows = np.flatnonzero(label == index)
        pairs.append((rows[own[rows].argmax()], rows[own[rows].argmin()]))
    title = "Best and worst image of each class"
    if len(pairs) > MAX_CLASSES:
        pairs = sorted(pairs, key=lambda pair: float(own[pair[1]]))[:MAX_CLASSES]
        title += f", the {MAX_CLASSES} worst classes"
    cells = []
    for best, worst in pairs:
        correct = prediction[worst] == label[worst]
        other = "" if correct else f" ({charset.names[prediction[worst]]})"
        lines = [
            (f"{charset.names[label[best]]}: best {own[best]:.0%}", DARK),
            (f"worst {own[worst]:.1%}{other}", GREEN if correct else RED),
        ]
        cells.append(Cell([images[best], images[worst]], lines))
    note = "test images by the probability of their true class; red: predicted as another (which)"
    return grid(title, cells, note)


def batch(images: Images, label: NDArray[np.int64], charset: Charset, epoch: int) -> bytes:
    """Draw training images as the model gets them as a PNG; arguments as in `mistakes`."""
    shown = range(min(len(label), MAX_BATCH))
    cells = [Cell([images[row]], [(charset.names[label[row]], DARK)]) for row in shown]
    return grid("A training batch as the model gets it", cells, f"the first of epoch {epoch}")


def filters(weight: NDArray[np.float32]) -> bytes:
    """Draw the weights of a first layer, shape (K, C, h, w) with C of 1 or 3, as a PNG."""
    shown = weight[:MAX_FILTERS]
    # Single outliers would leave the others gray.
    span = np.maximum(np.quantile(np.abs(shown), 0.995, axis=(1, 2, 3), keepdims=True), 1e-12)
    gray = np.clip(127.5 + 127.5 * shown / span, 0, 255).astype(np.uint8)
    first = f", the first {len(shown)}" if len(shown) < len(weight) else ""
    title = f"The {len(weight)} filters of the first layer{first}"
    note = "bright positive, dark negative, gray zero; each scaled by itself"
    return grid(title, [Cell([image]) for image in gray], note)


def importance(weight: NDArray[np.float32]) -> bytes:
    """Draw a forest's feature importance, at least 0, shape (C, H, W), as a PNG."""
    gray = (255 * weight / max(float(weight.max()), 1e-12)).astype(np.uint8)
    return grid("Importance of each pixel", [Cell([gray])], "white: highest (decrease of impurity)")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load matplotlib's font, which covers more characters than Pillow's."""
    file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, size)


def _with_heading(title: str, note: str, below: int, width: int = 0) -> tuple[Image.Image, int]:
    """Create a canvas with its heading; return it and where the cells begin, in pixels."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    needed = max(draw.textlength(title, _font(18)), draw.textlength(note, _font(13)))
    top = 64 if note else 42
    canvas = Image.new("RGB", (max(width, int(needed) + 24), top + below + 4), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((8, 10), title, DARK, _font(18))
    draw.text((8, 37), note, PALE, _font(13))
    return canvas, top


def _cut_off(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Cut text off where the cell ends."""
    text = printable(text)
    if draw.textlength(text, _font(12)) <= width:
        return text
    while text and draw.textlength(f"{text}…", _font(12)) > width:
        text = text[:-1]
    return f"{text}…"


def _png(image: Image.Image) -> bytes:
    """Encode an image as the content of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
