"""Means with 95 % intervals, differences over the same splits, and McNemar's test."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hwr.runs.records import RunRecord


def values(runs: Sequence[RunRecord], name: str) -> list[float]:
    """Return one metric of every run; nothing where a run lacks it."""
    listed = [run.metrics.get(name) for run in runs if run.metrics is not None]
    return [float(value) for value in listed if value is not None] if None not in listed else []


def distinct_folds(runs: Sequence[RunRecord]) -> bool:
    """Tell whether all are different folds of one cut, so that none shares a test image."""
    splits: list[Mapping[str, Any]] = [run.config["split"] for run in runs]
    folds = {str(split.get("fold")) for split in splits}
    cuts = {(str(split.get("seed")), str(split.get("folds"))) for split in splits}
    return "None" not in folds and len(folds) == len(runs) and len(cuts) == 1


def shared(runs: Sequence[RunRecord]) -> float:
    """Return `n_test / n_train` where test splits may share images, 0 for distinct folds."""
    if distinct_folds(runs):
        return 0.0
    sizes = (statistics.fmean(values(runs, f"{part}_images")) for part in ("test", "train"))
    n_test, n_train = sizes
    return n_test / n_train


def half_widths(values: Sequence[float], overlap: float) -> tuple[float | None, float | None]:
    """Compute half the widths of the 95 % intervals of the mean, and of one more value.

    Values from splits that may share images are not independent: the interval of their mean is
    the corrected resampled t of Nadeau and Bengio, Machine Learning 52 (2003), whose variance is
    `(1/n + n_test/n_train) s^2`. Distinct folds of one cut share no test image: plain t.

    Args:
        values: n of them.
        overlap: `n_test/n_train`, as `shared` returns it.

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
    """Compute the two-sided p of the same t for a mean of 0; None for one, or all alike."""
    count = len(differences)
    if count < 2 or (spread := statistics.stdev(differences)) == 0:
        return None
    from scipy.stats import t

    t_value = statistics.fmean(differences) / (spread * (1 / count + overlap) ** 0.5)
    return float(2 * t.sf(abs(t_value), count - 1))


def mcnemar(one: Sequence[RunRecord], other: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Run McNemar's exact test (Psychometrika 12, 1947) of two settings on `predictions.csv`.

    Returns:
        `images`; how many of them only the first, or only the second, predicts correctly
        (`only_first`, `only_second`); and the two-sided `p`. None where an image was tested
        more than once, or not by both, or a file is missing: the test takes every image for
        independent.
    """
    first, second = _correct(one), _correct(other)
    if first is None or second is None or first.keys() != second.keys():
        return None
    from scipy.stats import binomtest

    only_first = sum(correct and not second[file] for file, correct in first.items())
    only_second = sum(correct and not first[file] for file, correct in second.items())
    differ = only_first + only_second
    p = float(binomtest(only_first, differ).pvalue) if differ else 1.0
    return {
        "images": len(first),
        "only_first": only_first,
        "only_second": only_second,
        "p": p,
    }


def _correct(runs: Sequence[RunRecord]) -> dict[str, bool] | None:
    """Tell of each image, by file, if it was predicted correctly; None where one came twice."""
    correct: dict[str, bool] = {}
    for run in runs:
        try:
            with (run.path / "predictions.csv").open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if row["file"] in correct:
                        return None
                    correct[row["file"]] = row["label"] == row["prediction"]
        except (OSError, KeyError, ValueError):
            return None
    return correct
