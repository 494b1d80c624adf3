"""Intervals of mean accuracies, differences over the same splits, and McNemar's test."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hwr.errors import RunError
from hwr.runs.records import RunRecord, compared_settings

REPEATS = {"seed", "optimized_metric", "split.seed", "split.fold"}
"""Settings that differ between the runs of one setting."""


def setting(run: RunRecord) -> dict[str, str]:
    """Return the settings that repeated runs share, as text, by dotted key."""
    settings = compared_settings(run.config)
    return {key: str(value) for key, value in settings.items() if key not in REPEATS}


def overlap_ratio(runs: Sequence[RunRecord]) -> float:
    """Return `n_test / n_train` if test splits may share images, 0 for distinct folds.

    Args:
        runs: Finished runs, each with another split.
    """
    splits: list[Mapping[str, Any]] = [run.config["split"] for run in runs]
    folds = {str(split.get("fold")) for split in splits}
    cuts = {(str(split.get("seed")), str(split.get("folds"))) for split in splits}
    if "None" not in folds and len(folds) == len(runs) and len(cuts) == 1:
        return 0.0
    sizes = pd.DataFrame([run.metrics for run in runs])[["test_images", "train_images"]].mean()
    return float(sizes["test_images"] / sizes["train_images"])


def t_interval(values: Sequence[float], ratio: float) -> tuple[float, float]:
    """Compute the 95 % interval of a mean, and the p-value of a mean of 0.

    Values from splits that may share images are not independent: their interval is the corrected
    resampled t of Nadeau and Bengio, Machine Learning 52 (2003), whose variance is
    `(1/n + n_test/n_train) s^2`. Distinct folds of one cut share no test image: plain t.

    Args:
        values: n values.
        ratio: `n_test/n_train`, or 0; see `overlap_ratio`.

    Returns:
        Half the width of the interval, NaN for a single value; and the two-sided p-value, NaN
        for a single value or equal values.
    """
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    error = float(np.std(values, ddof=1)) * (1 / count + ratio) ** 0.5
    half_width = float(stats.t.ppf(0.975, count - 1)) * error
    if error < 1e-12:  # equal values, rounded
        return half_width, math.nan
    return half_width, float(2 * stats.t.sf(abs(np.mean(values)) / error, count - 1))


def mcnemar(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Run McNemar's exact test (Psychometrika 12, 1947) on the predictions of two settings.

    The test takes every image for independent, so each must be tested once by either setting.

    Returns:
        `images`; the number of them that only the first or only the second predicts correctly
        (`only_first`, `only_second`); the two-sided `p`. None if an image was tested more than
        once, or by one setting only, or if a `predictions.csv` is missing.
    """
    one, other = _correct(first), _correct(second)
    if one is None or other is None or set(one.index) != set(other.index):
        return None
    other = other[one.index]
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    differ = only_first + only_second
    return {
        "images": len(one),
        "only_first": only_first,
        "only_second": only_second,
        "p": float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0,
    }


def _correct(runs: Sequence[RunRecord]) -> pd.Series | None:
    """Return whether each image, by file, was predicted correctly; None if one occurs twice."""
    try:
        tables = [
            pd.read_csv(run.path / "predictions.csv", dtype=str, keep_default_na=False)
            for run in runs
        ]
    except FileNotFoundError:
        return None
    table = pd.concat(tables).set_index("file")
    return table["label"] == table["prediction"] if table.index.is_unique else None


def compare(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> dict[str, Any]:
    """Compare the test accuracy of two settings over the splits that both were tested on.

    Runs of one setting on the same split (with other initial weights, say) count as their mean.

    Args:
        first: Finished runs of one setting.
        second: Those of the other.

    Returns:
        `splits`, `first` and `second` (mean accuracies), `difference` (first less second) with
        `low`, `high` (95 % interval; NaN for one split) and `p`; `corrected`: test splits may
        share images, so the interval is the corrected resampled t; `mcnemar`, or None.

    Raises:
        RunError: One of the two isn't a single setting, or they share no split.
    """
    accuracy = pd.concat([_accuracy("first", first), _accuracy("second", second)], axis=1).dropna()
    if accuracy.empty:
        raise RunError("the two settings were tested on no split in common")
    common = [[run for run in runs if _split(run) in accuracy.index] for runs in (first, second)]
    ratio = overlap_ratio(list({_split(run): run for run in common[0]}.values()))
    differences = accuracy["first"] - accuracy["second"]
    mean = float(differences.mean())
    half_width, p = t_interval(differences.tolist(), ratio)
    return {
        "splits": len(accuracy),
        "first": float(accuracy["first"].mean()),
        "second": float(accuracy["second"].mean()),
        "difference": mean,
        "low": mean - half_width,
        "high": mean + half_width,
        "p": p,
        "corrected": ratio > 0,
        "mcnemar": mcnemar(*common),
    }


def _accuracy(name: str, runs: Sequence[RunRecord]) -> pd.Series:
    """Return the mean test accuracy of one setting on each split."""
    if not runs:
        raise RunError(f"no finished run matches the {name} setting of --compare")
    settings = pd.DataFrame([setting(run) for run in runs]).fillna("unset")
    for key in settings:
        if len(values := sorted(set(settings[key]))) > 1:
            raise RunError(
                f"the {name} setting of --compare matches runs that differ in {key} "
                f"({', '.join(values[:5])}); add one of them, such as {key}={values[0]}"
            )
    for run in runs:
        if "test/acc" not in (run.metrics or {}):
            raise RunError(f"{run.path} has no test/acc to compare; leave it out")
    accuracy = pd.Series([(run.metrics or {})["test/acc"] for run in runs], name=name)
    return accuracy.groupby([_split(run) for run in runs]).mean()


def _split(run: RunRecord) -> str:
    """Identify the test split of a run; the choice of its validation images doesn't matter."""
    settings = {k: v for k, v in run.config["split"].items() if not k.startswith("val_")}
    return json.dumps([(run.metrics or {}).get("data_fingerprint"), settings], sort_keys=True)
