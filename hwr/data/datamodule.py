"""The LightningDataModule of a dataset of characters."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from hwr.data import instantiated, load_dataset, load_split
from hwr.data.dataset import TrainingDataset
from hwr.data.samplers import TrainingSampler
from hwr.data.splits import BaseSplit, Indices, StratifiedSplit
from hwr.data.synthetic import SyntheticDataset
from hwr.errors import DataError

EVALUATION_BATCH = 64
"""Images in a batch of validation and test, at least."""
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
        batch_size: Of training; validation and test take 64 or more. Of each process, as
            everywhere in Lightning. None, here as below: that of the node, else 32.
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

        def setting(name: str, given: T | None, default: T) -> T:
            if given is not None:
                return given
            value: T | None = node.get(name)
            return default if value is None else value

        self.batch_size = setting("batch_size", batch_size, 32)
        self.num_workers = setting("num_workers", num_workers, 0)
        self.pin_memory = setting("pin_memory", pin_memory, False)
        self.persistent_workers = setting("persistent_workers", persistent_workers, False)
        self.train_transform = instantiated(
            setting("train_transform", train_transform, None), "data.train_transform"
        )
        self.split: BaseSplit = StratifiedSplit() if split is None else load_split(split)
        self.augment = instantiated(augment, "augment")
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

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches."""
        rows = self.parts.train
        images, labels = self.dataset.images[rows], self.dataset.labels[rows]
        known = self.dataset.writers
        writers = np.arange(len(rows)) if known is None else known[rows]
        synthetic = 0
        if people := getattr(self.augment, "synthetic_writers", 0):
            more_images, more_labels, more_writers = self._synthetic(people)
            synthetic = len(more_labels)
            images = torch.cat([images, more_images])
            labels = torch.cat([labels, more_labels])
            writers = np.concatenate([writers, writers.max() + more_writers])
        dataset = TrainingDataset(
            images,
            labels,
            torch.from_numpy(writers) if self.writer_batches else None,
            self.train_transform,
        )
        dataset[0]  # a transform that returns something else is told of here, not by a worker
        ranks = (
            (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        )
        sampler: DistributedSampler[Any]
        if self.writer_batches or synthetic:
            share = getattr(self.augment, "synthetic_share", 1.0)
            grouped = writers if self.writer_batches else None
            sampler = TrainingSampler(dataset, synthetic, share, grouped, self.seed, *ranks)
        else:
            sampler = DistributedSampler(dataset, *ranks, seed=self.seed)
        return self._loader(
            dataset, self.batch_size, sampler=sampler, generator=self._worker_seeds()
        )

    def _worker_seeds(self) -> torch.Generator:
        """Make the generator from which each epoch's workers are seeded.

        The epochs before a resume have each drawn a number from it. Without it, the DataLoader
        would draw from the generator of dropout, before the first epoch and within the others.
        """
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(0 if self.trainer is None else self.trainer.current_epoch):
            torch.empty((), dtype=torch.int64).random_(generator=generator)
        return generator

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return validation batches, in order; an empty list without validation images."""
        return self._evaluation(self.parts.val) if len(self.parts.val) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return test batches, in order."""
        return self._evaluation(self.parts.test)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return test batches, in order."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training batches on the device that they are on."""
        if self.augment is None or self.trainer is None or not self.trainer.training:
            return batch
        if not getattr(self.augment, "is_active", True):
            return batch  # and leave the generator alone
        images, labels, *writers = batch
        return self.augment(images, *writers), labels, *writers

    def _evaluation(self, rows: Indices) -> DataLoader[Any]:
        subset = Subset(self.dataset, rows.tolist())
        return self._loader(subset, max(EVALUATION_BATCH, self.batch_size))

    def _loader(self, dataset: Dataset[Any], batch_size: int, **order: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            collate_fn=_whole_batch,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.persistent_workers and self.num_workers > 0,
            **order,
        )

    def _synthetic(self, people: int) -> tuple[Tensor, Tensor, Indices]:
        """Return synthetic images of classes that the dataset has, their labels and writers."""
        drawn = SyntheticDataset(
            writers=people,
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
            raise DataError("augment.synthetic_writers: none of this dataset's classes is drawn")
        assert drawn.writers is not None
        return drawn.images[rows], labels[rows], drawn.writers[rows.numpy()]


def _whole_batch(batch: T) -> T:
    """Pass on a batch that the dataset has cut whole."""
    return batch
