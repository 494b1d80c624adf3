"""hwr-runs: one table over run folders, a row for every model and setting, with intervals."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwr import comparison, intervals
from hwr import folders as run_folders
from hwr.comparison import setting
from hwr.errors import RunError, UserError, printable
from hwr.folders import Found
from hwr.rendering import Row, plot, render

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
NEEDED |= {"train_pictures", "test_pictures"}
LISTED = 20
NAMES = {"model": "model.name", "data": "data.name", "split": "split.name"}
FEWER_IS_BETTER = {"loss", "fit_seconds", "parameters", "acc_sd", "failed", "unfinished"}


def main() -> None:
    """The command hwr-runs."""
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
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw means and intervals")
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
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"hwr-runs: the output can't be written: {error.strerror}", file=sys.stderr)
        os._exit(2)  # at the usual exit Python would try to write it once more


def _answer(arguments: argparse.Namespace) -> str:
    runs = select(read_runs(arguments.folders), arguments.filter)
    if arguments.compare:
        sides = [select(runs, text.split(",")) for text in arguments.compare]
        finished = [[run for run in side if run.metrics is not None] for side in sides]
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
    return text if arguments.kind else text + _lost(runs)


def read_runs(folders: Iterable[Path]) -> list[Found]:
    """All runs below the folders, each once, the failed and unfinished ones included.

    A damaged run is named on stderr and left out.

    Raises:
        RunError: A folder is missing, or there is no run.
    """
    folders, runs = list(folders), []
    for folder in run_folders.find(folders):
        try:
            run = run_folders.read(folder)
            if run and run.metrics is not None:
                _check(run.metrics)
        except (OSError, ValueError) as error:
            print(printable(f"hwr-runs: left out {folder}: {error}"), file=sys.stderr)
            continue
        if run and "split" in run.config:
            runs.append(run)
    if not runs:
        raise RunError(f"no run below {', '.join(map(str, folders))}")
    return runs


def _check(metrics: Mapping[str, Any]) -> None:
    """Raise ValueError where figures are missing, or none."""
    if missing := NEEDED - metrics.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for name in (*MEANS, "test/acc", "val/acc", "fit_seconds", "parameters"):
        value = metrics.get(name)
        number = isinstance(value, int | float) and abs(value) < 2**63  # NaN isn't, nor Infinity
        if not (number or (value is None and name != "test/acc")):
            raise ValueError(f"its {name} is no number")
    for name in ("train_pictures", "test_pictures"):
        value = metrics[name]
        if not (isinstance(value, int) and 0 < value < 2**63):
            raise ValueError(f"its {name} is no number of pictures")


def select(runs: Sequence[Found], conditions: Sequence[str]) -> list[Found]:
    """The runs whose settings are as the conditions `KEY=VALUE` say.

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


def _value(run: Found, key: str) -> str | None:
    if key in NAMES:
        return _name(run, key)
    return next((str(value) for name, value in run_folders.flat(run.config) if name == key), None)


def _name(run: Found, key: str) -> str:
    """Of its model, data or split; a forest's settings name no model."""
    if run.metrics is not None:
        return str(run.metrics[key])
    return str(run.config.get(key, {}).get("name", "forest" if key == "model" else "-"))


def _alike(value: str | None, wanted: str) -> bool:
    try:
        return value == wanted or float(value or "") == float(wanted)
    except ValueError:
        return False


