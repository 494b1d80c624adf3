"""Numbers that are none, put into one step of a training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from hwr.batches import listed
from hwr.datamodule import CharacterData
from hwr.recorder import Recorder


def spoil(step: int, kind: str, batch: Path) -> None:
    """Before hwr-train: one of its steps will be spoilt.

    Args:
        step: Which, counted from 1.
        kind: `nan` or `inf`, what the loss becomes; `gradient` makes a gradient infinite.
        batch: Where the pictures of this step go, an array of NumPy.
    """
    true_batch = CharacterData.on_before_batch_transfer
    true_loss, true_step = Recorder.on_before_backward, Recorder.on_before_optimizer_step
    seen = 0

    def before_transfer(module: CharacterData, data: Any, number: int) -> Any:
        nonlocal seen
        if module.trainer is not None and module.trainer.training:
            for one in listed(data):
                seen += 1
                if seen == step:
                    np.save(batch, one[0])
        return true_batch(module, data, number)

    def before_backward(
        recorder: Recorder, trainer: Trainer, module: LightningModule, loss: Tensor
    ) -> None:
        if trainer.global_step + 1 == step and kind != "gradient":
            loss.data.fill_(float(kind))
        true_loss(recorder, trainer, module, loss)

    def before_step(
        recorder: Recorder, trainer: Trainer, module: LightningModule, optimizer: Any
    ) -> None:
        if trainer.global_step + 1 == step and kind == "gradient":
            next(iter(module.parameters())).grad.fill_(torch.inf)  # type: ignore[union-attr]
        true_step(recorder, trainer, module, optimizer)

    CharacterData.on_before_batch_transfer = before_transfer  # type: ignore[method-assign]
    Recorder.on_before_backward = before_backward  # type: ignore[method-assign]
    Recorder.on_before_optimizer_step = before_step  # type: ignore[method-assign]
