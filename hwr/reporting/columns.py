"""List the settings and metrics by which runs are compared. Needs no Lightning."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hwr.config.compose import plain
from hwr.config.schema import CNNConfig, GlyphNetConfig, MLPConfig

MODEL_ARGUMENTS = sorted(
    {field.name for kind in (MLPConfig, CNNConfig, GlyphNetConfig) for field in fields(kind)}
    - {"_target_"}
)
SETTINGS = (
    *("data.height", "data.width", "data.batch_size", "split.test_size", "split.fold"),
    *("split.val_size", "augment", "optimizer", "optimizer.weight_decay"),
    *("scheduler", "label_smoothing", "monitor", "n_estimators"),
    *(f"model.{name}" for name in MODEL_ARGUMENTS),
)
NOT_LOGGED = ("callbacks", "logger", "output_dir", "hydra")


def flatten(config: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Flatten nested settings to dotted keys with plain values, None as "-".

    The `_target_` of a node becomes the value of the node's own key:
    `{"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}` becomes
    `{"optimizer": "torch.optim.SGD", "optimizer.lr": 0.1}`.
    """
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            for inner, leaf in flatten(value).items():
                flat[key if inner == "_target_" else f"{key}.{inner}"] = leaf
        elif value is None or value == {}:
            flat[key] = "-"
        else:
            flat[key] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat


def logged(config: Any) -> dict[str, str | int | float | bool]:
    """Flatten the settings that tell runs apart: no callbacks, loggers, or folders."""
    settings = plain(config)
    return flatten({name: value for name, value in settings.items() if name not in NOT_LOGGED})


def columns(config: Any, metrics: Mapping[str, Any]) -> dict[str, str | float]:
    """List the columns of a run in TensorBoard's HParams tab, the same for every model.

    TensorBoard shows only the columns of the first run that it reads, and leaves out runs with
    None in one; a column with "-" in one run has to be text in all, or it cannot be sorted. It
    sorts columns by name and shows the first five until others are ticked: those with capitals.

    Args:
        config: The settings of the run.
        metrics: Those of the test, and `model`, `data`, `split`, `epochs`, `parameters`.
    """
    flat = logged(config)
    amounts = (name for name in flat if name.startswith("augment.") and "share" not in name)
    if flat.get("augment") == "hwr.data.Augment" and not any(flat[name] for name in amounts):
        flat["augment"] = "-"
    for node in ("augment", "optimizer", "scheduler"):
        flat[node] = str(flat.get(node, "-")).rpartition(".")[2]
    own = sorted(key for key in flat if key.startswith("model."))
    return {
        "Data": metrics["data"],
        "Epochs": float(metrics["epochs"]),
        "LR": as_text(flat.get("optimizer.lr", "-")),
        "Model": metrics["model"],
        "Seed": float(flat["seed"]),
        "parameters": float(metrics["parameters"]),
        "split": metrics["split"],
        **{name: as_text(flat.get(name, "-")) for name in dict.fromkeys((*SETTINGS, *own))},
    }


def outcomes(metrics: Mapping[str, Any]) -> dict[str, float]:
    """List the metrics by which runs are compared, NaN for those that a run lacks.

    A forest without validation images is judged by its out-of-bag accuracy.
    """
    return {
        "hp/val_acc": metrics.get("val/acc", metrics.get("oob/acc", math.nan)),
        "hp/test_acc": metrics.get("test/acc", math.nan),
        "hp/test_acc_nocase": metrics.get("test/acc_nocase", metrics.get("test/acc", math.nan)),
        "hp/fit_seconds": metrics["fit_seconds"],
    }


def as_text(value: str | float) -> str:
    """Format a value as text, padded so that numbers sort as numbers do.

    A browser shows no leading blanks.
    """
    if isinstance(value, str | bool):
        return str(value).lower()
    whole, _, fraction = f"{value:.10f}".rstrip("0").partition(".")
    return f"{whole:>8}" + (f".{fraction}" if fraction else "")
