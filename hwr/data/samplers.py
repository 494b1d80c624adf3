"""The order in which training images come."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from hwr.data.splits import Indices

LARGEST_GROUP = 68
"""Groups are smaller than this; a writer of the real dataset wrote 62 images."""


class TrainingSampler(DistributedSampler[int]):
    """Sample groups of images of one writer, and others of the synthetic images each epoch.

    A DistributedSampler, since Lightning would shuffle any other one again under several
    processes, and so tear the groups apart. Its `set_epoch` is called by Lightning.

    Args:
        dataset: The training images; synthetic ones come last.
        synthetic: Number of synthetic images.
        synthetic_share: Synthetic images in an epoch for each real one.
        writers: Writer of each image, shape (N,): images of a writer come in groups of random
            size, and synthetic writers come whole; None: images come in any order.
        seed: The same seed and epoch give the same order.
        num_replicas: Processes that share an epoch.
        rank: This process, from 0.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        synthetic: int = 0,
        synthetic_share: float = 1.0,
        writers: Indices | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed)
        self.writers, self.synthetic = writers, synthetic
        self.real = len(dataset) - synthetic  # type: ignore[arg-type]
        self.count = self.real + min(synthetic, round(synthetic_share * self.real))
        self.num_samples = self.count // num_replicas
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        synthetic = self._shuffled_synthetic(random)
        rows = np.concatenate([np.arange(self.real), synthetic[: self.count - self.real]])
        order = (
            random.permutation(rows)
            if self.writers is None
            else rows[in_groups(self.writers[rows], random)]
        )
        # All processes take equally many; the few that are left over are others each time.
        even = order[: self.total_size]
        return iter(even[self.rank :: self.num_replicas].tolist())

    def _shuffled_synthetic(self, random: np.random.Generator) -> Indices:
        """Shuffle the synthetic images, writer by writer where writers matter."""
        rows = random.permutation(np.arange(self.real, self.real + self.synthetic))
        if self.writers is None:
            return rows
        people, person = np.unique(self.writers[rows], return_inverse=True)
        place = random.permutation(len(people))
        return rows[np.argsort(place[person], kind="stable")]


def in_groups(writers: Indices, random: np.random.Generator) -> Indices:
    """Order all images so that those of one writer come in groups, shuffled anew each time.

    A writer's images are cut at random into groups of less than `LARGEST_GROUP`, small ones as
    likely as large ones on a logarithmic scale, so that any subset of classes comes together.

    Args:
        writers: Writer of each image, shape (N,).
        random: Draws the groups.

    Returns:
        Indices of the images, shape (N,).
    """
    groups: list[Indices] = []
    for writer in np.unique(writers):
        rest = random.permutation(np.flatnonzero(writers == writer))
        while len(rest):
            size = int(LARGEST_GROUP ** random.random())
            groups.append(rest[:size])
            rest = rest[size:]
    return np.concatenate([groups[k] for k in random.permutation(len(groups))])
