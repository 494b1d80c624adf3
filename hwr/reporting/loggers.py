"""Log settings and images with whatever Lightning loggers a run has, and close them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from hwr.config.compose import plain
from hwr.reporting import columns, results, tables


def log_image(logger: Logger, tag: str, png: bytes, step: int) -> None:
    """Log an image with TensorBoard, W&B or MLflow; other loggers take none.

    Args:
        logger: Any logger of Lightning.
        tag: Its name, such as `test/confusion`.
        png: The content of a PNG file.
        step: The step of the training.
    """
    image = results.pixels(png)
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(tag, image, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(tag, [image], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, key=tag, step=step)


def log_hyperparams(loggers: Iterable[Logger], config: Any) -> None:
    """Log the settings of a run when it starts.

    TensorBoard gets them as text, and as hyper-parameters by `log_tensorboard_hparams`.

    Args:
        loggers: Those of the trainer.
        config: The settings.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("run/settings", tables.settings(plain(config)))
            logger.experiment.add_text("run/environment", tables.environment())
        else:
            logger.log_hyperparams(columns.logged(config))


def log_tensorboard_hparams(
    loggers: Iterable[Logger], config: Any, metrics: Mapping[str, Any]
) -> None:
    """Make a finished run a row of TensorBoard's HParams tab.

    Args:
        loggers: Those of the trainer.
        config: The settings.
        metrics: Those of the test, and `model`, `data`, `split`, `epochs`, `parameters`,
            `fit_seconds`.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            row, outcomes = columns.columns(config, metrics), columns.outcomes(metrics)
            logger.log_hyperparams(row, outcomes, metrics["epochs"])
            logger.finalize("success")


@contextmanager
def logged(loggers: Sequence[Logger], config: Any) -> Iterator[None]:
    """Log the settings, and end the runs of W&B when the block ends.

    The next run of a multirun would go on with them. If the block raises, they have failed.

    Args:
        loggers: Those of the trainer.
        config: The settings.
    """
    log_hyperparams(loggers, config)
    try:
        yield
    except BaseException:
        _close(loggers, 1)
        raise
    _close(loggers, 0)


def _close(loggers: Iterable[Logger], exit_code: int) -> None:
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=exit_code)


def logged_metrics(trainer: Any) -> dict[str, float]:
    """Return the metrics of a Trainer's last epoch.

    Checkpoints hold them, for a run that was stopped after its last epoch and is resumed.
    """
    logged = trainer.callback_metrics.items()
    return {name: float(value) for name, value in logged if not name.startswith("lr-")}
