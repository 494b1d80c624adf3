"""How well pictures are read in view of others by the same hand, over how many there are."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwr.alphabet import Alphabet
from hwr.networks.glyphnet import GlyphNetwork

BATCH = 1024
SIZES = (1, 2, 5, 10, 20)
"""Pictures that are seen together, beside all."""
DRAWS = 10
"""How often the pictures are parted at random; the figure is the mean."""


@torch.inference_mode()
def look(network: GlyphNetwork, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a network finds in N images (N, 1, H, W): features (V N, F), geometry (V N, G).

    V is the number of views, which follow upon each other as `GlyphNetwork.relate` takes them.
    """
    viewed = network.viewed(image)
    starts = range(0, len(viewed), BATCH)
    found = [network.look(viewed[start : start + BATCH]) for start in starts]
    features, geometry = (torch.cat(parts) for parts in zip(*found, strict=True))
    return features, geometry


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
        chosen = [part.view(-1, len(label), part.shape[1])[:, rows].flatten(0, 1) for part in seen]
        logits = network.relate(chosen[0], chosen[1], torch.from_numpy(group))
        return float((logits.argmax(1).numpy() == label[rows]).mean())

    random = np.random.default_rng(0)
    every = np.arange(len(label))
    found = {"acc_writer": right(writer, every)}
    for size in SIZES:
        drawn = [right(_parted(writer, size, random), every) for _ in range(DRAWS)]
        found[f"acc_writer_{size}"] = float(np.mean(drawn))
    fold = alphabet.fold()
    if len(np.unique(fold)) < len(alphabet):
        sheets = [_one_case(label, writer, fold, random) for _ in range(DRAWS)]
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
