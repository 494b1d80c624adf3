"""The LightningDataModule: batches cut by index from tensors that stay in memory."""

from collections.abc import Iterator

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from hwr import data
from hwr.alphabet import Alphabet
from hwr.data import Characters
from hwr.schema import DataConfig, SplitConfig
from hwr.split import Indices, Split, split

Batch = tuple[Tensor, Tensor]
EVALUATION_BATCH = 1024


class Batches:
    """Batches of `image` (B, 1, H, W) from 0 to 1 and `label` (B,), cut from tensors by index.

    Args:
        image: Grey values from 0 to 255, shape (N, 1, H, W).
        label: Shape (N,).
        batch_size: B; the last batch may be smaller.
        seed: Shuffles anew every epoch, the same for the same seed and epoch; None: in order.
        rank: The process that takes these, from 0.
        ranks: Processes that share every batch, each a stride of it; `batch_size` is a multiple
            of them. In training all get the same number of pictures, so up to `ranks - 1` at the
            end of an epoch, others each time, are left out; in order, none is.
    """

    def __init__(
        self,
        image: Tensor,
        label: Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.image, self.label, self.batch_size, self.seed = image, label, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self.count = len(label) if seed is None else len(label) // ranks * ranks
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
                rows = slice(start + self.rank, start + self.batch_size, self.ranks)
                yield self.image[rows] / 255, self.label[rows]
            return
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.label))
        for start in range(0, self.count, self.batch_size):
            batch = order[start : min(start + self.batch_size, self.count)]
            index = torch.from_numpy(batch[self.rank :: self.ranks])
            yield self.image[index] / 255, self.label[index]


class CharacterData(LightningDataModule):
    """The pictures of a data set, split, as batches.

    Args:
        data: Which set, how prepared, and the batch size.
        split: How it is cut.
        seed: Order of the training batches.
    """

    def __init__(self, data: DataConfig, split: SplitConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, self.split_config, self.seed = data, split, seed
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

    def train_dataloader(self) -> Batches:
        """Shuffled training batches, or what this process takes of each."""
        return self._batches(self.parts.train, self.config.batch_size, self.seed, *self._share())

    def val_dataloader(self) -> Batches | list[Batches]:
        """Validation batches, or what this process takes; none without a validation part."""
        if not len(self.parts.val):
            return []
        return self._batches(self.parts.val, EVALUATION_BATCH, None, *self._share())

    def test_dataloader(self) -> Batches:
        """Test batches."""
        return self.evaluation(self.parts.test)

    def evaluation(self, rows: Indices) -> Batches:
        """The pictures of these rows, in order, in large batches."""
        return self._batches(rows, EVALUATION_BATCH)

    def _share(self) -> tuple[int, int]:
        """This process, and how many there are."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _batches(
        self, rows: Indices, batch_size: int, seed: int | None = None, *share: int
    ) -> Batches:
        _, _, image, label = self.loaded
        index = torch.from_numpy(rows)
        return Batches(image[index], label[index], batch_size, seed, *share)
