"""Predict with writer context, and measure its accuracy over the number of images per writer."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwr.charset import Charset

BATCH = 1024
LARGEST_GROUP = 256
SIZES = (1, 2, 5, 10, 20)
"""Images of a writer that are predicted together, beside all of them."""
DRAWS = 10
"""How often images are grouped at random; metrics are means over the draws."""


@torch.inference_mode()
def embed(model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """Embed N images (N, C, H, W) and their tta copies.

    Args:
        model: A GlyphNet in eval mode.
        image: Values from 0 to 1.

    Returns:
        Features (V, N, F) and geometry (V, N, G), where V counts an image and its copies.
    """
    features, geometry = [], []
    for part in torch.split(image, BATCH):  # the copies of all images would take much memory
        embedded = model.embed(model.augmented(part))
        features.append(embedded[0].unflatten(0, (-1, len(part))))
        geometry.append(embedded[1].unflatten(0, (-1, len(part))))
    return torch.cat(features, 1), torch.cat(geometry, 1)


@torch.inference_mode()
def relate(model: Any, embedded: tuple[Tensor, Tensor], group: NDArray[np.int64]) -> Tensor:
    """Return logits (N, classes) of embedded images, with the context of their group.

    Groups of more than `LARGEST_GROUP` images are cut in their order, since time and memory grow
    with the square of the size.

    Args:
        model: A GlyphNet in eval mode.
        embedded: What `embed` returned for N images.
        group: Shape (N,); images of one writer have the same number.
    """
    pages: list[NDArray[np.int64]] = []
    for writer in np.unique(group):
        rows = np.flatnonzero(group == writer)
        pages += np.array_split(rows, -(-len(rows) // LARGEST_GROUP))
    batch_of_page = np.cumsum([len(page) for page in pages]) // LARGEST_GROUP
    logits = []
    for batch in np.unique(batch_of_page):
        some = [pages[index] for index in np.flatnonzero(batch_of_page == batch)]
        rows = np.concatenate(some)
        page_of_image = np.repeat(np.arange(len(some)), [len(page) for page in some])
        features, geometry = (values[:, rows].flatten(0, 1) for values in embedded)
        pages_there = torch.from_numpy(page_of_image).to(features.device)
        logits.append(model.relate(features, geometry, pages_there))
    return torch.cat(logits)[np.argsort(np.concatenate(pages))]


def metrics(
    model: Any,
    embedded: tuple[Tensor, Tensor],
    label: NDArray[np.int64],
    writer: NDArray[np.int64],
    charset: Charset,
) -> dict[str, float]:
    """Measure accuracies with writer context.

    An image has the context of others among these, of the same writer. Which ones is drawn
    `DRAWS` times, from a fixed seed.

    Args:
        model: A GlyphNet in eval mode.
        embedded: What `embed` returned for N images.
        label: Class indices, shape (N,).
        writer: Shape (N,).
        charset: The classes.

    Returns:
        `acc_writer`, with all images of a writer together; `acc_writer_2` and so on, with that
        many at a time; and, if letters have cases, the same for pages on which each letter occurs
        in one case only, drawn at random: `acc_writer_onecase`, and `acc_onecase` without context.
    """

    def accuracy(group: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
        logits = relate(model, (embedded[0][:, rows], embedded[1][:, rows]), group)
        return float((logits.argmax(1).cpu().numpy() == label[rows]).mean())

    random = np.random.default_rng(0)
    every = np.arange(len(label))
    result = {"acc_writer": accuracy(writer, every)}
    for size in SIZES:
        draws = [accuracy(_grouped(writer, size, random), every) for _ in range(DRAWS)]
        result[f"acc_writer_{size}"] = float(np.mean(draws))
    first_case = charset.case_insensitive_classes()
    if len(np.unique(first_case)) < len(charset):  # letters have cases
        pages = [_one_case(label, writer, first_case, random) for _ in range(DRAWS)]
        pages = [rows for rows in pages if len(rows)]  # of a few images none may be left
        with_context = [accuracy(writer[rows], rows) for rows in pages]
        result["acc_writer_onecase"] = float(np.mean(with_context))
        without = [accuracy(np.arange(len(rows)), rows) for rows in pages]
        result["acc_onecase"] = float(np.mean(without))
    return result


def _grouped(
    writer: NDArray[np.int64], size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Group the images of each writer at random, so many in a group; the last may be smaller."""
    group = np.empty_like(writer)
    for one_writer in np.unique(writer):
        rows = random.permutation(np.flatnonzero(writer == one_writer))
        group[rows] = rows[np.arange(len(rows)) // size * size]  # a group's number is its first row
    return group


def _one_case(
    label: NDArray[np.int64],
    writer: NDArray[np.int64],
    first_case: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw rows of pages, one per writer, on which each letter occurs in one case only."""
    kept = []
    for one_writer in np.unique(writer):
        rows = np.flatnonzero(writer == one_writer)
        order = random.permutation(len(first_case))
        chosen = {int(first_case[index]): int(index) for index in order}  # one of each letter
        kept += [row for row in rows if chosen[int(first_case[label[row]])] == label[row]]
    return np.array(kept, np.int64)
