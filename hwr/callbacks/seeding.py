"""Seed every epoch, so that a resumed run equals one that was never stopped."""

from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything


class SeedEachEpoch(Callback):
    """Seed Python, NumPy and torch at the start of each training epoch from `seed` and epoch alone.

    The order of the batches, dropout and augmentation then don't depend on what was drawn before.

    Args:
        seed: Seed of the run, at least 0.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed all generators."""
        seed_everything((self.seed * 1_000_003 + trainer.current_epoch) % 2**32, verbose=False)
