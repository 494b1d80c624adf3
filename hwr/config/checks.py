"""Checks of composed settings: ranges from the schema's metadata, and contradictions."""

import math
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import combinations
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hwr.errors import MOST_PIXELS, DataError, RunError
from hwr.files import expand_user

WHOLE = 2**32
"""Whole numbers from here on are mistakes: no machine could do anything with them."""


def problems(config: DictConfig) -> Iterator[str]:
    """List what is out of range or contradictory, a sentence each."""
    yield from _out_of_range(config)
    kind = _kind(config)
    if "data" in config:
        yield from _data_problems(config.data)
    if "split" in config:
        yield from _split_problems(config.split)
    if kind == "TrainConfig":
        yield from _training_problems(config)
    if kind == "ForestConfig" and config.n_jobs == 0:
        yield "n_jobs=0 must be at least 1, or -1 for all processor cores"


def check_paths(config: DictConfig) -> None:
    """Reject files and folders that are missing, before anything heavy is imported.

    Raises:
        DataError: The data folder or its table is missing.
        RunError: The checkpoint is missing.
    """
    data: Any = config.get("data") or {}
    if data.get("_target_") == "hwr.data.FolderDataset":
        root = expand_user(data.root)
        if not root.is_dir():
            raise DataError(f"no data folder {root}; {_where(data)}")
        if data.csv is not None and not (root / data.csv).is_file():
            raise DataError(f"no table {data.csv} in {root}; {_where(data)}")
    for key in ("ckpt_path", "init_from"):
        path = config.get(key)
        if path is not None and not expand_user(path).exists():
            raise RunError(f"{key}={path}: no such checkpoint or run folder")


def _kind(node: Any) -> str:
    """Name the schema of a node."""
    return getattr(OmegaConf.get_type(node), "__name__", "")


def _where(data: Any) -> str:
    if data.name == "english":
        return (
            "hwr-data fetch brings the dataset, HWR_DATA or data.root says where it lies, "
            "and data=synthetic needs no files"
        )
    return "data.root says where the images lie"


