"""Convolutions in reading on a CPU, worked out only where ink reaches.

Nine tenths of the area of the notebook's pictures are white paper, and three fifths of their cells
lie outside the box that ink reaches. There the convolutions say what they say of a white sheet.
"""

import platform
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]

MEASURED = platform.machine() in ("x86_64", "AMD64")
"""Elsewhere packing wasn't measured, and convolutions by transforms couldn't bear `OUTSIDE`."""
WHITE = 1
OUTSIDE = -1e30
"""Added where a picture has ended: less than any sum."""
MANY = 100
"""Pictures; of fewer, too few have boxes alike."""
MOST = 0.7
"""Mean share of cells in the boxes; with more, whole pictures are as fast."""
SPARE = 1.2
"""Cells that may be worked out for each in a box, so that boxes of about one size go together."""


def inked(
    image: Array,
    stage: Callable[[Array], Array],
    pads: Sequence[int],
    cell: Sequence[int],
    most: int,
) -> Array | None:
    """What a stage makes of pictures; None where boxes would save no time.

    The stage is a convolution and ReLU, then a convolution and max-pooling. Both convolutions pad a
    whole picture equally and keep its size; strides and dilations are one; pooling neither pads nor
    overlaps.

    Args:
        image: Shape (N, 1, H, W).
        stage: The same without padding, from boxes (n, h, w, 2) to (n, y, x, O): of grey values,
            and of ones where the picture has ended, for which see `ending`.
        pads: How many lines a convolution pads on the left, right, top and bottom.
        cell: Height and width of the pooling.
        most: How many whole pictures have as many cells as are worked out at a time.

    Returns:
        One value for each cell of the pooling, shape (N, Y, X, O).
    """
    if len(image) < MANY:
        return None
    left, right, top, bottom = (2 * side for side in pads)  # of both convolutions
    height, width = cell
    ink = image[:, 0] != WHITE
    row, high, rows = _reached(ink.any(2), height, top, bottom)
    column, wide, columns = _reached(ink.any(1), width, left, right)
    if (high * wide).mean() > MOST * rows * columns:
        return None
    down, along = image.shape[2:]
    sheet = np.zeros((len(image) + 1, down + top + bottom, along + left + right, 2), np.float32)
    sheet[..., 1] = 1
    inside = sheet[:, top : top + down, left : left + along]
    inside[..., 1] = 0
    inside[:-1, ..., 0] = image[:, 0]
    inside[-1, ..., 0] = WHITE
    white = stage(sheet[-1:])
    found = np.repeat(white, len(image), 0)
    for part, h, w in _alike(high, wide, most * rows * columns):
        y, x = np.minimum(row[part], rows - h), np.minimum(column[part], columns - w)
        size = height * h + top + bottom, width * w + left + right
        windows = sliding_window_view(sheet, size, (1, 2))[:, ::height, ::width]
        at = (
            part[:, None, None],
            y[:, None, None] + np.arange(h)[:, None],
            x[:, None, None] + np.arange(w),
        )
        found[at] = stage(np.moveaxis(windows, 3, 5)[part, y, x])
    return found


def ending(weight: Array, pads: Sequence[int]) -> Array:
    """Weights (O, 2, h, w) of a stage's first convolution, from (O, 1, h, w).

    Behind its ReLU, the second channel leaves nothing outside of a picture: there the second
    convolution sees zeros, not what the first makes of zeros.
    """
    ends = np.zeros_like(weight)
    ends[:, :, pads[2], pads[0]] = OUTSIDE
    return np.concatenate([weight, ends], 1)


def _reached(
    ink: NDArray[np.bool_], cell: int, before: int, after: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """The first cell that ink reaches, how many it reaches, shape (N,), and how many there are.

    Args:
        ink: In which lines there is any, shape (N, lines); where there is none, one cell counts.
        cell: Lines of a cell.
        before: How many lines before its own a cell sees.
        after: How many lines after its own it sees.
    """
    lines = ink.shape[1]
    cells = lines // cell
    last = lines - 1 - ink[:, ::-1].argmax(1)
    start = ((ink.argmax(1) - after) // cell).clip(0, cells - 1)
    count = ((last + before) // cell).clip(0, cells - 1) - start + 1
    return start, np.where(ink.any(1), count, 1), cells


def _alike(
    high: NDArray[np.int64], wide: NDArray[np.int64], most: int
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """Boxes of about one size, one or of at most so many cells in all; and sides that hold each."""
    order = np.lexsort((np.where(high % 2, wide, -wide), high))
    while len(order):
        tall, broad = (np.maximum.accumulate(sides[order[:most]]) for sides in (high, wide))
        cells = tall * broad * np.arange(1, len(tall) + 1)
        enough = (cells > most) | (cells > SPARE * np.cumsum((high * wide)[order[:most]]))
        enough[0] = False
        count = int(enough.argmax()) or len(tall)
        yield order[:count], int(tall[count - 1]), int(broad[count - 1])
        order = order[count:]
