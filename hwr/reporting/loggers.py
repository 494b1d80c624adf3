"""Log settings and images with whatever Lightning loggers a run has, and close them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from hwr.config.compose import plain
from hwr.reporting import columns, results


def log_image(logger: Logger, tag: str, image: NDArray[np.uint8], step: int) -> None:
    """Log an image with TensorBoard, W&B or MLflow; other loggers take none.

    Args:
        logger: Any logger of Lightning.
        tag: Its name, such as `test/confusion`.
        image: Shape (H, W, 3).
        step: The step of the training.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(tag, image, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(tag, [image], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, key=tag, step=step)


@contextmanager
def logged(loggers: Sequence[Logger], config: Any) -> Iterator[None]:
    """Log the settings, and end the runs of W&B when the block ends.

    The next run of a multirun would go on with them. If the block raises, they have failed.
    TensorBoard gets the settings as text, and as hyper-parameters by `log_tensorboard_hparams`.

    Args:
        loggers: Those of the trainer.
        config: The settings.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            results.write_settings(logger.experiment, plain(config))
        else:
            logger.log_hyperparams(columns.flatten(config))
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=exit_code)


def log_tensorboard_hparams(
    loggers: Iterable[Logger], config: Any, metrics: Mapping[str, Any]
) -> None:
    """Make a finished run a row of TensorBoard's HParams tab.

    Args:
        loggers: Those of the trainer.
        config: The settings.
        metrics: The content of `metrics.json`.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(*columns.hparams(config, metrics), metrics["epochs"])
            logger.finalize("success")


def logged_metrics(trainer: Any) -> dict[str, float]:
    """Return the metrics of a Trainer's last epoch.

    Checkpoints hold them, for a run that was stopped after its last epoch and is resumed.
    """
    logged = trainer.callback_metrics.items()
    return {name: float(value) for name, value in logged if not name.startswith("lr-")}
