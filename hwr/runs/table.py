"""hwr-runs: one table over run folders, a row for each model and setting, with intervals."""

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwr.errors import RunError, UserError, printable
from hwr.runs import comparison, intervals
from hwr.runs import records as run_folders
from hwr.runs.comparison import setting
from hwr.runs.records import RunRecord
from hwr.runs.rendering import Row, plot, render

MEANS = (
    "test/acc_nocase",
    "test/acc_writer",
    "test/top3",
    "test/loss",
    "test/auroc",
    "test/ap",
    "train/acc",
)
NEEDED = {"model", "data", "split", "test/acc", "config", "fit_seconds", "parameters"}
NEEDED |= {"train_images", "test_images"}
LISTED = 20
GROUPS = ("model", "data", "split")  # each has a column of its own
FEWER_IS_BETTER = {"loss", "fit_seconds", "parameters", "acc_sd"}
FEWER_IS_BETTER |= {"partial", "failed", "unfinished"}


def main() -> None:
    """Run the command hwr-runs."""
    parser = argparse.ArgumentParser(prog="hwr-runs", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    kind = parser.add_mutually_exclusive_group()
    for name in ("csv", "markdown", "json"):
        kind.add_argument(f"--{name}", dest="kind", action="store_const", const=name)
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with this setting, such as model=cnn or trainer.max_epochs=30; repeatable",
    )
    parser.add_argument("--sort", default="acc", metavar="COLUMN", help="a column of --csv")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="plot means and intervals")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="SETTING",
        help="two settings over the same splits, each KEY=VALUE[,KEY=VALUE...]",
    )
    arguments = parser.parse_args()
    try:
        print(_answer(arguments), end="", flush=True)
    except UserError as error:
        print(printable(f"hwr-runs: {error}"), file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # At the exit Python writes once more what is left in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader such as `head` may have enough
            print(f"hwr-runs: the output can't be written: {error.strerror}", file=sys.stderr)
            sys.exit(2)


def _answer(arguments: argparse.Namespace) -> str:
    runs = select(read_runs(arguments.folders), arguments.filter)
    if arguments.compare:
        sides = [select(runs, text.split(",")) for text in arguments.compare]
        finished = [[run for run in side if run.state == "finished"] for side in sides]
        result = comparison.compare(*finished)
        if arguments.kind == "json":
            return json.dumps(result, indent=2) + "\n"
        return comparison.sentences(result, arguments.compare)
    rows = table(runs, arguments.sort)
    if arguments.plot:
        try:
            plot(rows, arguments.plot)
        except OSError as error:
            raise RunError(f"{error.strerror}: {arguments.plot}") from error
    text = render(rows, arguments.kind)
    return text if arguments.kind else text + _others(runs)


def read_runs(folders: Iterable[Path]) -> list[RunRecord]:
    """Read all runs below the folders, each once, the failed and unfinished ones included.

    A damaged run is named on stderr and left out.

    Raises:
        RunError: A folder is missing, or there is no run.
    """
    folders, runs = list(folders), []
    for folder in run_folders.collect(folders):
        try:
            run = run_folders.read(folder)
            if run is None or "split" not in run.config:  # an evaluation
                continue
            if run.state == "finished":
                _check(run.metrics or {})
        except (OSError, ValueError) as error:
            print(printable(f"hwr-runs: left out {folder}: {error}"), file=sys.stderr)
            continue
        runs.append(run)
    if not runs:
        raise RunError(f"no run below {', '.join(map(str, folders))}")
    return runs


def _check(metrics: Mapping[str, Any]) -> None:
    """Raise ValueError where metrics are missing, or no finite numbers."""
    if missing := NEEDED - metrics.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for name in (*MEANS, "test/acc", "val/acc", "fit_seconds", "parameters"):
        value = metrics.get(name)
        finite = isinstance(value, int | float) and abs(value) < 2**63  # NaN isn't, nor Infinity
        if not (finite or (value is None and name != "test/acc")):
            raise ValueError(f"its {name} is not a finite number")
    for name in ("train_images", "test_images"):
        value = metrics[name]
        if not (isinstance(value, int) and 0 < value < 2**63):
            raise ValueError(f"its {name} is not a number of images")


def select(runs: Sequence[RunRecord], conditions: Sequence[str]) -> list[RunRecord]:
    """Keep the runs that meet all conditions `KEY=VALUE`.

    Raises:
        RunError: A condition has no such form, no run has the setting, or none is left.
    """
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals:
            raise RunError(f"{condition} must be KEY=VALUE, such as model=cnn")
        if not any(_value(run, key) is not None for run in runs):
            raise RunError(f"no run has a setting {key}")
        runs = [run for run in runs if _alike(_value(run, key), value)]
    if not runs:
        raise RunError(f"no run matches {' '.join(conditions)}")
    return list(runs)


def _value(run: RunRecord, key: str) -> str | None:
    if key in GROUPS:
        return _name(run, key)
    if isinstance(node := run.config.get(key), dict):  # optimizer=adamw
        return _node_name(node)
    return next((str(value) for name, value in run_folders.flat(run.config) if name == key), None)


def _name(run: RunRecord, group: str) -> str:
    """Name the model, data or split of a run."""
    if run.metrics is not None and group in run.metrics:
        return str(run.metrics[group])
    if group == "model" and group not in run.config:  # a forest's settings name no model
        return "forest"
    return _node_name(run.config.get(group, {}))


def _node_name(node: dict[str, Any]) -> str:
    """Return the `name` of a node, or its class's as the groups in conf/ spell it."""
    if "name" in node:
        return str(node["name"])
    kind = str(node.get("_target_", "-")).rpartition(".")[2].lower()
    kind = re.sub("(?<=.)(dataset|split|datamodule)$", "", kind)
    return "lockbox" if kind == "heldoutwriters" else kind


def _alike(value: str | None, wanted: str) -> bool:
    try:
        return value == wanted or float(value or "") == float(wanted)
    except ValueError:
        return False


def table(runs: Sequence[RunRecord], sort: str = "acc") -> list[Row]:
    """Make a row for each model and setting, best mean accuracy first, or sorted by a column.

    Raises:
        RunError: There is no such column.
    """
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in runs:
        key = (_name(run, "model"), *sorted(setting(run).items()))
        groups.setdefault(key, []).append(run)
    models: dict[str, list[RunRecord]] = {}
    for (model, *_), members in groups.items():
        models.setdefault(model, []).append(members[0])
    varied = {model: _varied(members) for model, members in models.items()}
    rows = [_row(members, varied[model]) for (model, *_), members in groups.items()]
    _mark_best(rows)
    if sort not in rows[0]:
        raise RunError(f"no column {sort}; there are {', '.join(rows[0])}")
    sortable = [row for row in rows if row[sort] is not None]
    descending = bool(sortable) and not isinstance(sortable[0][sort], str)
    sortable.sort(key=lambda row: row[sort], reverse=descending and sort not in FEWER_IS_BETTER)
    return [*sortable, *(row for row in rows if row[sort] is None)]


def _varied(runs: Sequence[RunRecord]) -> list[str]:
    """Choose the keys that tell the settings of one model apart, as few as a group needs.

    All of `augment` may follow from one of its values; that of a column, such as the name of the
    split, need not be repeated.
    """
    settings = [setting(run) for run in runs]
    by_group: dict[str, list[str]] = {}
    for key in {key: None for one in settings for key in one}:
        by_group.setdefault(key.partition(".")[0], []).append(key)
    chosen: list[str] = []
    for group, keys in by_group.items():
        parts = [(_name(run, group),) if group in GROUPS else () for run in runs]
        for key in sorted(keys, key=lambda key: not key.endswith(("._target_", ".name"))):
            finer = [(*part, one.get(key)) for part, one in zip(parts, settings, strict=True)]
            if len(set(finer)) > len(set(parts)):
                parts = finer
                chosen.append(key)
    return chosen


def _row(runs: list[RunRecord], varied: Sequence[str]) -> Row:
    values, done = setting(runs[0]), [run for run in runs if run.state == "finished"]
    accuracy = intervals.values(done, "test/acc")
    mean = statistics.fmean(accuracy) if accuracy else None
    half = one_more = None
    if len(accuracy) > 1:
        half, one_more = intervals.half_widths(accuracy, intervals.shared(done))
    return {
        "model": _name(runs[0], "model"),
        "setting": " ".join(_label(key, values[key]) for key in varied if key in values) or "-",
        "data": _name(runs[0], "data"),
        "split": _name(runs[0], "split"),
        "runs": len(done),
        **{
            state: sum(run.state == state for run in runs)
            for state in ("partial", "failed", "unfinished")
        },
        "acc": mean,
        "acc_sd": statistics.stdev(accuracy) if len(accuracy) > 1 else None,
        **_ends("acc", mean, half),
        **_ends("one_run", mean, one_more),
        "val_acc": None if _tested(done) else _mean(done, "val/acc"),
        "best": False,
        **{name.removeprefix("test/").replace("/", "_"): _mean(done, name) for name in MEANS},
        "fit_seconds": _mean(done, "fit_seconds"),
        "parameters": round(_mean(done, "parameters") or 0) if done else None,
    }


def _label(key: str, value: str) -> str:
    """Shorten a setting: `optimizer=AdamW` for its class, long numbers to four digits."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={value.rpartition('.')[2]}"
    with suppress(ValueError):
        value = value if len(value) < 8 else f"{float(value):.4g}"
    return f"{key.removesuffix('.name')}={value}"


def _ends(name: str, mean: float | None, half: float | None) -> dict[str, float | None]:
    if mean is None or half is None:
        return {f"{name}_low": None, f"{name}_high": None}
    return {f"{name}_low": mean - half, f"{name}_high": mean + half}


def _tested(runs: Sequence[RunRecord]) -> bool:
    """Tell whether any run was validated on its test images: nothing is chosen by that."""
    return any(run.config["split"].get("val_is_test") for run in runs)


def _mean(runs: Sequence[RunRecord], name: str) -> float | None:
    """Average a metric; None where a run lacks it, as some do with some classes."""
    values = intervals.values(runs, name)
    return statistics.fmean(values) if values else None


def _mark_best(rows: Sequence[Row]) -> None:
    """Mark the best by validation among those that share data and split, never by test."""
    for where in {(row["data"], row["split"]) for row in rows}:
        rivals = [row for row in rows if (row["data"], row["split"]) == where]
        rivals = [row for row in rivals if row["val_acc"] is not None]
        if len(rivals) > 1:
            max(rivals, key=lambda row: row["val_acc"])["best"] = True


def _others(runs: Sequence[RunRecord]) -> str:
    """List the runs that are in no mean: partial, failed (and why), or unfinished."""
    lines = [
        f"{run.state}: {run.path}{f': {run.error}' if run.error else ''}"
        for run in runs
        if run.state != "finished"
    ]
    more = [f"... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "".join(f"{printable(line)}\n" for line in ["", *lines[:LISTED], *more] if lines)
