"""Describe a run in its checkpoints, and check that another run may resume from them."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities.model_helpers import is_overridden

from hwr.data import CharacterDataModule
from hwr.errors import RunError
from hwr.files import expand_user
from hwr.inference import checkpoint
from hwr.runs import run_folder
from hwr.runs.records import difference, flatten
from hwr.training.networks import GlyphNet

MAY_DIFFER = {
    *("ckpt_path", "init_from", "optimized_metric", "compile", "data.root", "data.cache"),
    *("data.num_workers", "data.pin_memory", "data.persistent_workers"),
}
"""Settings that don't change what is trained; nor do those of `trainer`, except max_epochs."""


def about(config: DictConfig, data: Any) -> dict[str, Any]:
    """Describe what a model is trained on, in plain values.

    Args:
        config: The settings.
        data: The data module, set up.
    """
    if isinstance(data, CharacterDataModule):
        described = run_folder.describe(data.dataset, data.split, data.parts)
    else:
        names = ("train_dataloader", "val_dataloader", "test_dataloader")
        loaders = [getattr(data, name)() if is_overridden(name, data) else () for name in names]
        counts = [len(getattr(loader, "dataset", ())) for loader in loaders]
        described = {
            **dict(zip(("train_images", "val_images", "test_images"), counts, strict=True)),
            "data": type(data).__name__.lower(),
            "classes": len(data.charset),
            "split": "own",
            "val_is_test": False,
            "data_fingerprint": None,
        }
    if config.model._target_ == GlyphNet.target and config.model.backbone == "lcnet":
        described["began_with"] = "PP-OCRv6_rec_small (Baidu, Apache License 2.0)"
    return {
        "hwr_version": version("hwr"),
        **described,
        "seed": config.seed,
        "config": run_folder.settings(config),
    }


def check(config: DictConfig, data: Any, about: dict[str, Any]) -> Path | None:
    """Reject a checkpoint that would not continue this very run.

    Args:
        config: The settings.
        data: The data module.
        about: What `about` returned for this run.

    Returns:
        The checkpoint to resume from; None: the run starts anew.

    Raises:
        RunError: It is missing, of another model, charset, split or setting, or has more epochs
            behind it than are asked for.
    """
    if config.ckpt_path is None:
        return None
    path = expand_user(config.ckpt_path)
    if path.is_dir():
        path = path / "checkpoints/last.ckpt"
    saved = checkpoint.read(path)
    try:
        before, charset = saved["hwr"]["about"], saved["hwr"]["charset"]
        settings, epochs = _compared(before["config"]), saved["epoch"] + 1
        fingerprint = before["data_fingerprint"]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} was not written by hwr-train; use init_from={path}") from error
    if changed := difference(settings, _compared(about["config"])):
        raise RunError(f"ckpt_path={path} was made with {changed}")
    if (charset, fingerprint) != (list(data.charset.names), about["data_fingerprint"]):
        raise RunError(f"ckpt_path={path} was made with other images or classes")
    if epochs > config.trainer.max_epochs:
        most = config.trainer.max_epochs
        raise RunError(f"ckpt_path={path} has {epochs} epochs, more than trainer.max_epochs={most}")
    return path


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    """Select the settings that change what is trained, by dotted key."""
    flat_settings = dict(flatten(settings))
    ignored = {key for key in flat_settings if key.startswith("trainer.")} | MAY_DIFFER
    if settings["scheduler"]:  # which is made for so many epochs
        ignored.remove("trainer.max_epochs")
    return {key: value for key, value in flat_settings.items() if key not in ignored}
