"""What a checkpoint says of its run, and whether another run may go on from it."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hwr.errors import RunError
from hwr.files import expand_user
from hwr.inference import checkpoint
from hwr.runs import run_folder
from hwr.runs.records import flatten

MAY_DIFFER = frozenset(
    {
        *("ckpt_path", "init_from", "optimized_metric", "compile", "data.root", "data.cache"),
        *("data.num_workers", "data.pin_memory", "data.persistent_workers"),
    }
)
"""Settings that don't change what is trained; of `trainer` none is compared but max_epochs."""


def about(config: DictConfig, data: Any) -> dict[str, Any]:
    """Say what a model is trained on, plain values.

    Args:
        config: The settings.
        data: The data module, set up.
    """
    return {
        "hwr_version": version("hwr"),
        **describe(data),
        "seed": config.seed,
        **pretrained_by(config),
        "config": run_folder.settings(config),
    }


def describe(data: Any) -> dict[str, Any]:
    """Describe data and split of any data module."""
    if hasattr(data, "parts"):
        return run_folder.describe(data.dataset, data.split, data.parts)
    loaders = {"train": data.train_dataloader, "val": data.val_dataloader}
    loaders["test"] = data.test_dataloader
    return {
        "data": type(data).__name__.lower(),
        "classes": len(data.charset),
        "split": "own",
        "val_is_test": False,
        **{f"{part}_images": _length(loader()) for part, loader in loaders.items()},
        "data_fingerprint": None,
    }


def pretrained_by(config: DictConfig) -> dict[str, str]:
    """Name the published weights that a network begins with, if it does."""
    if config.model.get("backbone") != "lcnet":
        return {}
    return {"began_with": "PP-OCRv6_rec_small (Baidu, Apache License 2.0)"}


def check(config: DictConfig, charset: list[str], about: dict[str, Any]) -> Path | None:
    """Reject a checkpoint that would not continue this very run.

    Args:
        config: The settings.
        charset: The classes of the data.
        about: What `about` says of this run.

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
        card, epochs = saved["hwr"], int(saved["epoch"]) + 1
        classes, earlier = list(card["charset"]), dict(flatten(card["about"]["config"]))
        fingerprint = card["about"]["data_fingerprint"]
        list(map(float, card.get("metrics", {}).values()))
    except Exception as error:  # whatever a damaged file holds
        raise RunError(f"{path} is no checkpoint of hwr-train") from error
    now = dict(flatten(about["config"]))
    for key in sorted(earlier.keys() | now.keys()):
        if _compared(key, bool(config.scheduler)) and earlier.get(key) != now.get(key):
            raise RunError(
                f"ckpt_path={path} was made with {key}={earlier.get(key)}, "
                f"but this run has {key}={now.get(key)}"
            )
    if classes != charset:
        raise RunError(
            f"ckpt_path={path} has another charset: {len(classes)} classes, "
            f"not the {len(charset)} of this dataset"
        )
    if fingerprint != about["data_fingerprint"]:
        raise RunError(f"ckpt_path={path} was made with other images (data_fingerprint differs)")
    if epochs > config.trainer.max_epochs:
        most = config.trainer.max_epochs
        raise RunError(f"ckpt_path={path} has {epochs} epochs, more than trainer.max_epochs={most}")
    return path


def _compared(key: str, has_schedule: bool) -> bool:
    if key.startswith("trainer."):
        return key == "trainer.max_epochs" and has_schedule  # made for so many epochs
    return key not in MAY_DIFFER


def _length(loader: Any) -> int:
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else 0
