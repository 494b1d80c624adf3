"""Train a network: instantiate, fit, test, write the run folder."""

import inspect
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint, ProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from hwr.callbacks import NothingChosenByTest
from hwr.config.checks import nearest
from hwr.config.compose import plain
from hwr.config.instantiate import instantiate
from hwr.errors import ConfigError, RunError, UserError
from hwr.inference import checkpoint
from hwr.reporting import loggers as reporting
from hwr.runs import run_folder
from hwr.training import build, evaluate, resume
from hwr.training.memory import keep_freed_memory

NOISE = (
    *(r"`isinstance\(treespec, LeafSpec\)` is deprecated", ".*does not have many workers"),
    *("Checkpoint directory .* exists and is not empty", "The dirpath has changed"),
    *(".*with models that have no learning rate schedulers", "You requested to overfit"),
    "Total length of `list` across ranks is zero",  # no validation images
    "The number of training batches",  # metrics are logged once an epoch
)
"""Warnings of Lightning that say nothing new to a user of hwr-train."""


def train(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Fit a network, test it, and write its run folder.

    Args:
        config: The settings, as `hwr.compose` gives them.
        folder: The run folder; it may exist, but must not hold a run unless that is resumed.

    Returns:
        The content of `metrics.json`; nothing in all but the first of several processes.

    Raises:
        ConfigError: A node can't be instantiated, or Lightning rejects a setting.
        DataError: The dataset is missing, broken, or cannot be split as asked.
        RunError: The folder holds a run, the checkpoint does not fit, or the loss is NaN.
        KeyboardInterrupt: Stopped; the message says how to resume.
    """
    config = config.copy()
    config.output_dir = str(folder)
    _check_trainer(config.trainer)
    keep_freed_memory()
    # Lightning makes torch's optimizers ask NVML for a GPU at every step; CUDA's own check is fast.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build.build_data(config)
    about = resume.about(config, data)
    ckpt_path = resume.check(config, data, about)
    model, callbacks = build.build_model(config, data, about)
    loggers, timer = _instantiate_group(config, "logger"), _timer(config.trainer.get("max_time"))
    callbacks += [*_callbacks(config, model, bool(loggers), about["val_is_test"]), timer]
    trainer = _trainer(config, callbacks, loggers)
    if not trainer.is_global_zero:
        _fit(trainer, model, data, ckpt_path)
        return {}
    with run_folder.lock_run(folder, config), reporting.logged(trainer.loggers, config):
        fitted, epochs = _fit(trainer, model, data, ckpt_path), trainer.current_epoch
        reported = epochs
        if config.monitor and (best := _saved(trainer, config.monitor)):
            saved = checkpoint.read(Path(best))
            model.load_state_dict(saved["state_dict"])
            fitted |= saved["hwr"]["metrics"]
            reported = saved["epoch"] + 1
        if trainer.world_size > 1:  # one process, so that each image is tested once
            torch.distributed.destroy_process_group()
            one = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
            trainer = _trainer(config, callbacks, loggers, **one)
        tested, predictions, writers = evaluate.test(trainer, model, data)
        metrics: dict[str, Any] = {
            "model": str(config.model._target_).rpartition(".")[2].lower(),
            **{name: value for name, value in about.items() if name != "config"},
            **fitted,
            **tested,
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "epochs": epochs,
            "reported_epoch": reported,
            "fit_seconds": timer.time_elapsed("train"),
        }
        reporting.log_tensorboard_hparams(trainer.loggers, run_folder.settings(config), metrics)
        return run_folder.finish(folder, config, metrics, predictions, writers)


def _instantiate_group(config: DictConfig, group: str) -> list[Any]:
    """Instantiate the nodes of a group: one, several under names of their own, or both.

    Those whose `monitor` is null are left out.
    """
    settings = plain(config[group]) or {}
    nodes = {key: v for key, v in settings.items() if isinstance(v, dict) and "_target_" in v}
    if "_target_" in settings:
        nodes[""] = {key: value for key, value in settings.items() if key not in nodes}
    return [
        instantiate(node, f"{group}.{key}".rstrip("."))
        for key, node in nodes.items()
        if node.get("monitor", "") is not None
    ]


def _callbacks(
    config: DictConfig, model: pl.LightningModule, has_logger: bool, val_is_test: bool
) -> list[pl.Callback]:
    """Instantiate the callbacks, without those that need a logger or terminal that isn't there."""
    left_out: list[type[pl.Callback]] = [] if has_logger else [pl.callbacks.LearningRateMonitor]
    left_out += [] if sys.stderr.isatty() else [ProgressBar]
    callbacks: list[pl.Callback] = _instantiate_group(config, "callbacks")
    callbacks = [c for c in callbacks if not isinstance(c, tuple(left_out))]
    savers = [c for c in callbacks if isinstance(c, ModelCheckpoint)]
    if config.monitor and config.monitor not in [c.monitor for c in savers]:
        raise ConfigError(
            f"monitor={config.monitor} needs a ModelCheckpoint that saves the best epoch, and "
            "there is none; add callbacks=default"
        )
    logged = [f"val/{name}" for name in getattr(model, "val_metrics", ())]
    for key in ("monitor", "optimized_metric"):
        if logged and config[key] not in (None, *logged):
            raise ConfigError(f"{key}={config[key]} must be one of {', '.join(logged)}")
    for callback in callbacks:
        monitor = str(getattr(callback, "monitor", None))
        if logged and monitor.startswith("val/") and monitor not in logged:
            raise ConfigError(
                f"{type(callback).__name__} monitors {monitor}, which is none of "
                f"{', '.join(logged)}"
            )
    return [*callbacks, *([NothingChosenByTest()] if val_is_test else [])]


def _timer(max_time: Any) -> pl.callbacks.Timer:
    """Make the timer that measures the fit, and ends it after `trainer.max_time`."""
    try:
        timer = pl.callbacks.Timer(plain(max_time), verbose=False)
        remaining = timer.time_remaining()
        if remaining is None or remaining > 0:
            return timer
    except Exception:  # Lightning raises several kinds
        pass
    raise ConfigError(
        f"trainer.max_time={max_time} must be days, hours, minutes and seconds above 0, "
        "such as 00:08:00:00"
    )


def _check_trainer(node: DictConfig) -> None:
    """Reject arguments that the Trainer does not have, or that other groups set."""
    names = inspect.signature(pl.Trainer).parameters
    for name in map(str, node):
        if name in ("callbacks", "logger", "default_root_dir"):
            raise ConfigError(f"trainer.{name} is set by the groups callbacks and logger")
        if name not in names and not name.startswith("_"):
            hint = nearest(name, names, "trainer.")
            raise ConfigError(f"Lightning's Trainer has no argument {name}{hint}")


def _trainer(
    config: DictConfig, callbacks: list[pl.Callback], loggers: list[Any], **changed: Any
) -> pl.Trainer:
    """Instantiate Lightning's Trainer with all settings of the group, some of them changed."""
    level = logging.INFO if config.trainer.get("profiler") else logging.WARNING
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(level)  # a profiler's table is logged
    warnings.filterwarnings("ignore", "|".join(NOISE))
    node = {
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        **plain(config.trainer),
        **changed,
    }
    atomic = {"_target_": "hwr.callbacks.AtomicCheckpointIO"}
    node["plugins"] = [*(node.get("plugins") or []), atomic]
    trainer: pl.Trainer = instantiate(
        node,
        "trainer",
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=config.output_dir,
    )
    return trainer


def _fit(
    trainer: pl.Trainer, model: pl.LightningModule, data: Any, ckpt_path: Path | None
) -> dict[str, float]:
    """Fit, and return the metrics of the last epoch."""
    saved = checkpoint.read(ckpt_path) if ckpt_path else {"hwr": {}}
    try:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as end:  # Lightning makes it of a stop, and switches Ctrl-C off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not isinstance(stop := end.__context__, KeyboardInterrupt):
            raise
        raise type(stop)(_stopped(trainer)) from stop
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning says: {' '.join(str(error).split())}") from error
    except (UserError, OSError):
        raise
    except Exception as error:
        if ckpt_path and trainer.global_step in (0, saved.get("global_step")):  # no step was made
            raise RunError(f"ckpt_path={ckpt_path} is damaged: {type(error).__name__}") from error
        raise
    # A run that was stopped after its last epoch logs nothing when it is resumed.
    return {**saved["hwr"].get("metrics", {}), **reporting.logged_metrics(trainer)}


def _stopped(trainer: pl.Trainer) -> str:
    """Tell after how many epochs a run was stopped, and how to resume it."""
    done = f"stopped after {trainer.current_epoch} epoch{'s' * (trainer.current_epoch != 1)}"
    if last := _saved(trainer, None):
        return f"{done}; resume with ckpt_path={last}"
    if trainer.checkpoint_callbacks:
        return done
    return f"{done}; no checkpoint was written, since no callback writes any"


def _saved(trainer: pl.Trainer, monitor: str | None) -> str | None:
    """Return the checkpoint of the best epoch by a metric; None: that of the last epoch."""
    savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    paths = [c.best_model_path for c in savers if c.monitor == monitor]
    return next(filter(None, paths), None)
