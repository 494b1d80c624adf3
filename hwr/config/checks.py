"""Check composed settings: keys and ranges by the schema, contradictions, and missing files."""

import difflib
import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from hwr.config.schema import TrainerConfig
from hwr.errors import ConfigError, DataError, RunError
from hwr.files import expand_user

WAYS_OUT = (
    "download the dataset with hwr-data fetch FOLDER, set data.root or HWR_DATA to its folder, "
    "or use data=synthetic, which needs no files"
)
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""Functions of the module operator, in words."""


def check(config: DictConfig) -> None:
    """Reject settings that are unknown, missing, out of range, or contradictory.

    Raises:
        ConfigError: One sentence that names the first of them.
    """
    config = config.copy()
    if "output_dir" in config:
        config.output_dir = "."  # Hydra knows it only when the run starts
    kind: Any = OmegaConf.get_type(config)
    removed = {field.name for field in fields(kind)} - config.keys()
    try:
        for key in sorted(OmegaConf.missing_keys(config) | removed):
            raise ConfigError(f"{key}= is needed")
        for problem in (*_schema_problems(config), *_contradictions(config)):
            raise ConfigError(problem)
    except InterpolationResolutionError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(rf"{error.full_key}: {reason}; in a name write \${{ for ${{") from error
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def check_paths(config: DictConfig) -> None:
    """Reject files and folders that are missing, before anything heavy is imported.

    Raises:
        DataError: The data folder or its table is missing.
        RunError: The checkpoint is missing.
    """
    data: Any = config.get("data") or {}
    if data.get("_target_") == "hwr.data.FolderDataset":
        root, hint = expand_user(data.root), "set data.root to the image folder"
        if data.name == "english":
            hint = WAYS_OUT
        if not root.is_dir():
            raise DataError(f"no data folder {root}; {hint}")
        if data.csv is not None and not (root / data.csv).is_file():
            raise DataError(f"no table {data.csv} in {root}; {hint}")
    for key in ("ckpt_path", "init_from"):
        path = config.get(key)
        if path is not None and not expand_user(path).exists():
            raise RunError(f"{key}={path}: no such checkpoint or run folder")


def nearest(key: str, names: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean …?` with the name nearest to a key, or nothing."""
    near = difflib.get_close_matches(key, list(names), 1, cutoff=0.75)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def unknown_setting(key: str, config: DictConfig) -> str:
    """Say that there is no such setting, and name the nearest one."""
    names = [name for name in [*_keys(config), "experiment"] if name != key]
    return f"no such setting: {key}{nearest(key, names)}"


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name, child in node.items_ex(resolve=False):
        key = str(name)
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(child):
            yield from _keys(child, f"{prefix}{key}.")


