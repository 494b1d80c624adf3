"""Convolutions in reading on a CPU, worked out only where ink reaches.

Nine tenths of the area of the notebook's pictures are white paper, and three fifths of their cells
lie outside the box that ink reaches. There the convolutions say what they say of a white sheet.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hwr.networks.packed import packed

WHITE = 1
MANY = 100
"""Pictures; of fewer, too few have boxes alike."""
MOST = 0.7
"""Mean share of cells in the boxes; with more, whole pictures are as fast."""
SPARE = 1.2
"""Cells that may be worked out for each in a box, so that boxes of about one size go together."""


def inked(image: Tensor, stage: nn.Sequential, most: int) -> Tensor | None:
    """What a stage makes of pictures, in inference mode; None where boxes would save no time.

    The sums are those of whole pictures, but their order, and so the last bits of a picture's
    values, may depend on the other pictures.

    Args:
        image: Shape (N, 1, H, W) on the CPU.
        stage: Padding with zeros, convolution and ReLU; the same padding, convolution and
            max-pooling. Padding keeps the size; strides and dilations are one; pooling neither
            pads nor overlaps.
        most: How many whole pictures have as many cells as are worked out at a time.

    Returns:
        One value for each cell of the pooling, shape (N, O, H', W').
    """
    if len(image) < MANY:
        return None
    layers: list[Any] = list(stage)
    pad, first, relu, _, second, pool = layers
    left, right, top, bottom = pad.padding
    height, width = cell = pool.kernel_size
    ink: Any = (image[:, 0] != WHITE).numpy()
    row, high, rows = _reached(ink.any(2), height, 2 * top, 2 * bottom)
    column, wide, columns = _reached(ink.any(1), width, 2 * left, 2 * right)
    if (high * wide).mean() > MOST * rows * columns:
        return None
    sheet = functional.pad(image[:, 0], [2 * side for side in pad.padding])
    # Around a picture, the second convolution sees zeros, not what the first makes of zeros.
    outside = functional.pad(torch.zeros_like(image[0, 0], dtype=torch.bool), pad.padding, value=1)
    before, behind = packed(nn.Sequential(first, relu)), packed(nn.Sequential(second, pool))
    white: Tensor = stage(torch.full_like(image[:1], WHITE))
    found = white.permute(0, 2, 3, 1).repeat(len(image), 1, 1, 1)
    for part, h, w in _alike(high, wide, most * rows * columns):
        y, x = np.minimum(row[part], rows - h), np.minimum(column[part], columns - w)
        size = height * h + top + bottom, width * w + left + right
        boxes = _windows(sheet, (size[0] + top + bottom, size[1] + left + right), cell)[part, y, x]
        maps = before(boxes[:, None])
        maps.masked_fill_(_windows(outside, size, cell)[y, x][:, None], 0)
        at = (
            part[:, None, None],
            y[:, None, None] + np.arange(h)[:, None],
            x[:, None, None] + np.arange(w),
        )
        found[at] = behind(maps).permute(0, 2, 3, 1)
    return found.permute(0, 3, 1, 2)


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


def _windows(sheets: Tensor, size: tuple[int, int], step: tuple[int, int]) -> Tensor:
    """All windows of a size in sheets (..., H, W), shape (..., Y, X, *size)."""
    return sheets.unfold(-2, size[0], step[0]).unfold(-2, size[1], step[1])
