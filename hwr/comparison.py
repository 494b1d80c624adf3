"""Two settings compared over the same splits: mean difference, interval, McNemar's test."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from hwr import intervals
from hwr.errors import RunError
from hwr.folders import Found, flat

REPEATS = {
    "seed",
    "ckpt",
    "objective",
    "split.seed",
    "split.fold",
    "data.root",
    "data.cache",
    "n_jobs",
}
"""Settings that tell the runs of one setting apart, or only where and how fast they ran."""


def setting(run: Found) -> dict[str, str]:
    """What makes runs alike: model and settings, as text, by dotted key."""
    told = {key: str(value) for key, value in flat(run.config) if key not in REPEATS}
    return {key: value for key, value in told.items() if not key.startswith("report.")}


def compare(first: Sequence[Found], second: Sequence[Found]) -> dict[str, Any]:
    """The difference in test accuracy of two settings over the splits that both were tested on.

    Runs of one setting on the same split (other first weights, say) count as their mean.

    Returns:
        `splits`, `first` and `second` (mean accuracies), `difference` (first less second) with
        `low`, `high` (95 % interval; None for one split) and `p`; `corrected`: test splits may
        share pictures, so the interval is the corrected resampled t; `mcnemar`, or None.

    Raises:
        RunError: One of the two is no single setting, or they share no split.
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


def _acc(runs: Sequence[Found]) -> list[float]:
    return intervals.figures(runs, "test/acc")


def _one_setting(name: str, runs: Sequence[Found]) -> None:
    if not runs:
        raise RunError(f"no finished run matches the {name} setting of --compare")
    known = [setting(run) for run in runs]
    for key in known[0]:
        values = sorted({one.get(key, "-") for one in known})
        if len(values) > 1:
            listed = ", ".join(values[:5])
            raise RunError(
                f"the {name} setting of --compare matches runs that differ in {key} ({listed}); "
                f"add one of them, such as {key}={values[0]}"
            )


def _by_split(runs: Sequence[Found]) -> dict[str, list[Found]]:
    """The runs of each test split; how validation was cut doesn't matter."""
    found: dict[str, list[Found]] = {}
    for run in runs:
        assert run.metrics is not None
        cut = {k: v for k, v in run.config["split"].items() if not k.startswith("val_")}
        key = json.dumps([run.metrics.get("data_fingerprint"), cut], sort_keys=True)
        found.setdefault(key, []).append(run)
    return found


def sentences(result: dict[str, Any], names: Sequence[str]) -> str:
    """The comparison in words, in percent and points."""
    first, second = names
    splits = f"{result['splits']} split{'s' * (result['splits'] > 1)}"
    lines = [
        f"{first}: {100 * result['first']:.2f} %, {second}: {100 * result['second']:.2f} % "
        f"over the same {splits}"
    ]
    said = f"difference {100 * result['difference']:+.2f} points"
    if result["low"] is not None:
        kind = (
            "corrected resampled t: test splits share pictures"
            if result["corrected"]
            else ("plain t over folds that share no test picture")
        )
        said += f", 95 % interval {100 * result['low']:+.2f} to {100 * result['high']:+.2f}"
        said += "" if result["p"] is None else f", p = {result['p']:.2g}"
        said += f" ({kind})"
    lines.append(said)
    if found := result["mcnemar"]:
        lines.append(
            f"McNemar over {found['pictures']:,} pictures, each tested once: only the first reads "
            f"{found['only_first']:,} rightly, only the second {found['only_second']:,}, "
            f"p = {found['p']:.2g}"
        )
    return "\n".join(lines) + "\n"