def _schema_problems(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Compare typed nodes with their schema; a user's own nodes have none."""
    kind: Any = OmegaConf.get_type(config)
    limits = {field.name: field.metadata for field in fields(kind)} if is_dataclass(kind) else {}
    for key in map(str, config):
        name, value = f"{prefix}{key}", config[key]
        if limits and key not in limits and kind is not TrainerConfig:
            yield unknown_setting(name, config)
        elif isinstance(value, DictConfig):
            yield from _schema_problems(value, f"{name}.")
        elif key in limits and value is not None:
            yield from _value_problems(name, value, limits[key])


def _value_problems(key: str, value: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    """Compare a value with the metadata of its field."""
    if limits.get("text") and not value:
        yield f"{key}= is empty; it must name something, or be left out"
    if (choices := limits.get("choices")) and value not in choices:
        yield f"{key}={value} must be one of {', '.join(map(str, choices))}"
    if (pattern := limits.get("pattern")) and not re.fullmatch(pattern, value):
        yield f"{key}={value} must be numbers and ranges, such as {limits['example']}"
    bounds = {name: limits[name] for name in BOUNDS if name in limits}
    if bounds and isinstance(value, int) and value >= 2**32:  # more than any machine can do
        bounds = {"le": 2**32 - 1} | bounds
    if not all(getattr(operator, name)(value, bound) for name, bound in bounds.items()):
        if bounds.keys() == {"ge", "le"}:
            yield f"{key}={value} must lie between {bounds['ge']} and {bounds['le']}"
        else:
            words = " and ".join(f"{BOUNDS[name]} {bound}" for name, bound in bounds.items())
            hint = f"; {limits['hint']}" if "hint" in limits else ""
            yield f"{key}={value} must be {words}{hint}"


def _contradictions(config: DictConfig) -> Iterator[str]:
    """List settings that don't go with each other, or with a node that has no schema."""
    groups: list[Any] = [config.get(name) or {} for name in ("data", "split", "model")]
    data, split, model = groups
    if data.get("channels") == 3 and data.get("preprocessing", "notebook") != "notebook":
        yield (
            f"data.channels=3 needs data.preprocessing=notebook; "
            f"data.preprocessing={data.preprocessing} is for gray images"
        )
    if data.get("persistent_workers") and not data.get("num_workers", 1):
        yield "data.persistent_workers=true needs data.num_workers of at least 1"
    if {"fold", "folds"} <= split.keys() and split.fold >= split.folds:
        yield f"split.fold={split.fold} must lie between 0 and {split.folds - 1}"
    if split.get("val_is_test") and split.get("val_size", 0) > 0:
        yield (
            f"split.val_is_test=true leaves nothing to cut, but split.val_size={split.val_size}; "
            "set one of them to false or 0"
        )
    network = model.get("_target_", "").removeprefix("hwr.models.").lower()
    rows, columns = {"cnn": (12, 16), "glyphnet": (16, 1)}.get(network, (1, 1))
    height, width = data.get("height", rows), data.get("width", columns)
    if is_dataclass(OmegaConf.get_type(data)) and (height < rows or width < columns):
        yield (
            f"data.height={height} data.width={width} is too small for model={network}, "
            f"which needs at least {rows} x {columns} pixels"
        )
    if network == "glyphnet" and model.backbone == "lcnet" and model.width_mult != 1:
        yield f"model.width_mult={model.width_mult} is for model.backbone=residual"
    if config.get("n_jobs") == 0:
        yield "n_jobs=0 must be at least 1, or -1 for all processor cores"
    if "optimizer" in config:
        lr = config.optimizer.get("lr", 1)
        if not (isinstance(lr, int | float) and 0 < lr < math.inf):
            yield f"optimizer.lr={lr} must be a number above 0, and finite"
        for key, metric in _monitors(config):
            yield from _choice_problems(key, metric, split)


def _monitors(config: DictConfig) -> Iterator[tuple[str, str]]:
    """List the settings by which something is chosen, and the metrics that they name."""
    nodes = {"scheduler": config.scheduler}
    for group in ("callbacks", "logger"):
        nodes[group] = config[group]
        nodes |= {f"{group}.{name}": child for name, child in (config[group] or {}).items()}
    metrics = {key: config[key] for key in ("monitor", "optimized_metric")}
    metrics |= {f"{k}.monitor": v.get("monitor") for k, v in nodes.items() if OmegaConf.is_dict(v)}
    yield from ((key, str(metric)) for key, metric in metrics.items() if metric is not None)


def _choice_problems(key: str, metric: str, split: Any) -> Iterator[str]:
    """Say why something would not be chosen by validation images."""
    if metric.startswith("test"):
        yield f"{key}={metric} must be a validation metric; nothing is chosen on test images"
    if key in ("monitor", "optimized_metric") and not metric.startswith("val"):
        yield f"{key}={metric} must be null or a validation metric, such as val/acc"
    elif split.get("val_is_test"):
        yield (
            f"{key}={metric} is rejected, since the validation images are the test images "
            "(split.val_is_test=true); set it to null, or split.val_is_test=false "
            "split.val_size=0.1"
        )
    elif metric.startswith("val") and split.get("val_size") == 0:
        yield f"{key}={metric} needs validation images, but split.val_size=0; set it to 0.1"
