"""hwr-runs: one table over run folders, a row for each model and setting, with intervals."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hwr.errors import RunError, UserError, printable
from hwr.runs import rendering, statistics
from hwr.runs.records import RunRecord
from hwr.runs.table import read_runs, select, table

MAX_LISTED = 20


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
        result = statistics.compare(*finished)
        if arguments.kind == "json":
            return f"{pd.Series(result).to_json(indent=2, double_precision=15)}\n"
        lines = pd.json_normalize(result, sep=" ").T.to_string(header=False)
        return "first: {}\nsecond: {}\n\n{}\n".format(*arguments.compare, lines)
    rows = table(runs, arguments.sort)
    if arguments.plot:
        try:
            rendering.plot(rows, arguments.plot)
        except OSError as error:
            raise RunError(f"{error.strerror}: {arguments.plot}") from error
    text = rendering.render(rows, arguments.kind)
    return text if arguments.kind else text + _list_other_runs(runs)


def _list_other_runs(runs: Sequence[RunRecord]) -> str:
    """List the runs that are in no mean: partial, failed (and why), or unfinished."""
    lines = [
        f"{run.state}: {run.path}{f': {run.error}' if run.error else ''}"
        for run in runs
        if run.state != "finished"
    ]
    more = [f"... and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "".join(f"{printable(line)}\n" for line in ["", *lines[:MAX_LISTED], *more] if lines)
