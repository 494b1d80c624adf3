"""How well pictures are read in view of others by the same hand, over how many there are."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwr.alphabet import Alphabet
from hwr.networks.glyphnet import GlyphNetwork

BATCH = 1024
MOST = 256
SIZES = (1, 2, 5, 10, 20)
"""Pictures that are seen together, beside all."""
DRAWS = 10
"""How often the pictures are parted at random; the figure is the mean."""


@torch.inference_mode()
def look(network: GlyphNetwork, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a network finds in N images (N, 1, H, W): features (V N, F), geometry (V N, G).

    V is the number of views, which follow upon each other as `GlyphNetwork.relate` takes them.
    """
    found: list[list[Tensor]] = []
    for start in range(0, len(image), BATCH):  # all views of all pictures would be large
        part = image[start : start + BATCH]
        seen = network.look(network.viewed(part))
        found.append([numbers.view(-1, len(part), numbers.shape[1]) for numbers in seen])
    features, geometry = (torch.cat(parts, 1).flatten(0, 1) for parts in zip(*found, strict=True))
    return features, geometry


@torch.inference_mode()
def relate(network: GlyphNetwork, seen: tuple[Tensor, Tensor], group: NDArray[np.int64]) -> Tensor:
    """Logits (N, C) of what `look` found in N pictures, in view of others of their group.

    Of more than `MOST` pictures of a group, at most so many are seen together, cut in their
    order: every one looks at all others, so time and memory grow with the square.

    Args:
        network: It reads.
        seen: Features (V N, F) and geometry (V N, G).
        group: Shape (N,).
    """
    parts = [part.view(-1, len(group), part.shape[1]) for part in seen]
    order = np.argsort(group, kind="stable")
    found = torch.empty(len(group), network.head.out_features)
    hands = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    pages = [page for one in hands for page in np.array_split(one, -(-len(one) // MOST))]
    number = np.cumsum([len(page) for page in pages]) // MOST  # some small ones at a time
    for batch in np.unique(number):
        some = [pages[index] for index in np.flatnonzero(number == batch)]
        rows, sizes = np.concatenate(some), torch.tensor([len(page) for page in some])
        features, geometry = (part[:, rows].flatten(0, 1) for part in parts)
        page = torch.arange(len(some)).repeat_interleave(sizes)
        found[rows] = network.relate(features, geometry, page)
    return found


@torch.inference_mode()
def figures(
    network: GlyphNetwork,
    seen: tuple[Tensor, Tensor],
    label: NDArray[np.int64],
    writer: NDArray[np.int64],
    alphabet: Alphabet,
) -> dict[str, float]:
    """Accuracies with the writer in view.

    Pictures are seen with others of these and of the same writer only. Which ones is drawn anew
    `DRAWS` times, from the same seed for everybody.

    Args:
        network: It reads.
        seen: What `look` found in N pictures.
        label: Class indices, shape (N,); they only tell what was right.
        writer: Shape (N,).
        alphabet: The classes.

    Returns:
        `acc_writer`, all of a writer's pictures together; `acc_writer_2` and so on, that many at a
        time; and where letters have cases, the same of sheets on which each letter occurs in one
        case only, drawn at random: `acc_writer_onecase`, and `acc_onecase` for these pictures read
        alone.
    """

    def right(group: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
        features, geometry = (part.view(-1, len(label), part.shape[1])[:, rows] for part in seen)
        logits = relate(network, (features.flatten(0, 1), geometry.flatten(0, 1)), group)
        return float((logits.argmax(1).numpy() == label[rows]).mean())

    random = np.random.default_rng(0)
    every = np.arange(len(label))
    found = {"acc_writer": right(writer, every)}
    for size in SIZES:
        shares = [right(_parted(writer, size, random), every) for _ in range(DRAWS)]
        found[f"acc_writer_{size}"] = float(np.mean(shares))
    fold = alphabet.fold()
    cases = len(np.unique(fold)) < len(alphabet)
    sheets = [_one_case(label, writer, fold, random) for _ in range(DRAWS if cases else 0)]
    if sheets := [rows for rows in sheets if len(rows)]:  # of a few pictures none may be left
        together = [right(writer[rows], rows) for rows in sheets]
        alone = [right(np.arange(len(rows)), rows) for rows in sheets]
        found["acc_writer_onecase"] = float(np.mean(together))
        found["acc_onecase"] = float(np.mean(alone))
    return found


def _parted(writer: NDArray[np.int64], size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """A group for each picture, of so many by one hand, the last of each hand maybe smaller."""
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
    """Rows of sheets, one a writer, on which each letter occurs in one case only."""
    kept = []
    for person in np.unique(writer):
        rows = np.flatnonzero(writer == person)
        order = random.permutation(len(fold))
        chosen = {int(fold[index]): int(index) for index in order}  # the last drawn of each fold
        kept += [row for row in rows if chosen[int(fold[label[row]])] == label[row]]
    return np.array(kept, np.int64)
