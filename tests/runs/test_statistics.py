"""Test intervals and tests against values computed by hand, or by scipy."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.stats import t

from hwr.errors import RunError
from hwr.runs.statistics import compare
from hwr.runs.table import read_runs, select, table


@pytest.mark.parametrize(
    ("split", "same_cut", "ratio"),
    [("stratified", False, 1 / 3), ("kfold", False, 1 / 3), ("kfold", True, 0)],
)
def test_intervals(
    tmp_path: Path, write_run: Any, split: str, same_cut: bool, ratio: float
) -> None:
    """Nadeau and Bengio, where test splits of 100 images may share some; 300 are trained on."""
    accuracies = [0.7, 0.74, 0.75]
    for fold, acc in enumerate(accuracies):
        cut = {"folds": 3, "fold": fold} if split == "kfold" else {}
        write_run(str(fold), acc, 0 if same_cut else fold, split=split, cut=cut)
    row = table(read_runs([tmp_path])).iloc[0]
    half = t.ppf(0.975, 2) * statistics.stdev(accuracies) * (1 / 3 + ratio) ** 0.5
    assert row["acc"] == pytest.approx(0.73)
    assert row["acc_sd"] == pytest.approx(statistics.stdev(accuracies))
    assert row["acc_high"] - row["acc"] == pytest.approx(half)
    assert row["acc"] - row["acc_low"] == pytest.approx(half)


def test_comparison_over_overlapping_splits(tmp_path: Path, write_run: Any) -> None:
    first, second = [0.7, 0.74, 0.75, 0.71], [0.6, 0.66, 0.61, 0.62]
    for seed, (one, other) in enumerate(zip(first, second, strict=True)):
        write_run(f"cnn{seed}", one, seed)
        write_run(f"mlp{seed}", other, seed, model="mlp")
    write_run("of a split that only one was tested on", 0.1, 9)
    runs = read_runs([tmp_path])
    result = compare(select(runs, ["model=cnn"]), select(runs, ["model=mlp"]))
    difference = np.subtract(first, second)
    error = difference.std(ddof=1) * (1 / 4 + 100 / 300) ** 0.5
    assert (result["splits"], result["corrected"], result["mcnemar"]) == (4, True, None)
    assert result["first"] == pytest.approx(np.mean(first))
    assert result["difference"] == pytest.approx(difference.mean())
    assert result["high"] - result["difference"] == pytest.approx(t.ppf(0.975, 3) * error)
    assert result["p"] == pytest.approx(2 * t.sf(difference.mean() / error, 3))


def test_comparison_over_folds(tmp_path: Path, write_run: Any) -> None:
    """Compare with the paired t of scipy, and McNemar's test by hand."""
    first, second = [0.7, 0.74, 0.78], [0.6, 0.66, 0.61]

    def predict(folder: str, images: range, correct: set[int]) -> None:
        lines = [f"{file},A,{'A' if file in correct else 'B'},0.5" for file in images]
        text = "\n".join(["file,label,prediction,probability", *lines])
        (tmp_path / folder / "predictions.csv").write_text(text)

    for fold, (one, other) in enumerate(zip(first, second, strict=True)):
        images = range(10 * fold, 10 * fold + 10)
        for model, acc, correct in (("cnn", one, set(images)), ("mlp", other, {10 * fold})):
            cut = {"folds": 3, "fold": fold}
            write_run(f"{model}{fold}", acc, model=model, split="kfold", cut=cut)
            predict(f"{model}{fold}", images, correct - {5})
    runs = read_runs([tmp_path])
    sides = select(runs, ["model=cnn"]), select(runs, ["model=mlp"])
    result = compare(*sides)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval(0.95)
    assert (result["low"], result["high"]) == (pytest.approx(low), pytest.approx(high))
    assert result["p"] == pytest.approx(test.pvalue)
    only = 30 - 3 - 1
    assert result["mcnemar"] == {
        **{"images": 30, "only_first": only, "only_second": 0},
        "p": pytest.approx(2 * 0.5**only),
    }
    predict("cnn1", range(10), set())  # these are tested twice then
    assert compare(*sides)["mcnemar"] is None


def test_one_split_and_equal_accuracies_have_no_p(tmp_path: Path, write_run: Any) -> None:
    for seed in range(2):
        write_run(f"a{seed}", 0.7, seed)
        write_run(f"b{seed}", 0.6, seed, model="mlp")
    cnn, mlp = (select(read_runs([tmp_path]), [f"model={name}"]) for name in ("cnn", "mlp"))
    one = compare(cnn[:1], mlp[:1])
    assert (one["splits"], np.isnan([one["low"], one["p"]]).all()) == (1, True)
    assert np.isnan(compare(cnn, mlp)["p"])


def test_what_cannot_be_compared(tmp_path: Path, write_run: Any) -> None:
    write_run("a", 0.7, epochs=1)
    write_run("b", 0.7, epochs=2, trainer={"max_epochs": 1, "gradient_clip_val": 1})
    write_run("c", 0.7, 5, model="mlp")
    runs = read_runs([tmp_path])
    cnn, mlp = select(runs, ["model=cnn"]), select(runs, ["model=mlp"])
    with pytest.raises(RunError, match=r"differ in trainer\.gradient_clip_val \(1, unset\)"):
        compare(cnn, mlp)
    with pytest.raises(RunError, match="no split in common"):
        compare(cnn[:1], mlp)
    with pytest.raises(RunError, match="no finished run matches the second setting"):
        compare(mlp, [])