def table(runs: Sequence[Found], sort: str = "acc") -> list[Row]:
    """A row for every model and setting, best mean accuracy first, or sorted by another column.

    Raises:
        RunError: There is no such column.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Found]] = {}
    for run in runs:
        groups.setdefault((("", _name(run, "model")), *sorted(setting(run).items())), []).append(
            run
        )
    models: dict[str, list[dict[str, str]]] = {}
    for key, members in groups.items():
        models.setdefault(_name(members[0], "model"), []).append(dict(key[1:]))
    varied = {model: _varied(settings) for model, settings in models.items()}
    rows = [_row(members, varied[_name(members[0], "model")]) for members in groups.values()]
    _mark_best(rows)
    if sort not in rows[0]:
        raise RunError(f"no column {sort}; there are {', '.join(rows[0])}")
    known = [row for row in rows if row[sort] is not None]
    downwards = not isinstance(known[0][sort], str) if known else False
    known.sort(key=lambda row: row[sort], reverse=downwards and sort not in FEWER_IS_BETTER)
    return [*known, *(row for row in rows if row[sort] is None)]


def _varied(settings: Sequence[dict[str, str]]) -> list[str]:
    """Keys in which the settings of a model differ, those with columns of their own aside.

    What follows from the name of its group, as all of augment follows from hand, is left out.
    """
    values: dict[str, set[str]] = {}
    for one in settings:
        for key, value in one.items():
            values.setdefault(key, set()).add(value)
    varied = [key for key, found in values.items() if len(found) > 1]
    told = {"data.name", "split.name"}
    for name in [key for key in varied if key.endswith(".name")]:
        group = [key for key in varied if key.startswith(name.removesuffix("name"))]
        kinds = {tuple(one.get(key) for key in group) for one in settings if name in one}
        if len(kinds) == len(values[name]):
            told.update(set(group) - {name})
    return [key for key in varied if key not in told]


def _row(runs: list[Found], varied: Sequence[str]) -> Row:
    known, done = setting(runs[0]), [run for run in runs if run.metrics is not None]
    accuracy = intervals.figures(done, "test/acc")
    mean = statistics.fmean(accuracy) if accuracy else None
    half = one_more = None
    if len(accuracy) > 1:
        half, one_more = intervals.half_widths(accuracy, intervals.shared(done))
    return {
        "model": _name(runs[0], "model"),
        "setting": " ".join(
            f"{key.removesuffix('.name')}={_short(known[key])}" for key in varied if key in known
        )
        or "-",
        "data": _name(runs[0], "data"),
        "split": _name(runs[0], "split"),
        "runs": len(done),
        "failed": sum(run.state == "failed" for run in runs),
        "unfinished": sum(run.state == "unfinished" for run in runs),
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


def _short(value: str) -> str:
    """A drawn number to four figures."""
    try:
        return value if len(value) < 8 else f"{float(value):.4g}"
    except ValueError:
        return value


def _ends(name: str, mean: float | None, half: float | None) -> dict[str, float | None]:
    if mean is None or half is None:
        return {f"{name}_low": None, f"{name}_high": None}
    return {f"{name}_low": mean - half, f"{name}_high": mean + half}


def _tested(runs: Sequence[Found]) -> bool:
    """Whether any of them validated on its test pictures: by that nothing is chosen."""
    return any(run.config["split"].get("val_is_test") for run in runs)


def _mean(runs: Sequence[Found], name: str) -> float | None:
    """None where a run lacks the figure: some mean nothing with some classes."""
    found: list[Any] = intervals.figures(runs, name)
    return statistics.fmean(found) if found else None


def _mark_best(rows: Sequence[Row]) -> None:
    """Mark the best by validation of all that share data and split, never by test."""
    for where in {(row["data"], row["split"]) for row in rows}:
        rivals = [row for row in rows if (row["data"], row["split"]) == where]
        rivals = [row for row in rivals if row["val_acc"] is not None]
        if len(rivals) > 1:
            max(rivals, key=lambda row: row["val_acc"])["best"] = True


def _lost(runs: Sequence[Found]) -> str:
    """The runs that failed, and why, and those that did not finish."""
    lines = [
        f"{run.state}: {run.path}{f': {run.error}' if run.error else ''}"
        for run in runs
        if run.metrics is None
    ]
    more = [f"... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "".join(f"{printable(line)}\n" for line in ["", *lines[:LISTED], *more] if lines)
