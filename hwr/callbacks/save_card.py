"""Add what a Recognizer needs to the checkpoints of a user's own LightningModule."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from hwr.reporting.loggers import logged_metrics


class SaveCard(Callback):
    """Write `checkpoint["hwr"]`: the node of the model, charset, image size, preprocessing.

    Args:
        card: Plain values, as `hwr.CharacterClassifier` writes them itself.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        self.card = card

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the card."""
        checkpoint["hwr"] = {**self.card, "metrics": logged_metrics(trainer)}