def _out_of_range(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Compare each typed setting with the metadata of its field."""
    kind = OmegaConf.get_type(node)
    limits: dict[str, Mapping[str, Any]] = {}
    if is_dataclass(kind):
        limits = {field.name: field.metadata for field in fields(kind)}
    values = {str(key): node[key] for key in node}
    for key, value in values.items():
        if not isinstance(value, DictConfig):
            yield from _value_problems(f"{prefix}{key}", value, limits.get(key, {}))
    for key, value in values.items():
        if isinstance(value, DictConfig):
            yield from _out_of_range(value, f"{prefix}{key}.")


def _value_problems(key: str, value: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    if value is None:
        return
    if limits.get("text") and not str(value):
        yield f"{key}= is empty; it must name something, or be left out"
    if (choices := limits.get("choices")) and value not in choices:
        yield f"{key}={value} must be one of {', '.join(map(str, choices))}"
    if (pattern := limits.get("pattern")) and not re.fullmatch(pattern, value):
        yield f"{key}={value} must be numbers and ranges, such as {limits['example']}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    compared = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    bounds = [name for name in compared if name in limits]
    inside = all(compared[name](value, limits[name]) for name in bounds)
    if bounds and not (inside and math.isfinite(value)):
        finite = ", and finite" if isinstance(value, float) else ""
        start, end = ("above " if "gt" in limits else ""), ("below " if "lt" in limits else "")
        if high is None:
            yield f"{key}={value} must be {start or 'at least '}{low}{finite}"
        else:
            yield f"{key}={value} must lie {start or 'between '}{low} and {end}{high}"
    elif isinstance(value, int) and abs(value) >= WHOLE:
        yield f"{key}={value} must lie between {1 - WHOLE} and {WHOLE - 1}"


def _data_problems(data: DictConfig) -> Iterator[str]:
    kind = OmegaConf.get_type(data)
    if not is_dataclass(kind):
        return
    if data.height * data.width > MOST_PIXELS:
        size = f"data.height={data.height} data.width={data.width}"
        yield f"{size} is more than the {MOST_PIXELS:,} pixels that an array may have"
    if data.channels == 3 and data.preprocessing != "notebook":
        yield (
            f"data.channels=3 needs data.preprocessing=notebook; "
            f"data.preprocessing={data.preprocessing} is for gray images"
        )
    if data.persistent_workers and not data.num_workers:
        yield "data.persistent_workers=true needs data.num_workers of at least 1"
    columns = [name for name in ("image_column", "label_column", "writer_column") if name in data]
    for one, other in combinations(columns, 2):
        if data[one] == data[other]:
            yield f"data.{one}={data[one]} and data.{other} must be two columns"


def _split_problems(split: DictConfig) -> Iterator[str]:
    if "fold" in split and split.fold >= split.folds:
        yield f"split.fold={split.fold} must lie between 0 and {split.folds - 1}"
    if split.get("val_is_test") and split.get("val_size", 0) > 0:
        yield (
            f"split.val_is_test=true leaves nothing to cut, but split.val_size={split.val_size}; "
            "set one of them to false or 0"
        )


def _training_problems(config: DictConfig) -> Iterator[str]:
    data, model, trainer = config.data, config.model, config.trainer
    ours, small = _kind(model), "is too small for"
    if ours == "CNNConfig" and "height" in data and (data.height < 12 or data.width < 16):
        size = f"data.height={data.height} data.width={data.width}"
        yield f"{size} {small} model=cnn, which takes 12 x 16 pixels or more"
    if ours == "GlyphNetConfig":
        if data.get("height", 16) < 16:
            yield f"data.height={data.height} {small} model=glyphnet, which takes 16 or more"
        if model.backbone == "lcnet" and model.width_mult != 1:
            yield f"model.width_mult={model.width_mult} is for model.backbone=residual"
    lr = config.optimizer.get("lr")
    if lr is not None and not (isinstance(lr, int | float) and 0 < lr < math.inf):
        yield f"optimizer.lr={lr} must be a number above 0, and finite"
    if str(trainer.deterministic).lower() not in ("true", "false", "warn"):
        yield f"trainer.deterministic={trainer.deterministic} must be true, false or warn"
    for name in ("limit_train_batches", "accumulate_grad_batches", "check_val_every_n_epoch"):
        value = trainer.get(name)
        if isinstance(value, int | float) and not value > 0:
            yield f"trainer.{name}={value} must be above 0"  # Lightning would train on nothing
    if isinstance(steps := trainer.get("max_steps"), int) and steps < 1 and steps != -1:
        yield f"trainer.max_steps={steps} must be above 0"
    clip = trainer.get("gradient_clip_val")
    if isinstance(clip, int | float) and not clip >= 0:
        yield f"trainer.gradient_clip_val={clip} must be at least 0"
    yield from _choice_problems(config)


def monitors(config: DictConfig) -> Iterator[tuple[str, str]]:
    """List the settings by which something is chosen, and the metrics that they name."""
    for key in ("monitor", "optimized_metric"):
        if config[key] is not None:
            yield key, str(config[key])
    nodes = {"scheduler": config.scheduler}
    for group in ("callbacks", "logger"):
        nodes[group] = config[group]
        nodes |= {f"{group}.{name}": child for name, child in (config[group] or {}).items()}
    for key, node in nodes.items():
        if isinstance(node, DictConfig) and node.get("monitor") is not None:
            yield f"{key}.monitor", str(node.monitor)


def _choice_problems(config: DictConfig) -> Iterator[str]:
    """List what would choose anything by other images than those of the validation part."""
    split = config.split
    for key, metric in monitors(config):
        if metric.startswith("test"):
            yield f"{key}={metric} must be a validation metric; nothing is chosen on test images"
        if not metric.startswith("val"):
            if key in ("monitor", "optimized_metric"):
                yield f"{key}={metric} must be null or a validation metric, such as val/acc"
            continue
        if split.get("val_is_test"):
            yield (
                f"{key}={metric} would choose by the test images (split.val_is_test=true); "
                "set it to null, or split.val_is_test=false split.val_size=0.1"
            )
        elif split.get("val_size") == 0:
            yield f"{key}={metric} needs validation images, but split.val_size=0; set it to 0.1"
