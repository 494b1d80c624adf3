"""Stop a run that is NaN or infinite, and reject one that would choose by the test images."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from hwr.errors import ConfigError, RunError


class StopOnNaN(Callback):
    """Stop before a loss that is NaN or infinite spoils the weights, and before they are saved."""

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check the loss of every process.

        Raises:
            RunError: It is NaN or infinite; names step, learning rate and the last good checkpoint.
        """
        finite = bool(loss.isfinite())
        if trainer.strategy.reduce_boolean_decision(finite):
            return
        step, epoch = trainer.global_step + 1, trainer.current_epoch + 1
        if finite:
            raise RunError(
                f"Loss is NaN or infinite on another rank at step {step}; see that rank's log"
            )
        raise RunError(f"loss is {loss.item()} at step {step} (epoch {epoch}), {_where(trainer)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights before a checkpoint is written.

        Raises:
            RunError: Some are NaN or infinite.
        """
        epoch = trainer.current_epoch + 1
        for name, weight in pl_module.state_dict().items():
            if not weight.isfinite().all():
                raise RunError(f"{name} is NaN or infinite after epoch {epoch}, {_where(trainer)}")


def _where(trainer: Trainer) -> str:
    """Name the learning rate and the last good checkpoint."""
    paths = [getattr(callback, "best_model_path", "") for callback in trainer.checkpoint_callbacks]
    path = next(filter(None, paths), None)
    checkpoint = f"the last good checkpoint is {path}" if path else "no checkpoint was written yet"
    rate = float(trainer.optimizers[0].param_groups[0]["lr"])
    return f"where the learning rate is {rate:.3g}; {checkpoint}"


class NothingChosenByTest(Callback):
    """Reject callbacks and schedulers with a `monitor`, a user's own too.

    For runs with `split.val_is_test=true`, whose validation images are the test images.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all callbacks and schedulers.

        Raises:
            ConfigError: One has a monitor.
        """
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        monitors = [(type(c).__name__, getattr(c, "monitor", None)) for c in callbacks]
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                monitors.append((type(config.scheduler).__name__, config.monitor))
        for name, monitor in monitors:
            if monitor:
                raise ConfigError(
                    f"{name} monitors {monitor}, but the validation images are the test images "
                    "(split.val_is_test=true); leave it out, or set split.val_is_test=false "
                    "split.val_size=0.1"
                )
