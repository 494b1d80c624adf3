"""Render the table of runs as text, CSV, Markdown or JSON, and as a plot."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr.errors import RunError, printable
from hwr.files import atomic_write

Row = dict[str, Any]
LEGEND = (
    "accuracy: mean and 95 % interval in percent; the corrected resampled t (Nadeau and Bengio, "
    "2003) where test splits share images, the plain t for folds\n"
    "*: best by validation among the settings of the same data and split"
)
LOCKBOX = "lockbox: the same images in every run, so the interval is that of runs, not of writers"
HEADER = ["model", "setting", "data", "split", "runs", "accuracy", "validation"]
HEADER += ["case-insensitive", "writer context", "fit s", "parameters"]


def render(rows: Sequence[Row], kind: str | None) -> str:
    """Render the table for a terminal, or as `csv`, `markdown` or `json`."""
    if kind == "json":
        return json.dumps(rows, indent=2) + "\n"
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            if sys.stdout.isatty():  # a file gets the names as they are
                cells = {k: printable(v) if isinstance(v, str) else v for k, v in cells.items()}
            writer.writerow(cells)
        return text.getvalue()
    lines = [HEADER, *map(_cells, rows)]
    if all(row["acc_writer"] is None for row in rows):
        lines = [[*line[:8], *line[9:]] for line in lines]
    if kind == "markdown":
        marks = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;"})
        lines = [[cell.translate(marks) for cell in line] for line in lines]
        lines.insert(1, ["---"] * len(lines[0]))
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text_lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    legend = [LEGEND, *([LOCKBOX] if any(row["split"] == "lockbox" for row in rows) else [])]
    return "\n".join([*text_lines, "", *legend]) + "\n"


def _cells(row: Row) -> list[str]:
    lost = [f"{row[state]} {state}" for state in ("partial", "failed", "unfinished") if row[state]]
    half = "" if row["acc_low"] is None else f" ± {100 * (row['acc'] - row['acc_low']):.1f}"
    return [
        *(printable(str(row[key])) for key in ("model", "setting", "data", "split")),
        f"{row['runs']}{f' ({chr(44).join(lost)})' if lost else ''}",
        _percent(row["acc"]) + half,
        _percent(row["val_acc"]) + " *" * row["best"],
        _percent(row["acc_nocase"]),
        _percent(row["acc_writer"]),
        "-" if row["fit_seconds"] is None else f"{row['fit_seconds']:.1f}",
        "-" if row["parameters"] is None else f"{row['parameters']:,}",
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draw the mean accuracies with their intervals as a PNG, the rows from top to bottom.

    The title holds what is the same in all rows.

    Raises:
        RunError: No run is finished.
    """
    rows = [row for row in rows if row["acc"] is not None]
    if not rows:
        raise RunError("no finished run to plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.4 + 0.32 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        mean = 100 * row["acc"]
        half = 0.0 if row["acc_low"] is None else mean - 100 * row["acc_low"]
        color = "tab:orange" if row["best"] else "tab:blue"
        axes.errorbar(mean, place, xerr=half or None, fmt="o", capsize=3, color=color)
        if row["val_acc"] is not None:
            axes.plot(100 * row["val_acc"], place, "|", markersize=10, color="gray")
    facts = [
        (row["model"], row["data"], row["split"], f"n={row['runs']}", _short(row["setting"]))
        for row in rows
    ]
    varied = [len(set(column)) > 1 for column in zip(*facts, strict=True)]
    names = [
        " ".join(fact for fact, differs in zip(row, varied, strict=True) if differs)
        for row in facts
    ]
    shared = [fact for fact, differs in zip(facts[0], varied, strict=True) if not differs]
    axes.set_title(_literal(", ".join(part for part in shared if part != "-")), fontsize=9)
    axes.set_yticks(range(len(rows)), [_literal(name) for name in names], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    figure.supxlabel(
        "test accuracy in percent, mean and 95 % interval; gray: validation; "
        "orange: best by validation",
        fontsize=9,
    )
    with atomic_write(file) as temporary:
        figure.savefig(temporary, format="png")


def _short(setting: str) -> str:
    """Leave out the groups that the keys of a setting lie in: `lr=0.1` for `optimizer.lr=0.1`."""
    parts = (part.partition("=") for part in setting.split())
    return " ".join(f"{key.rpartition('.')[2]}{sign}{value}" for key, sign, value in parts)


def _literal(text: str) -> str:
    """Escape what Matplotlib would take for a formula."""
    return text.replace("$", r"\$")
