"""A run as a row of TensorBoard's table of runs: the same columns for every model."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from hwr.schema import (
    SCHEMAS,
    FoldConfig,
    ForestConfig,
    RunConfig,
    StratifiedConfig,
    TrainConfig,
)

OTHERS = ("augment", "batch_size", "monitor", "n_estimators")
FIRST = ("data", "epochs", "lr", "model", "seed")
"""Columns that are shown at once; the others wait to be ticked."""


def settings(config: RunConfig, figures: Mapping[str, Any]) -> dict[str, str | float]:
    """What tells runs apart: the same keys for every model, "-" where one means nothing.

    Args:
        config: The settings of the run.
        figures: What stands in `metrics.json`.
    """
    split = config.split
    own: dict[str, Any] = {}
    match config:
        case TrainConfig():
            own = {**vars(config.model), "monitor": config.monitor}
            own |= {"batch_size": config.data.batch_size, "augment": config.augment.name}
        case ForestConfig():
            own = {"n_estimators": config.n_estimators}
    networks = {field.name for kind in SCHEMAS["model"].values() for field in fields(kind)}
    return {
        "model": figures["model"],
        "data": config.data.name,
        "split": split.name,
        "seed": config.seed,
        "image_height": config.data.height,
        "image_width": config.data.width,
        "parameters": figures["parameters"],
        "epochs": figures["epochs"],
        "test_size": text(split.test_size if isinstance(split, StratifiedConfig) else None),
        "fold": text(split.fold if isinstance(split, FoldConfig) else None),
        "val_size": split.val_size,
        **{name: text(own.get(name)) for name in sorted(networks - {"name"})},
        **{name: text(own.get(name)) for name in OTHERS},
    }


def outcomes(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures by which runs are compared; NaN where a run has no such figure.

    A forest without validation pictures is judged by those that its trees have not seen.
    """
    return {
        "hp/val_acc": figures.get("val/acc", figures.get("oob/acc", math.nan)),
        "hp/test_acc": figures["test/acc"],
        "hp/acc_nocase": figures.get("test/acc_nocase", figures["test/acc"]),
        "hp/fit_seconds": figures["fit_seconds"],
    }


def text(value: str | float | None) -> str:
    """A value as text, numbers so that they sort as numbers do, "-" for none.

    A column that has a "-" in one run must be text in all: TensorBoard fails to sort or filter
    mixed columns. Blanks before the point, which a browser doesn't show, keep the order.
    """
    if value is None:
        return "-"
    if isinstance(value, str | bool):
        return str(value).lower()
    before, _, behind = f"{value:.10f}".rstrip("0").partition(".")
    return f"{before:>8}" + (f".{behind}" if behind else "")


def summaries(row: Mapping[str, str | float], names: Mapping[str, float]) -> list[Summary]:
    """The events that make a run a row of the table.

    TensorBoard takes the columns and their types from any one run.

    Args:
        row: Column to value.
        names: The scalars that are columns too.
    """
    columns, start = [], plugin_data_pb2.SessionStartInfo()
    for name, value in row.items():
        words = isinstance(value, str)
        kind = api_pb2.DATA_TYPE_STRING if words else api_pb2.DATA_TYPE_FLOAT64
        columns.append(api_pb2.HParamInfo(name=name, type=kind, differs=name in FIRST))
        setattr(start.hparams[name], "string_value" if words else "number_value", value)
    scalars = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name)) for name in names]
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return [
        _summary(
            metadata.EXPERIMENT_TAG,
            experiment=api_pb2.Experiment(hparam_infos=columns, metric_infos=scalars),
        ),
        _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start),
        _summary(metadata.SESSION_END_INFO_TAG, session_end_info=end),
    ]


def _summary(tag: str, **content: Any) -> Summary:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = SummaryMetadata.PluginData(
        plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString()
    )
    about = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
