"""The LightningDataModule of a dataset of characters, and the order of its training images."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from hwr.data import instantiate_node, load_dataset, load_split
from hwr.data.dataset import TrainingDataset
from hwr.data.splits import Indices, StratifiedSplit
from hwr.data.synthetic import SyntheticDataset
from hwr.errors import DataError

EVALUATION_BATCH = 64
"""Images in a batch of validation and test, at least."""
LARGEST_GROUP = 68
"""Groups of a writer's images are smaller; a writer of the real dataset wrote 62."""
T = TypeVar("T")


class CharacterDataModule(LightningDataModule):
    """Load a dataset, split it, and make batches of it.

    Batches are (images, labels): images (B, C, H, W) from 0 to 1 and labels (B,). Training batches
    with `writer_batches` are (images, labels, writers).

    Args:
        data: A node of settings with `_target_`, which may hold the loader settings below; a
            CharacterDataset; or any Dataset of (image, label[, writer]).
        split: A node of settings, or a split; None: `StratifiedSplit()`.
        augment: A node of settings, or a callable on training batches, such as `Augment`; None:
            none.
        seed: Order of the training images: the same seed and epoch give the same order.
        writer_batches: Training images of a writer come in groups of random size. Where writers
            are unknown, each image is a group.
        batch_size: Of training and of each process; validation and test take 64 or more. None,
            here as below: that of the node, else 32.
        num_workers: Worker processes; None: 0.
        pin_memory: Copy batches into pinned memory; None: False.
        persistent_workers: Keep worker processes between epochs, if there are any; None: False.
        train_transform: A node of settings, or a callable on a training image (C, H, W) from 0 to
            1, which returns the same shape, such as of `torchvision.transforms.v2`; None: none.

    Attributes:
        dataset: The CharacterDataset, after `setup`.
        parts: Indices of training, validation and test images, after `setup`.
    """

    def __init__(
        self,
        data: Any,
        split: Any = None,
        *,
        augment: Any = None,
        seed: int = 0,
        writer_batches: bool = False,
        batch_size: int | None = None,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        persistent_workers: bool | None = None,
        train_transform: Any = None,
    ) -> None:
        super().__init__()
        node: Mapping[str, Any] = data if isinstance(data, Mapping) else {}

        def setting(name: str, given: Any, default: Any) -> Any:
            value = node.get(name) if given is None else given
            return default if value is None else value

        self.batch_size: int = setting("batch_size", batch_size, 32)
        self.num_workers: int = setting("num_workers", num_workers, 0)
        self.pin_memory: bool = setting("pin_memory", pin_memory, False)
        self.persistent_workers: bool = setting("persistent_workers", persistent_workers, False)
        transform = setting("train_transform", train_transform, None)
        self.train_transform = instantiate_node(transform, "data.train_transform")
        self.split = StratifiedSplit() if split is None else load_split(split)
        self.augment = instantiate_node(augment, "augment")
        self.seed, self.writer_batches = seed, writer_batches
        self._data, self._cache = data, node.get("cache")

    def setup(self, stage: str | None = None) -> None:
        """Load and split the dataset, once.

        Raises:
            ConfigError: The node of the dataset can't be instantiated.
            DataError: The dataset is missing, broken, or cannot be split as asked.
        """
        if hasattr(self, "dataset"):
            return
        dataset = load_dataset(self._data)
        self.parts = self.split.split(
            dataset.labels.numpy(), dataset.writers, dataset.charset.names
        )
        self.dataset = dataset
        self.name, self.charset = dataset.name, dataset.charset
        self.height, self.width, self.channels = dataset.height, dataset.width, dataset.channels
        self.preprocessing = dataset.preprocessing

    def image_statistics(self, recenter: bool = True) -> dict[str, Any] | None:
        """Measure what the training images look like; see `CharacterDataset.statistics`."""
        return self.dataset.statistics(self.parts.train, recenter)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches."""
        rows, writers = self.parts.train, self.dataset.writers
        images, labels = self.dataset.images[rows], self.dataset.labels[rows]
        writers = np.arange(len(rows)) if writers is None else writers[rows]
        if count := getattr(self.augment, "synthetic_writers", 0):
            more_images, more_labels, more_writers = self._synthetic(count)
            images = torch.cat([images, more_images])
            labels = torch.cat([labels, more_labels])
            writers = np.concatenate([writers, writers.max() + more_writers])
        synthetic = len(labels) - len(rows)
        tensors = (images, labels, torch.from_numpy(writers))
        dataset = TrainingDataset(
            tensors if self.writer_batches else tensors[:2], self.train_transform
        )
        dataset[0]  # rejects a wrong transform here rather than in a worker
        trainer = self.trainer
        ranks = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        sampler: DistributedSampler[Any]
        if self.writer_batches or synthetic:
            share = getattr(self.augment, "synthetic_share", 1.0)
            grouped = writers if self.writer_batches else None
            sampler = TrainingSampler(dataset, synthetic, share, grouped, self.seed, *ranks)
        else:
            sampler = DistributedSampler(dataset, *ranks, seed=self.seed)
        # Each epoch seeds its workers by a number from this generator, also those before a resume.
        # Without it, the DataLoader would draw from the generator of dropout.
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(trainer.current_epoch if trainer else 0):
            torch.empty((), dtype=torch.int64).random_(generator=generator)
        return self._loader(dataset, self.batch_size, sampler=sampler, generator=generator)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return validation batches, in order; an empty list without validation images."""
        return self._evaluation_loader(self.parts.val) if len(self.parts.val) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return test batches, in order."""
        return self._evaluation_loader(self.parts.test)

    predict_dataloader = test_dataloader

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training batches on the device that they are on."""
        if self.augment is None or self.trainer is None or not self.trainer.training:
            return batch
        if not getattr(self.augment, "is_active", True):
            return batch  # and leave the random generator as it is
        images, labels, *writers = batch
        return self.augment(images, *writers), labels, *writers

    def _evaluation_loader(self, rows: Indices) -> DataLoader[Any]:
        subset = Subset(self.dataset, rows.tolist())
        return self._loader(subset, max(EVALUATION_BATCH, self.batch_size))

    def _loader(self, dataset: Dataset[Any], batch_size: int, **order: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            collate_fn=_collated,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
            **order,
        )

    def _synthetic(self, count: int) -> tuple[Tensor, Tensor, Indices]:
        """Return synthetic images of classes that the dataset has, their labels and writers."""
        drawn = SyntheticDataset(
            writers=count,
            preprocessing=self.preprocessing,
            height=self.height,
            width=self.width,
            channels=self.channels,
            cache=self._cache,
        )
        index = {name: number for number, name in enumerate(self.charset.names)}
        labels = torch.tensor([index.get(name, -1) for name in drawn.charset.names])[drawn.labels]
        rows = torch.nonzero(labels >= 0).flatten()
        if not len(rows):
            raise DataError("augment.synthetic_writers needs classes that are digits or letters")
        assert drawn.writers is not None
        return drawn.images[rows], labels[rows], drawn.writers[rows.numpy()]


