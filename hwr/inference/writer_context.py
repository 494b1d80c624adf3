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
        Features (V N, F) and geometry (V N, G), where V counts an image and its copies; in the
        order that `GlyphNet.relate` takes.
    """
    batches: list[list[Tensor]] = []
    for part in torch.split(image, BATCH):  # the copies of all images would take much memory
        embedded = model.embed(model.augmented(part))
        batches.append([_by_copy(values, len(part)) for values in embedded])
    features, geometry = (torch.cat(parts, 1).flatten(0, 1) for parts in zip(*batches, strict=True))
    return features, geometry


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
    parts = [_by_copy(values, len(group)) for values in embedded]
    order = np.argsort(group, kind="stable")
    writers = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    pages = [
        page for rows in writers for page in np.array_split(rows, -(-len(rows) // LARGEST_GROUP))
    ]
    batch_of_page = np.cumsum([len(page) for page in pages]) // LARGEST_GROUP
    batches = []
    for batch in np.unique(batch_of_page):
        some = [pages[index] for index in np.flatnonzero(batch_of_page == batch)]
        rows, sizes = np.concatenate(some), torch.tensor([len(page) for page in some])
        features, geometry = (values[:, rows].flatten(0, 1) for values in parts)
        page_of_image = torch.arange(len(some)).repeat_interleave(sizes).to(features.device)
        batches.append(model.relate(features, geometry, page_of_image))
    inverse = np.argsort(np.concatenate(pages))
    return torch.cat(batches)[inverse]


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
        features, geometry = (_by_copy(values, len(label))[:, rows] for values in embedded)
        logits = relate(model, (features.flatten(0, 1), geometry.flatten(0, 1)), group)
        return float((logits.argmax(1).cpu().numpy() == label[rows]).mean())

    random = np.random.default_rng(0)
    every = np.arange(len(label))
    result = {"acc_writer": accuracy(writer, every)}
    for size in SIZES:
        shares = [accuracy(_grouped(writer, size, random), every) for _ in range(DRAWS)]
        result[f"acc_writer_{size}"] = float(np.mean(shares))
    fold = charset.fold()
    has_cases = len(np.unique(fold)) < len(charset)
    pages = [_one_case(label, writer, fold, random) for _ in range(DRAWS if has_cases else 0)]
    if pages := [rows for rows in pages if len(rows)]:  # of a few images none may be left
        with_context = [accuracy(writer[rows], rows) for rows in pages]
        without = [accuracy(np.arange(len(rows)), rows) for rows in pages]
        result["acc_writer_onecase"] = float(np.mean(with_context))
        result["acc_onecase"] = float(np.mean(without))
    return result


def _by_copy(values: Tensor, count: int) -> Tensor:
    """Split values (V N, F) of N images and their copies to shape (V, N, F)."""
    return values.view(-1, count, values.shape[1])


def _grouped(
    writer: NDArray[np.int64], size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Group the images of each writer at random, so many in a group; the last may be smaller."""
    group = np.empty(len(writer), np.int64)
    start = 0
    for person in np.unique(writer):
        rows = random.permutation(np.flatnonzero(writer == person))
        group[rows] = start + np.arange(len(rows)) // size
        start += len(rows)
    return group


def _one_case(
    label: NDArray[np.int64],
    writer: NDArray[np.int64],
    fold: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw rows of pages, one per writer, on which each letter occurs in one case only."""
    kept = []
    for person in np.unique(writer):
        rows = np.flatnonzero(writer == person)
        order = random.permutation(len(fold))
        chosen = {int(fold[index]): int(index) for index in order}  # the last drawn of each letter
        kept += [row for row in rows if chosen[int(fold[label[row]])] == label[row]]
    return np.array(kept, np.int64)
