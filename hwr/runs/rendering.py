"""Render the table of runs as text, CSV, Markdown or JSON, and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from hwr.errors import RunError
from hwr.files import atomic_write
from hwr.runs.table import STATES

LEGEND = """\
accuracy: mean and 95 % interval in percent; the corrected resampled t (Nadeau and Bengio, 2003) \
where test splits share images, the plain t for folds
*: best by validation among the settings of the same data and split
"""
PERCENT = ("acc", "val_acc", "acc_nocase", "acc_writer")
LOCKBOX = "lockbox: the same images in every run, so the interval is that of runs, not of writers\n"


def render(rows: pd.DataFrame, kind: str | None) -> str:
    """Format the table for a terminal, or as `csv`, `markdown` or `json`."""
    if kind == "csv":
        return str(rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    if kind == "json":
        return f"{rows.to_json(orient='records', indent=2, double_precision=15)}\n"
    cells = [_cells(row) for row in rows.to_dict("records")]
    titles = [title for title in cells[0] if any(row[title] != "-" for row in cells)]
    table = Table(*titles, box=box.MARKDOWN if kind == "markdown" else None, pad_edge=bool(kind))
    for row in cells:
        table.add_row(*(row[title].replace("|", r"\|" if kind else "|") for title in titles))
    # Wide enough for any table: Rich would cut words off at the width of the terminal.
    console = Console(width=10_000, markup=False, emoji=False, highlight=False)
    with console.capture() as output:
        console.print(table)
    text = f"{output.get().strip()}\n"
    if kind == "markdown":
        return text
    return f"{text}\n{LEGEND}" + LOCKBOX * ("lockbox" in set(rows["split"]))


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    states = ", ".join(f"{row[state]} {state}" for state in STATES if row[state])
    percent = {key: _format(100 * row[key], ".1f") for key in PERCENT}
    half_width = _format(100 * (row["acc_high"] - row["acc"]), ".1f")
    return {
        **{key: row[key] for key in ("model", "setting", "data", "split")},
        "runs": f"{row['runs']} ({states})" if states else str(row["runs"]),
        "accuracy": f"{percent['acc']} ± {half_width}".removesuffix(" ± -"),
        "validation": percent["val_acc"] + " *" * row["best"],
        "case-insensitive": percent["acc_nocase"],
        "writer context": percent["acc_writer"],
        "fit s": _format(row["fit_seconds"], ".1f"),
        "parameters": _format(row["parameters"], ","),
    }


def _format(value: Any, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def plot(rows: pd.DataFrame, file: Path) -> None:
    """Draw the mean accuracies with their intervals as a PNG, the rows from top to bottom.

    The title holds what is the same in all rows.

    Raises:
        RunError: No run is finished.
    """
    rows = rows.dropna(subset="acc").reset_index(drop=True)
    if rows.empty:
        raise RunError("no finished run to plot")
    from matplotlib.figure import Figure  # slow to import, rarely needed

    from hwr.reporting.figures import drawable

    figure = Figure(figsize=(10, 1.4 + 0.32 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for best, color in ((False, "tab:blue"), (True, "tab:orange")):
        part = rows[rows["best"] == best]
        half_width = 100 * (part["acc_high"] - part["acc"])
        axes.errorbar(
            100 * part["acc"], part.index, xerr=half_width, fmt="o", capsize=3, color=color
        )
    axes.plot(100 * rows["val_acc"], rows.index, "|", markersize=10, color="gray")
    facts = rows[["model", "data", "split"]].assign(
        runs="n=" + rows["runs"].astype(str),
        setting=rows["setting"].str.replace(r"\S+\.(?=\w+=)", "", regex=True),  # the keys' groups
    )
    varied = facts.ne(facts.iloc[0]).any()
    shared = [drawable(text) for text in facts.loc[:, ~varied].iloc[0] if text != "-"]
    names = [drawable(" ".join(line)) for line in facts.loc[:, varied].to_numpy()]
    axes.set_title(", ".join(shared), fontsize=9, parse_math=False)
    axes.set_yticks(rows.index, names, fontsize=8, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    figure.supxlabel(
        "test accuracy in percent, mean and 95 % interval; gray: validation; "
        "orange: best by validation",
        fontsize=9,
    )
    with atomic_write(file) as temporary:
        figure.savefig(temporary, format="png")
