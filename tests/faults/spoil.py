"""A callback that spoils one step of a training."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Spoil(Callback):
    """Make an image of a batch, or a gradient, NaN or infinite.

    Args:
        step: Which, counted from 1.
        pixel: What the pixels of the first image become; None: a gradient becomes infinite.
        rank: In which of several processes.
    """

    def __init__(self, step: int, pixel: float | None = None, rank: int = 0) -> None:
        self.step, self.pixel, self.rank = step, pixel, rank

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Spoil the batch."""
        due = trainer.global_step + 1 == self.step and trainer.global_rank == self.rank
        if due and self.pixel is not None:
            batch[0][0] = self.pixel

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Spoil a gradient."""
        if trainer.global_step + 1 == self.step and self.pixel is None:
            next(iter(pl_module.parameters())).grad.fill_(torch.inf)  # type: ignore[union-attr]
