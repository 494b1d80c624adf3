"""hwr-runs: grouping, intervals, formats, broken folders."""

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import t

from hwr.errors import RunError
from hwr.runs import main, read_runs, render, table


def write(folder: Path, acc: float, seed: int = 0, epochs: int = 30, **split: Any) -> None:
    """A finished run by hand."""
    names = ("acc_nocase", "top3", "loss", "auroc", "ap")
    metrics = {
        "model": "cnn",
        "data": "english",
        "split": split.get("name", "stratified"),
        "test/acc": acc,
        **{f"test/{name}": 0.5 for name in names},
        "train/acc": 0.9,
        "fit_seconds": 2.0,
        "parameters": 10,
        "train_pictures": 300,
        "test_pictures": 100,
        "config": {
            "seed": seed,
            "split": {"name": "stratified", "seed": seed, **split},
            "trainer": {"max_epochs": epochs},
        },
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_rows_by_setting(tmp_path: Path) -> None:
    for seed, acc in enumerate([0.7, 0.74, 0.75]):
        write(tmp_path / str(seed), acc, seed)
    write(tmp_path / "long", 0.8, epochs=60)
    long, short = table(read_runs([tmp_path, tmp_path / "long"]))
    assert (long["setting"], long["runs"], long["acc_low"]) == ("trainer.max_epochs=60", 1, None)
    assert (short["setting"], short["runs"]) == ("trainer.max_epochs=30", 3)
    assert short["acc"] == pytest.approx(0.73)


def test_interval_of_overlapping_splits(tmp_path: Path) -> None:
    figures = [0.7, 0.74, 0.75]
    for seed, acc in enumerate(figures):
        write(tmp_path / str(seed), acc, seed)
    (row,) = table(read_runs([tmp_path]))
    spread, quantile = statistics.stdev(figures), t.ppf(0.975, 2)
    half = quantile * spread * (1 / 3 + 100 / 300) ** 0.5
    assert row["acc_high"] - row["acc"] == pytest.approx(half)
    assert row["one_run_high"] - row["acc"] == pytest.approx(quantile * spread * (4 / 3) ** 0.5)


@pytest.mark.parametrize(("same_cut", "shared"), [(True, 0), (False, 1 / 3)])
def test_interval_of_folds(tmp_path: Path, same_cut: bool, shared: float) -> None:
    figures = [0.7, 0.74, 0.75]
    for fold, acc in enumerate(figures):
        seed = 0 if same_cut else fold
        write(tmp_path / str(fold), acc, seed, name="kfold", folds=3, fold=fold)
    (row,) = table(read_runs([tmp_path]))
    half = t.ppf(0.975, 2) * statistics.stdev(figures) * (1 / 3 + shared) ** 0.5
    assert row["acc_high"] - row["acc"] == pytest.approx(half)


def test_formats(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.7, 0)
    write(tmp_path / "b", 0.8, 1)
    rows = table(read_runs([tmp_path]))
    (line,) = csv.DictReader(io.StringIO(render(rows, "csv")))
    assert float(line["acc"]) == pytest.approx(0.75)
    assert json.loads(render(rows, "json")) == rows
    head, rule, body = render(rows, "markdown").splitlines()
    assert head.count("|") == rule.count("|") == body.count("|")
    assert "75.0 ± " in body
    assert "75.0 ± " in render(rows, None)


def test_broken_and_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="no finished run"):
        read_runs([tmp_path])
    write(tmp_path / "a", 0.7)
    (tmp_path / "a/metrics.json").rename(tmp_path / "metrics.json")
    (tmp_path / "a/metrics.json").write_text("{")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/metrics.json").write_text("{}")
    assert len(read_runs([tmp_path])) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "it lacks" in said[1]


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path / "absent")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"hwr-runs: no folder {tmp_path / 'absent'}\n"
