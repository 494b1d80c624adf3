"""Compare run folders in one table, a row for each model and setting, with intervals."""

import argparse
from collections.abc import Sequence

import pandas as pd

from hwr.cli.commands import argument_parser
from hwr.errors import sanitize
from hwr.files import expand_user
from hwr.runs import rendering, statistics
from hwr.runs.records import RunRecord
from hwr.runs.table import read_runs, select, table

MAX_LISTED = 20


def main() -> None:
    """Run hwr-runs."""
    parser = argument_parser("hwr-runs", __doc__)
    parser.add_argument("folders", nargs="+", type=expand_user, metavar="FOLDER")
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
    parser.add_argument(
        "--plot", type=expand_user, metavar="FILE.png", help="plot means and intervals"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="SETTING",
        help="two settings over the same splits, each KEY=VALUE[,KEY=VALUE...]",
    )
    arguments = parser.parse_args()
    print(_answer(arguments), end="")


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
        rendering.plot(rows, arguments.plot)
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
    return "".join(f"{sanitize(line)}\n" for line in ["", *lines[:MAX_LISTED], *more] if lines)
