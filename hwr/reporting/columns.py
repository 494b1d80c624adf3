"""List the settings and metrics by which runs are compared. Needs no Lightning."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pandas as pd

from hwr.config.compose import plain
from hwr.config.schema import CNNConfig, GlyphNetConfig, MLPConfig

NETWORKS = (CNNConfig, GlyphNetConfig, MLPConfig)
SETTINGS = (
    *("data.height", "data.width", "data.batch_size", "split.test_size", "split.fold"),
    *("split.val_size", "augment", "optimizer", "optimizer.weight_decay"),
    *("scheduler", "label_smoothing", "monitor", "n_estimators"),
    *sorted(
        {f"model.{field.name}" for kind in NETWORKS for field in fields(kind)} - {"model._target_"}
    ),
)
NOT_LOGGED = ("callbacks", "logger", "output_dir", "hydra")


def flatten(config: Any) -> dict[str, Any]:
    """Flatten the settings that tell runs apart to dotted keys, None as "-".

    The `_target_` of a node becomes the value of the node's own key:
    `{"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}` becomes
    `{"optimizer": "torch.optim.SGD", "optimizer.lr": 0.1}`.
    """
    settings = {key: value for key, value in plain(config).items() if key not in NOT_LOGGED}
    (flat,) = pd.json_normalize(settings, sep=".").to_dict("records")
    named = {str(key).removesuffix("._target_"): value for key, value in flat.items()}
    return {key: "-" if value is None or value == {} else value for key, value in named.items()}


def hparams(
    config: Any, metrics: Mapping[str, Any]
) -> tuple[dict[str, str | float], dict[str, float]]:
    """List the settings and metrics of a run in TensorBoard's HParams tab, equal for every model.

    TensorBoard shows only the columns of the first run that it reads, and leaves out runs with
    None in one; a column with "-" in one run has to be text in all. It sorts columns by name and
    shows the first five until others are ticked: those with capitals.

    Args:
        config: The settings of the run.
        metrics: The content of `metrics.json`.

    Returns:
        The settings, and the metrics, NaN for those that the run lacks. A forest without
        validation images has its out-of-bag accuracy in place of the validation accuracy.
    """
    flat = flatten(config)
    for node in ("augment", "optimizer", "scheduler"):
        flat[node] = str(flat.get(node, "-")).rpartition(".")[2]
    settings = {
        "Data": metrics["data"],
        "Epochs": float(metrics["epochs"]),
        "LR": str(flat.get("optimizer.lr", "-")),
        "Model": metrics["model"],
        "Seed": float(flat["seed"]),
        "parameters": float(metrics["parameters"]),
        "split": metrics["split"],
        **{name: str(flat.get(name, "-")) for name in SETTINGS},
    }
    accuracy = metrics.get("test/acc", math.nan)
    return settings, {
        "hp/val_acc": metrics.get("val/acc", metrics.get("oob/acc", math.nan)),
        "hp/test_acc": accuracy,
        "hp/test_acc_nocase": metrics.get("test/acc_nocase", accuracy),
        "hp/fit_seconds": metrics["fit_seconds"],
    }
