"""Compare two settings over the same splits: mean difference, interval, McNemar's test."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from hwr.errors import RunError
from hwr.runs import intervals
from hwr.runs.records import RunRecord, compared

REPEATS = {"seed", "optimized_metric", "split.seed", "split.fold"}
"""Settings that differ between the runs of one setting."""


def setting(run: RunRecord) -> dict[str, str]:
    """Return what makes runs alike, as text, by dotted key."""
    return {key: str(value) for key, value in compared(run.config).items() if key not in REPEATS}


def compare(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> dict[str, Any]:
    """Compare the test accuracy of two settings over the splits that both were tested on.

    Runs of one setting on the same split (with other initial weights, say) count as their mean.

    Returns:
        `splits`, `first` and `second` (mean accuracies), `difference` (first less second) with
        `low`, `high` (95 % interval; None for one split) and `p`; `corrected`: test splits may
        share images, so the interval is the corrected resampled t; `mcnemar`, or None.

    Raises:
        RunError: One of the two isn't a single setting, or they share no split.
    """
    for name, runs in (("first", first), ("second", second)):
        _one_setting(name, runs)
    one, other = _by_split(first), _by_split(second)
    keys = [key for key in one if key in other]
    if not keys:
        raise RunError("the two settings were tested on no split in common")
    means = [[statistics.fmean(_acc(side[key])) for key in keys] for side in (one, other)]
    differences = [a - b for a, b in zip(*means, strict=True)]
    pairs = [side[key][0] for key in keys for side in (one, other)]
    overlap = 0.0
    if not intervals.distinct_folds(pairs[::2]):
        overlap = intervals.shared(pairs)
    half, _ = intervals.half_widths(differences, overlap)
    mean = statistics.fmean(differences)
    single = all(len(side[key]) == 1 for key in keys for side in (one, other))
    return {
        "splits": len(keys),
        "first": statistics.fmean(means[0]),
        "second": statistics.fmean(means[1]),
        "difference": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "p": intervals.p_value(differences, overlap),
        "corrected": overlap > 0,
        "mcnemar": intervals.mcnemar(pairs[::2], pairs[1::2]) if single else None,
    }


def _acc(runs: Sequence[RunRecord]) -> list[float]:
    return intervals.values(runs, "test/acc")


def _one_setting(name: str, runs: Sequence[RunRecord]) -> None:
    if not runs:
        raise RunError(f"no finished run matches the {name} setting of --compare")
    settings = [setting(run) for run in runs]
    for key in {key: None for one in settings for key in one}:
        values = sorted({one.get(key, "unset") for one in settings})
        if len(values) > 1:
            listed = ", ".join(values[:5])
            raise RunError(
                f"the {name} setting of --compare matches runs that differ in {key} ({listed}); "
                f"add one of them, such as {key}={values[0]}"
            )


def _by_split(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Group the runs by test split; how validation was cut doesn't matter."""
    splits: dict[str, list[RunRecord]] = {}
    for run in runs:
        assert run.metrics is not None
        cut = {k: v for k, v in run.config["split"].items() if not k.startswith("val_")}
        key = json.dumps([run.metrics.get("data_fingerprint"), cut], sort_keys=True)
        splits.setdefault(key, []).append(run)
    return splits


def sentences(result: dict[str, Any], names: Sequence[str]) -> str:
    """Put a comparison into words, in percent and points."""
    first, second = names
    splits = f"{result['splits']} split{'s' * (result['splits'] > 1)}"
    text = (
        f"{first}: {100 * result['first']:.2f} %, {second}: {100 * result['second']:.2f} % "
        f"over the same {splits}\ndifference {100 * result['difference']:+.2f} points"
    )
    if result["low"] is not None:
        kind = "plain t over folds that share no test image"
        if result["corrected"]:
            kind = "corrected resampled t: test splits share images"
        text += f", 95 % interval {100 * result['low']:+.2f} to {100 * result['high']:+.2f}"
        text += "" if result["p"] is None else f", p = {result['p']:.2g}"
        text += f" ({kind})"
    if test := result["mcnemar"]:
        text += (
            f"\nMcNemar over {test['images']:,} images, each tested once: {test['only_first']:,} "
            f"correct in the first only, {test['only_second']:,} in the second only, "
            f"p = {test['p']:.2g}"
        )
    return f"{text}\n"
