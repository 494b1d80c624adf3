"""Means with 95 % intervals, differences over the same splits, and McNemar's test."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hwr.folders import Found


def figures(runs: Sequence[Found], name: str) -> list[float]:
    """One figure of every run; none where a run has no such figure."""
    found = [run.metrics.get(name) for run in runs if run.metrics is not None]
    return [float(value) for value in found if value is not None] if None not in found else []


def distinct_folds(runs: Sequence[Found]) -> bool:
    """Whether all are different folds of one cut, so that none shares a test picture."""
    splits: list[Mapping[str, Any]] = [run.config["split"] for run in runs]
    folds = {str(split.get("fold")) for split in splits}
    cuts = {(str(split.get("seed")), str(split.get("folds"))) for split in splits}
    return "None" not in folds and len(folds) == len(runs) and len(cuts) == 1


def shared(runs: Sequence[Found]) -> float:
    """`n_test / n_train` where test splits may share pictures, 0 for distinct folds."""
    if distinct_folds(runs):
        return 0.0
    sizes = (statistics.fmean(figures(runs, f"{part}_pictures")) for part in ("test", "train"))
    tested, fitted = sizes
    return tested / fitted


def half_widths(values: Sequence[float], overlap: float) -> tuple[float | None, float | None]:
    """Half widths of the 95 % intervals of the mean, and of one more value.

    Values from splits that may share pictures are not independent: the interval of their mean is
    the corrected resampled t of Nadeau and Bengio, Machine Learning 52 (2003), whose variance is
    `(1/n + n_test/n_train) s^2`. Distinct folds of one cut share no test picture: plain t.

    Args:
        values: n of them.
        overlap: What `shared` says.

    Returns:
        Both None for a single value.
    """
    count = len(values)
    if count < 2:
        return None, None
    from scipy.stats import t  # takes a third of a second

    width = float(t.ppf(0.975, count - 1)) * statistics.stdev(values)
    return width * (1 / count + overlap) ** 0.5, width * (1 + 1 / count) ** 0.5


def p_value(differences: Sequence[float], overlap: float) -> float | None:
    """Two-sided p of the same t for a mean difference of 0; None for one, or all alike."""
    count = len(differences)
    if count < 2 or (spread := statistics.stdev(differences)) == 0:
        return None
    from scipy.stats import t

    found = statistics.fmean(differences) / (spread * (1 / count + overlap) ** 0.5)
    return float(2 * t.sf(abs(found), count - 1))


def mcnemar(one: Sequence[Found], other: Sequence[Found]) -> dict[str, Any] | None:
    """McNemar's exact test (Psychometrika 12, 1947) of two settings, from `predictions.csv`.

    Returns:
        `pictures`; how many of them only the one, or only the other, reads rightly
        (`only_first`, `only_second`); and the two-sided `p`. None where a picture was tested
        more than once, or not by both, or a file is missing: the test takes every picture for
        independent.
    """
    first, second = _right(one), _right(other)
    if first is None or second is None or first.keys() != second.keys():
        return None
    from scipy.stats import binomtest

    only_first = sum(right and not second[file] for file, right in first.items())
    only_second = sum(right and not first[file] for file, right in second.items())
    differ = only_first + only_second
    p = float(binomtest(only_first, differ).pvalue) if differ else 1.0
    return {
        "pictures": len(first),
        "only_first": only_first,
        "only_second": only_second,
        "p": p,
    }


def _right(runs: Sequence[Found]) -> dict[str, bool] | None:
    """Whether each picture was read rightly, by file; None where one was tested twice."""
    right: dict[str, bool] = {}
    for run in runs:
        try:
            with (run.path / "predictions.csv").open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if row["file"] in right:
                        return None
                    right[row["file"]] = row["label"] == row["prediction"]
        except (OSError, KeyError, ValueError):
            return None
    return right
