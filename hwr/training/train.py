"""hwr-train: settings -> fit -> test -> run folder."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from hwr.errors import ConfigError, RunError, UserError
from hwr.inference import checkpoint
from hwr.reporting import loggers as reporting
from hwr.runs import run_folder
from hwr.training import build, evaluation, resume
from hwr.training.memory import keep_freed_memory
from hwr.training.module import CharacterClassifier, GlyphNet


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
    keep_freed_memory()
    # Lightning makes torch's optimizers ask NVML for a GPU at every step; CUDA's own check is fast.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    seed_everything(config.seed, workers=True, verbose=False)
    data: Any = build.build_data(config)
    about = resume.about(config, data)
    ckpt_path = resume.check(config, list(data.charset.names), about)
    model, needed = build.build_model(config, data, about)
    if config.init_from and not ckpt_path:
        build.load_weights(model, config.init_from)
    loggers = build.build_loggers(config)
    callbacks = build.build_callbacks(config, bool(loggers), about["val_is_test"])
    check_monitor(config, model)
    validates = about["val_images"] > 0
    trainer = build.build_trainer(config, [*callbacks, *needed], loggers, validates)
    if config.compile:
        (model.model if isinstance(model, CharacterClassifier) else model).compile()
    if not trainer.is_global_zero:
        fit(trainer, model, data, ckpt_path)
        return {}
    with run_folder.started(folder, config), reporting.logged(trainer.loggers, config):
        metrics = fit(trainer, model, data, ckpt_path)
        best = best_checkpoint(trainer)
        tester = evaluation.single_process(trainer)
        metrics |= evaluation.test(tester, model, data, best)
        logits, label = evaluation.predict(tester, model, data)
        done: dict[str, Any] = {
            "model": build.name_of(config.model),
            **{name: value for name, value in about.items() if name != "config"},
            **evaluation.measured(logits, label, data.charset),
            **metrics,
            "partial": evaluation.is_partial(tester, data),
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "epochs": trainer.current_epoch,
            "reported_epoch": epoch_of(best) if best else trainer.current_epoch,
            "fit_seconds": fit_seconds(trainer),
        }
        if isinstance(model, GlyphNet):
            done |= evaluation.with_writer_context(model, data)
        reporting.log_tensorboard_hparams(trainer.loggers, run_folder.settings(config), done)
        predictions, groups = evaluation.rows(data, logits, label)
        return run_folder.finish(folder, config, done, predictions, groups)


def fit(
    trainer: Trainer, model: LightningModule, data: Any, ckpt_path: Path | None
) -> dict[str, float]:
    """Fit, and return the metrics of the last epoch.

    Raises:
        ConfigError: Lightning rejects a setting.
        RunError: The checkpoint is damaged, or the loss is NaN.
        KeyboardInterrupt: Stopped; the message says how to resume.
    """
    saved = checkpoint.read(ckpt_path) if ckpt_path else {"hwr": {}}
    try:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as end:  # what Lightning makes of a stop, Ctrl-C switched off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop = end.__context__
        if not isinstance(stop, KeyboardInterrupt):
            raise
        raise type(stop)(stopped(trainer)) from stop
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning says: {' '.join(str(error).split())}") from error
    except Exception as error:
        steps = (0, saved.get("global_step"))  # before and after the checkpoint was loaded
        unexpected = not isinstance(error, UserError | OSError)
        if ckpt_path and unexpected and trainer.global_step in steps:
            raise RunError(f"ckpt_path={ckpt_path} is damaged: {type(error).__name__}") from error
        raise
    return {**saved["hwr"].get("metrics", {}), **reporting.logged_metrics(trainer)}


def stopped(trainer: Trainer) -> str:
    """Say how far a stopped run has come, and how to resume it."""
    epochs = trainer.current_epoch
    done = f"stopped after {epochs} epoch{'s' * (epochs != 1)}"
    saves = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    last = next((c.best_model_path for c in saves if not c.monitor and c.best_model_path), None)
    if last:
        return f"{done}; resume with ckpt_path={last}"
    return done if saves else f"{done}; no checkpoint was written, since no callback writes any"


def best_checkpoint(trainer: Trainer) -> str | None:
    """Return the checkpoint of the best epoch by the monitored metric; None without a monitor."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return callback.best_model_path
    return None


def epoch_of(path: str) -> int:
    """Return the epoch, from 1, after which a checkpoint was written."""
    return int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1


def fit_seconds(trainer: Trainer) -> float:
    """Return the wall time of the fit, that before a resume included."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
    return float(timers[0].time_elapsed("train"))


def check_monitor(config: DictConfig, model: LightningModule) -> None:
    """Reject a monitored metric that the network doesn't log.

    Raises:
        ConfigError: Lists those that it logs.
    """
    if not isinstance(model, CharacterClassifier):
        return
    logged = [f"val/{name}" for name in model.val_metrics]
    for key in ("monitor", "optimized_metric"):
        if config[key] is not None and config[key] not in logged:
            raise ConfigError(f"{key}={config[key]} must be one of {', '.join(logged)}")