class TrainingSampler(DistributedSampler[int]):
    """Sample groups of images of one writer, and others of the synthetic images each epoch.

    A DistributedSampler, since Lightning would shuffle any other one again under several
    processes, and so tear the groups apart. Its `set_epoch` is called by Lightning.

    A writer's images are cut at random into groups of less than `LARGEST_GROUP`, small ones as
    likely as large ones on a logarithmic scale, so that any subset of classes comes together.

    Args:
        dataset: The training images; synthetic ones come last.
        synthetic: Number of synthetic images.
        synthetic_share: Synthetic images in an epoch for each real one.
        writers: Writer of each image, shape (N,), whose images come in groups, and those of a
            synthetic writer all or none; None: images come in any order.
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
        self.drawn = min(synthetic, round(synthetic_share * self.real))
        # All processes take equally many; the few that are left over are others each time.
        self.num_samples = (self.real + self.drawn) // num_replicas
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        synthetic = random.permutation(np.arange(self.real, self.real + self.synthetic))
        if self.writers is not None:
            drawn_writers, writer = np.unique(self.writers[synthetic], return_inverse=True)
            place = random.permutation(len(drawn_writers))
            synthetic = synthetic[np.argsort(place[writer], kind="stable")]
        rows = np.concatenate([np.arange(self.real), synthetic[: self.drawn]])
        if self.writers is None:
            order = random.permutation(rows)
        else:
            groups: list[Indices] = []
            for name in np.unique(self.writers[rows]):
                rest = random.permutation(rows[self.writers[rows] == name])
                while len(rest):
                    size = int(LARGEST_GROUP ** random.random())
                    groups.append(rest[:size])
                    rest = rest[size:]
            order = np.concatenate([groups[k] for k in random.permutation(len(groups))])
        return iter(order[: self.total_size][self.rank :: self.num_replicas].tolist())


def _collated(batch: T) -> T:
    """Pass on a batch that the dataset has cut whole."""
    return batch
