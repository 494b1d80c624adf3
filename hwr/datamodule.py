"""The LightningDataModule: the pictures of a set, split, as batches from memory."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from hwr import augment, data
from hwr.alphabet import Alphabet
from hwr.batches import Batch, Batches, Bundles
from hwr.data import Characters
from hwr.errors import DataError
from hwr.schema import AugmentConfig, DataConfig, SplitConfig, SyntheticConfig
from hwr.split import Indices, Split, split

EVALUATION_BATCH = 64


class CharacterData(LightningDataModule):
    """The pictures of a data set, split, as batches.

    Args:
        data: Which set, how prepared, and the batch size.
        split: How it is cut.
        seed: Order of the training batches.
        augment: How training pictures are changed at random; None: not at all.
        grouped: Training batches come in groups of one hand (each picture is a group of its own
            where nobody knows who wrote), and say which.
        bundle: Batches for each of Lightning's steps, and about as many pictures in validation.
            More than 1 for a module with `automatic_optimization` off, in one process, without
            groups and augmentation.
    """

    def __init__(
        self,
        data: DataConfig,
        split: SplitConfig,
        seed: int = 0,
        augment: AugmentConfig | None = None,
        grouped: bool = False,
        bundle: int = 1,
    ) -> None:
        super().__init__()
        self.config, self.split_config, self.seed = data, split, seed
        self.augment, self.grouped, self.bundle = augment, grouped, bundle
        self._loaded: tuple[Characters, Split, Tensor, Tensor] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load and split, once.

        Raises:
            DataError: The set is missing, broken, or cannot be split as asked.
        """
        if self._loaded is None:
            chars = data.load(self.config)
            parts = split(self.split_config, chars.label, chars.writer, chars.alphabet.names)
            image = torch.from_numpy(chars.image).unsqueeze(1)
            self._loaded = chars, parts, image, torch.from_numpy(chars.label)

    @property
    def loaded(self) -> tuple[Characters, Split, Tensor, Tensor]:
        """The set, its split, all images (N, 1, H, W) from 0 to 255, and all labels (N,)."""
        self.setup()
        assert self._loaded is not None
        return self._loaded

    @property
    def characters(self) -> Characters:
        """The set as arrays."""
        return self.loaded[0]

    @property
    def label(self) -> Tensor:
        """Class indices of all pictures, shape (N,)."""
        return self.loaded[3]

    @property
    def alphabet(self) -> Alphabet:
        """The classes."""
        return self.loaded[0].alphabet

    @property
    def parts(self) -> Split:
        """Which pictures are trained on, validated on and tested on."""
        return self.loaded[1]

    def train_dataloader(self) -> Batches | Bundles:
        """Shuffled training batches, or what this process takes of each, or bundles of them."""
        rows, (_, _, image, label) = self.parts.train, self.loaded
        known = self.characters.writer
        writer = np.arange(len(rows)) if known is None else known[rows]
        index = torch.from_numpy(rows)
        image, label, count, share = image[index], label[index], 0, 1.0
        if self.augment is not None and self.augment.drawn:
            more, classes, people, _ = self._drawn(self.augment.drawn)
            count, share = len(classes), self.augment.drawn_share
            image, label = torch.cat([image, more]), torch.cat([label, classes])
            writer = np.concatenate([writer, writer.max() + people])
        groups = writer if self.grouped else None
        batch_size, ranks = self.config.batch_size, self._share()
        batches = Batches(image, label, batch_size, self.seed, *ranks, groups, count, share)
        return self._bundled(batches)

    def names(self, rows: Indices) -> list[str]:
        """Files of rows of the training batches; those of the built-in pen are in `pen/`."""
        names = [self.characters.files[row] for row in self.parts.train]
        if self.augment is not None and self.augment.drawn:
            names += self._drawn(self.augment.drawn)[3]
        return [names[row] for row in rows]

    def _drawn(self, writers: int) -> tuple[Tensor, Tensor, Indices, list[str]]:
        """Images, labels, writers and names of what the built-in pen adds to the training part."""
        shared = {field.name: getattr(self.config, field.name) for field in fields(DataConfig)}
        drawn = data.load(SyntheticConfig(**shared, writers=writers, seed=0))
        assert drawn.writer is not None
        index = {name: number for number, name in enumerate(self.alphabet.names)}
        label = np.array([index.get(name, -1) for name in drawn.alphabet.names])[drawn.label]
        rows = np.flatnonzero(label >= 0)
        if not len(rows):
            raise DataError("augment.drawn: the built-in pen draws none of this set's classes")
        image = torch.from_numpy(drawn.image[rows])[:, None]
        names = [f"pen/{drawn.files[row]}" for row in rows]
        return image, torch.from_numpy(label[rows]), drawn.writer[rows], names

    def transfer_batch_to_device(
        self, batch: Batch | list[Batch], device: torch.device, dataloader_idx: int
    ) -> Batch | list[Batch]:
        """The batch on the device; Lightning's own way looks for tensors in all there could be."""
        if isinstance(batch, list):
            return [tuple(part.to(device, non_blocking=True) for part in one) for one in batch]
        return tuple(part.to(device, non_blocking=True) for part in batch)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Change training pictures on the device that they are on."""
        if self.trainer is None or not self.trainer.training:
            return batch
        if self.augment is None or not augment.changes(self.augment):
            return batch  # and leave the generator alone: the notebook's runs are to stay the same
        image, label, *group = batch
        return augment.augment(image, self.augment, *group), label, *group

    def val_dataloader(self) -> Batches | Bundles | list[Batches]:
        """Validation batches, or what this process takes; none without a validation part."""
        if not len(self.parts.val):
            return []
        val = self._batches(self.parts.val, EVALUATION_BATCH, None, *self._share())
        return self._bundled(val)

    def test_dataloader(self) -> Batches:
        """Test batches."""
        return self.evaluation(self.parts.test)

    def evaluation(self, rows: Indices) -> Batches:
        """The pictures of these rows, in order, in large batches."""
        return self._batches(rows, EVALUATION_BATCH)

    def _bundled(self, batches: Batches) -> Batches | Bundles:
        if self.bundle == 1:
            return batches
        pictures = self.bundle * self.config.batch_size
        return Bundles(batches, max(1, pictures // batches.batch_size))

    def _share(self) -> tuple[int, int]:
        """This process, and how many there are."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _batches(
        self, rows: Indices, batch_size: int, seed: int | None = None, *more: Any
    ) -> Batches:
        _, _, image, label = self.loaded
        index = torch.from_numpy(rows)
        return Batches(image[index], label[index], batch_size, seed, *more)
