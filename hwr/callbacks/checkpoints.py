"""Write checkpoints atomically, and with what a Recognizer needs."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO

from hwr.files import atomic_write
from hwr.reporting.loggers import logged_metrics


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint to a temporary path, and rename it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; an old one of this name stays until the new one is complete."""
        content = io.BytesIO()  # torch's own writer doesn't say why a disk takes no more
        torch.save(checkpoint, content)
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


class SaveCard(Callback):
    """Write `checkpoint["hwr"]` for a user's own LightningModule, as those of hwr do themselves.

    Args:
        card: Node of the model, charset, image size, preprocessing; plain values.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        self.card = card

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the card and the metrics of the epoch."""
        checkpoint["hwr"] = {**self.card, "metrics": logged_metrics(trainer)}
