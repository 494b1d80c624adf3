"""Stop a run whose loss or weights are NaN or infinite."""

import math

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from hwr.errors import RunError


class StopOnNaN(Callback):
    """Stop before a loss that is NaN or infinite spoils the weights, and before they are saved."""

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check the loss of every process.

        Raises:
            RunError: It is NaN or infinite; names step, learning rate and the last good checkpoint.
        """
        finite = math.isfinite(loss.item())
        if trainer.strategy.reduce_boolean_decision(finite):
            return
        step = trainer.global_step + 1
        if finite:
            raise RunError(
                f"Loss is NaN or infinite on another rank at step {step}; see that rank's log"
            )
        raise RunError(
            f"loss is {loss.item()} at step {step} (epoch {trainer.current_epoch + 1}), where the "
            f"learning rate is {_lr(trainer)}; {_last_good(trainer)}"
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights before a checkpoint is written.

        Raises:
            RunError: Some are NaN or infinite.
        """
        for name, weight in pl_module.state_dict().items():
            if not weight.isfinite().all():
                raise RunError(
                    f"{name} is NaN or infinite after epoch {trainer.current_epoch + 1}, where the "
                    f"learning rate is {_lr(trainer)}; {_last_good(trainer)}"
                )


def _lr(trainer: Trainer) -> str:
    return f"{float(trainer.optimizers[0].param_groups[0]['lr']):.3g}"


def _last_good(trainer: Trainer) -> str:
    paths = [getattr(callback, "best_model_path", "") for callback in trainer.checkpoint_callbacks]
    if path := next(filter(None, paths), None):
        return f"the last good checkpoint is {path}"
    return "no checkpoint was written yet"
