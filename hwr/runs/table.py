"""Build one table over runs, a row for each model and setting, with intervals."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from hwr.errors import RunError, sanitize
from hwr.runs import records
from hwr.runs.records import RunRecord
from hwr.runs.statistics import overlap_ratio, setting, t_interval

NAMED = ("model", "data", "split")
"""Groups of settings that have a column of their own."""
MEANS = (
    *("test/acc", "val/acc", "test/acc_nocase", "test/acc_writer", "test/top3", "test/loss"),
    *("test/auroc", "test/ap", "train/acc", "fit_seconds", "parameters"),
)
"""Metrics of which the table holds the mean."""
STATES = ("partial", "failed", "unfinished")
ASCENDING = {*NAMED, "setting", "loss", "fit_seconds", "parameters", "acc_sd", *STATES}


def read_runs(folders: Iterable[Path]) -> list[RunRecord]:
    """Read all runs at or below the folders, the failed and unfinished ones included.

    A damaged run is named on stderr and left out.

    Raises:
        RunError: A folder is missing, or there is no run.
    """
    folders, runs = list(folders), []
    for folder in records.collect(folders):
        try:
            run = records.read(folder)
            if run is not None and "split" in run.config:  # an evaluation has none
                runs.append(run)
        except RunError as error:
            print(sanitize(f"hwr-runs: left out {error}"), file=sys.stderr)
    if not runs:
        raise RunError(f"no run below {', '.join(map(str, folders))}")
    return runs


def select(runs: Sequence[RunRecord], conditions: Sequence[str]) -> list[RunRecord]:
    """Keep the runs that meet all conditions `KEY=VALUE`.

    Raises:
        RunError: A condition has another form, or no run is left.
    """
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals:
            raise RunError(f"{condition} must be KEY=VALUE, such as model=cnn")
        runs = [run for run in runs if _equal(_filterable(run).get(key), wanted)]
        if not runs:
            raise RunError(f"no run matches {condition}; settings stand in .hydra/config.yaml")
    return list(runs)


def _filterable(run: RunRecord) -> dict[str, str]:
    """Return the settings of a run by dotted key, and the names of its groups."""
    settings = {key: str(value) for key, value in records.flatten(run.config)}
    nodes = {key: _node_name(node) for key, node in run.config.items() if isinstance(node, dict)}
    return {**settings, **nodes, **{group: _name(run, group) for group in NAMED}}


def _equal(value: str | None, wanted: str) -> bool:
    with suppress(ValueError):
        return value is not None and float(value) == float(wanted)
    return value == wanted


def _name(run: RunRecord, group: str) -> str:
    """Name the model, data or split of a run."""
    if run.metrics is not None and group in run.metrics:
        return sanitize(str(run.metrics[group]))
    if group == "model" and group not in run.config:  # a forest's settings name no model
        return "forest"
    return _node_name(run.config.get(group, {}))


def _node_name(node: dict[str, Any]) -> str:
    """Return the `name` of a node, or its class's as the groups in conf/ spell it."""
    name = str(node.get("_target_", "-")).rpartition(".")[2].lower()
    name = re.sub("(?<=.)(dataset|split|datamodule)$", "", name)
    return sanitize(str(node.get("name", "lockbox" if name == "heldoutwriters" else name)))


def table(runs: Sequence[RunRecord], sort: str = "acc") -> pd.DataFrame:
    """Make a row for each model and setting, best mean accuracy first, or sorted by a column.

    Returns:
        The columns `model`, `setting`, `data`, `split`; `runs`, `partial`, `failed` and
        `unfinished` (counts); `acc_sd`, `acc_low`, `acc_high` (standard deviation and 95 %
        interval of the test accuracy); `best` (by validation); and the means of `MEANS`.

    Raises:
        RunError: There is no column to sort by.
    """
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in runs:
        key = (_name(run, "model"), *sorted(setting(run).items()))
        groups.setdefault(key, []).append(run)
    models: dict[str, list[RunRecord]] = {}
    for (model, *_), members in groups.items():
        models.setdefault(model, []).append(members[0])
    keys = {model: _distinguishing_keys(members) for model, members in models.items()}
    rows = pd.DataFrame([_row(members, keys[model]) for (model, *_), members in groups.items()])
    rows["parameters"] = rows["parameters"].round().astype("Int64")
    # Among the settings of the same data and split, by validation and never by test.
    rivals = rows.dropna(subset="val_acc").groupby(["data", "split"])["val_acc"]
    rows.loc[rivals.idxmax()[rivals.size() > 1], "best"] = True
    if sort not in rows:
        raise RunError(f"no column {sort}; there are {', '.join(rows)}")
    return rows.sort_values(sort, ascending=sort in ASCENDING, kind="stable", ignore_index=True)


def _distinguishing_keys(runs: Sequence[RunRecord]) -> list[str]:
    """Choose the keys that tell the settings of one model apart, few in each group.

    One key stands for all keys of its group that differ between the same runs: all of `augment`
    may follow from one of its values, and the class of the split from the column `split`.
    """
    settings = pd.DataFrame(
        [{**{group: _name(run, group) for group in NAMED}, **setting(run)} for run in runs]
    )
    codes = settings.apply(lambda values: pd.factorize(values, use_na_sentinel=False)[0]).T
    codes = codes[codes.any(axis=1)]
    codes["group"] = [key.partition(".")[0] for key in codes.index]
    return [key for key in codes.drop_duplicates().index if key not in NAMED]


def _row(runs: Sequence[RunRecord], keys: Sequence[str]) -> dict[str, Any]:
    settings, finished = setting(runs[0]), [run for run in runs if run.state == "finished"]
    metrics = pd.DataFrame([run.metrics for run in finished], columns=MEANS)
    metrics.columns = [name.removeprefix("test/").replace("/", "_") for name in MEANS]
    metrics = metrics.apply(pd.to_numeric, errors="coerce")
    if any(run.config["split"].get("val_is_test") for run in finished):
        metrics["val_acc"] = math.nan  # nothing is chosen by test images
    means = metrics.mean(skipna=False)  # NaN if a run lacks a metric: no mean over other runs
    ratio = overlap_ratio(finished) if finished else 0
    half_width, _ = t_interval(metrics["acc"].tolist(), ratio)
    labels = [_label(key, settings[key]) for key in keys if key in settings]
    return {
        "model": _name(runs[0], "model"),
        "setting": sanitize(" ".join(labels)) or "-",
        "data": _name(runs[0], "data"),
        "split": _name(runs[0], "split"),
        "runs": len(finished),
        **{state: sum(run.state == state for run in runs) for state in STATES},
        "acc": means["acc"],
        "acc_sd": metrics["acc"].std(),
        "acc_low": means["acc"] - half_width,
        "acc_high": means["acc"] + half_width,
        "val_acc": means["val_acc"],
        "best": False,
        **means,
    }


def _label(key: str, value: str) -> str:
    """Shorten a setting: `optimizer=AdamW` for its class, long numbers to four digits."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={value.rpartition('.')[2]}"
    with suppress(ValueError):
        value = value if len(value) < 8 else f"{float(value):.4g}"
    return f"{key.removesuffix('.name')}={value}"
