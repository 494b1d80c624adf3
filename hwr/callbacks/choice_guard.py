"""Choose nothing by the test images where they are validated on."""

from pytorch_lightning import Callback, LightningModule, Trainer

from hwr.errors import ConfigError


class NothingChosenByTest(Callback):
    """Reject callbacks and schedulers with a `monitor`, a user's own too.

    For runs with `split.val_is_test=true`, whose validation images are the test images.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at all callbacks and schedulers.

        Raises:
            ConfigError: One has a monitor.
        """
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        schedules = [config for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        found = [(type(c).__name__, getattr(c, "monitor", None)) for c in callbacks]
        found += [(type(c.scheduler).__name__, c.monitor) for c in schedules]
        for name, monitor in found:
            if monitor:
                raise ConfigError(
                    f"{name} monitors {monitor}, which would choose by the test images "
                    "(split.val_is_test=true); leave it out, or set split.val_is_test=false "
                    "split.val_size=0.1"
                )
