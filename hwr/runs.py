"""hwr-runs: one table over run folders, a row for every model and setting, with intervals."""

import argparse
import csv
import io
import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hwr.errors import RunError

Run = dict[str, Any]
Row = dict[str, Any]

REPEATS = {"seed", "ckpt", "split.seed", "split.fold", "data.root", "data.cache", "n_jobs"}
"""Settings that tell the runs of one row apart, or only where and how fast they ran."""

MEANS = ("test/acc_nocase", "test/top3", "test/loss", "test/auroc", "test/ap", "train/acc")
NEEDED = {"model", "data", "split", "test/acc", "config", "fit_seconds", "parameters"}
LEGEND = (
    "accuracy: mean and 95 % interval in percent; the corrected resampled t (Nadeau and Bengio, "
    "2003) where test splits share pictures, the plain t for folds"
)


def main() -> None:
    """The command hwr-runs."""
    parser = argparse.ArgumentParser(prog="hwr-runs", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    kind = parser.add_mutually_exclusive_group()
    for name in ("csv", "markdown", "json"):
        kind.add_argument(f"--{name}", dest="kind", action="store_const", const=name)
    arguments = parser.parse_args()
    try:
        rows = table(read_runs(arguments.folders))
        print(render(rows, arguments.kind), end="", flush=True)
    except RunError as error:
        print(f"hwr-runs: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """The figures of all finished runs below the folders, each once.

    A damaged `metrics.json` is named on stderr and left out.

    Raises:
        RunError: A folder is missing, or there is no run.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"no folder {folder}")
    files = {file.resolve() for folder in folders for file in folder.rglob("metrics.json")}
    runs = []
    for file in sorted(files):
        try:
            run = json.loads(file.read_text(encoding="utf-8"))
            missing = NEEDED - run.keys()
            if missing:
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        except (OSError, ValueError, AttributeError) as error:
            print(f"hwr-runs: left out {file}: {error}", file=sys.stderr)
            continue
        runs.append(run)
    if not runs:
        raise RunError(f"no finished run below {', '.join(map(str, folders))}")
    return runs


def table(runs: Sequence[Run]) -> list[Row]:
    """A row for every model and setting, best mean accuracy first."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(_setting(run).items())), []).append(run)
    models: dict[str, list[dict[str, str]]] = {}
    for key, members in groups.items():
        models.setdefault(members[0]["model"], []).append(dict(key))
    rows = [_row(members, models[members[0]["model"]]) for members in groups.values()]
    return sorted(rows, key=lambda row: -row["acc"])


def _setting(run: Run) -> dict[str, str]:
    """What makes the runs of a row alike: model and settings, as text, by dotted key."""
    flat = {key: str(value) for key, value in _flat(run["config"])}
    return {key: value for key, value in flat.items() if key not in REPEATS}


def _flat(node: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _row(runs: list[Run], alternatives: list[dict[str, str]]) -> Row:
    setting = _setting(runs[0])
    told = {"data.name", "split.name"}  # they have columns of their own
    varied = [
        f"{key}={value}"
        for key, value in setting.items()
        if key not in told and any(other.get(key, value) != value for other in alternatives)
    ]
    accuracy = [run["test/acc"] for run in runs]
    mean, count = statistics.fmean(accuracy), len(runs)
    spread = statistics.stdev(accuracy) if count > 1 else None
    half, one_more = intervals(runs)
    return {
        "model": runs[0]["model"],
        "setting": " ".join(varied) or "-",
        "data": runs[0]["data"],
        "split": runs[0]["split"],
        "runs": count,
        "acc": mean,
        "acc_sd": spread,
        "acc_low": None if half is None else mean - half,
        "acc_high": None if half is None else mean + half,
        "one_run_low": None if one_more is None else mean - one_more,
        "one_run_high": None if one_more is None else mean + one_more,
        **{
            name.removeprefix("test/").replace("/", "_"): (
                statistics.fmean(run[name] for run in runs)
                if all(name in run for run in runs)  # some figures mean nothing with some classes
                else None
            )
            for name in MEANS
        },
        "fit_seconds": statistics.fmean(run["fit_seconds"] for run in runs),
        "parameters": round(statistics.fmean(run["parameters"] for run in runs)),
    }


def intervals(runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """Half widths of the 95 % intervals of the mean accuracy and of one more run's accuracy.

    Runs whose test splits may share pictures are not independent: the interval of their mean is
    the corrected resampled t of Nadeau and Bengio, Machine Learning 52 (2003), whose variance is
    `(1/n + n_test/n_train) s^2`. Distinct folds of one cut share no test picture: plain t.

    Returns:
        Both None for a single run.
    """
    count = len(runs)
    if count < 2:
        return None, None
    from scipy.stats import t  # takes a third of a second

    tested = statistics.fmean(run["test_pictures"] for run in runs)
    fitted = statistics.fmean(run["train_pictures"] for run in runs)
    shared = 0.0 if _distinct_folds(runs) else tested / fitted
    spread = statistics.stdev(run["test/acc"] for run in runs)
    quantile = float(t.ppf(0.975, count - 1))
    mean = quantile * spread * (1 / count + shared) ** 0.5
    return mean, quantile * spread * (1 + 1 / count) ** 0.5


def _distinct_folds(runs: Sequence[Run]) -> bool:
    splits = [run["config"]["split"] for run in runs]
    folds = {split.get("fold") for split in splits}
    return None not in folds and len(folds) == len(runs) and len({s["seed"] for s in splits}) == 1


def render(rows: Sequence[Row], kind: str | None) -> str:
    """The table as text for a terminal, or as `csv`, `markdown` or `json`."""
    if kind == "json":
        return json.dumps(rows, indent=2) + "\n"
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        return text.getvalue()
    lines = [["model", "setting", "data", "split", "runs", "accuracy", "case folded", "fit s"]]
    lines[0].append("parameters")
    for row in rows:
        half = "" if row["acc_low"] is None else f" ± {100 * (row['acc'] - row['acc_low']):.1f}"
        lines.append(
            [
                *(str(row[key]) for key in ("model", "setting", "data", "split", "runs")),
                f"{100 * row['acc']:.1f}{half}",
                "-" if row["acc_nocase"] is None else f"{100 * row['acc_nocase']:.1f}",
                f"{row['fit_seconds']:.1f}",
                f"{row['parameters']:,}",
            ]
        )
    if kind == "markdown":
        lines.insert(1, ["---"] * len(lines[0]))
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text_lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*text_lines, "", LEGEND]) + "\n"
