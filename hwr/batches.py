"""Batches cut by index from tensors that stay in memory, singly or in groups of one hand."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwr.split import Indices

Batch = tuple[Tensor, ...]
LARGEST = 68
"""Training groups are smaller than this; a writer of the real set has drawn 62."""


class Batches:
    """Batches of `image` (B, 1, H, W) from 0 to 1 and `label` (B,), cut from tensors by index.

    With writers, each batch has a third part, `group` (B,): the pictures of a group are by one
    hand, and follow upon each other.

    Args:
        image: Grey values from 0 to 255, shape (N, 1, H, W).
        label: Shape (N,).
        batch_size: B; the last batch may be smaller.
        seed: Shuffles anew every epoch, the same for the same seed and epoch; None: in order.
        rank: The process that takes these, from 0.
        ranks: Processes that share every batch, each a stride of it; `batch_size` is a multiple
            of them. In training all get the same number of pictures, so up to `ranks - 1` at the
            end of an epoch, others each time, are left out; in order, none is.
        writer: Who wrote each picture, shape (N,), where groups are wanted; see `in_groups`.
        drawn: Pictures at the end that are drawn: an epoch sees only some of them, others each
            time.
        drawn_share: How many of those for each other picture.
    """

    def __init__(
        self,
        image: Tensor,
        label: Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        writer: Indices | None = None,
        drawn: int = 0,
        drawn_share: float = 1.0,
    ) -> None:
        self.image, self.label, self.batch_size, self.seed = image, label, batch_size, seed
        self.rank, self.ranks, self.writer = rank, ranks, writer
        self.own = len(label) - drawn
        self.seen = self.own + min(drawn, round(drawn_share * self.own))
        self.count = len(label) if seed is None else self.seen // ranks * ranks
        self.epoch = 0

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    @property
    def sampler(self) -> "Batches":
        """Where Lightning announces the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The order of this epoch is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self.seed is None:
            for start in range(0, self.count, self.batch_size):
                part = slice(start + self.rank, start + self.batch_size, self.ranks)
                yield self.image[part] / 255, self.label[part]
            return
        order, group = self._order()
        for number in range(len(self)):
            share = self._share(number)
            index = torch.from_numpy(order[share])
            batch = self.image.index_select(0, index) / 255, self.label.index_select(0, index)
            yield batch if group is None else (*batch, torch.from_numpy(group[share]))

    def rows(self, number: int) -> Indices:
        """Which pictures this process takes of a shuffled batch of the epoch, counted from 0."""
        return self._order()[0][self._share(number)]

    def _share(self, number: int) -> slice:
        start = number * self.batch_size
        return slice(start + self.rank, min(start + self.batch_size, self.count), self.ranks)

    def _order(self) -> tuple[Indices, Indices | None]:
        """The pictures of this epoch, and the group of each where groups are wanted."""
        random = np.random.default_rng([self.seed or 0, self.epoch])
        rows = np.arange(len(self.label), dtype=np.int64)
        if self.seen < len(rows):
            rows[self.own :] = self._drawn(random)
            rows = rows[: self.seen]
        if self.writer is None:
            return random.permutation(rows), None
        order, group = in_groups(self.writer[rows], random)
        return rows[order], group

    def _drawn(self, random: np.random.Generator) -> Indices:
        """Rows of the drawn pictures in a new order, one writer after the other if these count."""
        drawn = random.permutation(np.arange(self.own, len(self.label), dtype=np.int64))
        if self.writer is None:
            return drawn
        people = np.unique(self.writer[self.own :])
        place = np.empty(people.max() + 1, np.int64)
        place[random.permutation(people)] = np.arange(len(people))
        return drawn[np.argsort(place[self.writer[drawn]], kind="stable")]


class Bundles:
    """Batches by the handful: lists of them, cut from memory at once.

    Args:
        batches: What is bundled, without groups, and not shared by processes.
        size: Batches in a list; the last may be shorter.
    """

    def __init__(self, batches: Batches, size: int) -> None:
        assert batches.ranks == 1
        assert batches.writer is None
        self.batches, self._large = batches, copy(batches)
        self._large.batch_size *= size

    batch_sampler = None

    @property
    def sampler(self) -> "Bundles":
        """Where Lightning announces the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The order of this epoch is drawn next."""
        for batches in (self.batches, self._large):
            batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._large)

    def __iter__(self) -> Iterator[list[Batch]]:
        for parts in self._large:
            yield list(
                zip(*(torch.split(part, self.batches.batch_size) for part in parts), strict=True)
            )


def listed(batch: Any) -> list[Batch]:
    """The batches of one of Lightning's steps: a single one, or a bundle."""
    return [batch] if isinstance(batch[0], Tensor) else list(batch)


def in_groups(writer: Indices, random: np.random.Generator) -> tuple[Indices, Indices]:
    """An order of all pictures in which those by one hand come in groups, mixed anew.

    A writer's pictures are cut at random into groups of less than `LARGEST`, small ones as likely
    as large ones on a logarithmic scale, so that any subset of classes is seen together.

    Args:
        writer: Who wrote each picture, shape (N,).
        random: Draws the groups.

    Returns:
        Row numbers, and the group of each, both shape (N,).
    """
    groups: list[Indices] = []
    for person in np.unique(writer):
        rest = random.permutation(np.flatnonzero(writer == person))
        while len(rest):
            size = int(LARGEST ** random.random())
            groups.append(rest[:size])
            rest = rest[size:]
    mixed = [groups[k] for k in random.permutation(len(groups))]
    return np.concatenate(mixed), np.repeat(np.arange(len(mixed)), [len(rows) for rows in mixed])
