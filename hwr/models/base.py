"""What the networks share: loss, metrics, steps, and what a checkpoint says of itself."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import functional
from torchmetrics.utilities.distributed import gather_all_tensors

from hwr.alphabet import Alphabet
from hwr.batches import Batch, listed
from hwr.metrics import Accuracies, known
from hwr.networks.base import Network

BLOCK = 2**20
"""Logits in a block."""


class CharacterClassifier(LightningModule):
    """A network from `image` (N, 1, H, W) of grey values from 0 to 1 to `logits` (N, C).

    Subclasses call `save_hyperparameters(logger=False)`, so that a checkpoint holds alphabet, size
    and preprocessing of the pictures beside what the network is made of.

    Args:
        alphabet: Class names in label order, C of them.
        network: One of `hwr.networks`.
    """

    def __init__(self, alphabet: Sequence[str], network: Network) -> None:
        super().__init__()
        self.alphabet, self.network = Alphabet(tuple(alphabet)), network
        self.train_metrics, self.val_metrics = Accuracies(self.alphabet), Accuracies(self.alphabet)
        self._seen, self._validated = Seen(), Seen()

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        logits: Tensor = self.network(image)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """The loss of a batch; with `automatic_optimization` off, a step for each of a list.

        Lightning's own work around a step takes as long as the step of a small network.
        """
        if self.automatic_optimization:
            return self._loss(batch)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        for one in batch:
            optimizer.zero_grad()
            self.manual_backward(self._loss(one))
            optimizer.step()
        return None

    def _loss(self, batch: Batch) -> Tensor:
        """The mean cross-entropy of a batch."""
        image, label = batch
        logits = self(image)
        self._seen.add(logits.detach(), label)
        return functional.cross_entropy(logits, label)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Keep the logits for the end of the epoch, of a batch or a list of them."""
        for image, label in listed(batch):
            self._validated.add(self(image), label)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logits, shape (N, C)."""
        logits: Tensor = self(batch[0])
        return logits

    # Metrics are computed once an epoch over all its logits: the same figures as after every
    # batch, for a fraction of the time that 80 updates of a small network would take.

    def on_train_epoch_end(self) -> None:
        """Log the running figures of the epoch, dropout on, as Keras does."""
        self._log("train", self._seen, self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the validation pictures."""
        self._log("val", self._validated, self.val_metrics)

    def _log(self, part: str, seen: "Seen", metrics: Any) -> None:
        processes = self.trainer.world_size
        logits, label = seen.take()
        if processes > 1:  # each has seen a share; all get the figures of the whole
            logits, label = (torch.cat(gather_all_tensors(part)) for part in (logits, label))
        metrics.update(logits, label)
        figures = {"loss": functional.cross_entropy(logits, label), **known(metrics.compute())}
        metrics.reset()
        # Lightning's `log` puts them here too, in half of the time that an epoch's record takes.
        self.trainer.callback_metrics.update(
            {f"{part}/{name}": figure for name, figure in figures.items()}
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the network: Lightning's checkpoints don't."""
        checkpoint["model"] = type(self).__name__.lower()


class Seen:
    """The logits and labels of an epoch, in few large blocks.

    Thousands of small tensors that live as long as an epoch would lie between the large ones of
    each step, and keep their memory from being used again: 0.8 MB a step with the CNN.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self._used = 0  # rows of the last block

    def add(self, logits: Tensor, label: Tensor) -> None:
        """Copy those of a batch, shapes (N, C) and (N,)."""
        count, classes = logits.shape
        if not self._blocks or self._used + count > len(self._blocks[-1][1]):
            self._close()
            rows = max(count, BLOCK // classes)
            self._blocks.append((logits.new_empty(rows, classes), label.new_empty(rows)))
        for whole, part in zip(self._blocks[-1], (logits, label), strict=True):
            whole[self._used : self._used + count] = part
        self._used += count

    def take(self) -> tuple[Tensor, Tensor]:
        """All of them, shapes (N, C) and (N,); none stay behind."""
        self._close()
        logits, label = (torch.cat(parts) for parts in zip(*self._blocks, strict=True))
        self._blocks.clear()
        return logits, label

    def _close(self) -> None:
        """Leave out what the last block has not been used for."""
        if self._blocks:
            logits, label = self._blocks[-1]
            self._blocks[-1] = logits[: self._used], label[: self._used]
        self._used = 0
