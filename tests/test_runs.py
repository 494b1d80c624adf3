"""hwr-runs: grouping, intervals, formats, broken folders."""

import csv
import io
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scipy.stats import t

from hwr.comparison import compare, sentences
from hwr.errors import RunError
from hwr.folders import mark_failed
from hwr.rendering import plot, render
from hwr.runs import main, read_runs, select, table


def write(
    folder: Path,
    acc: float,
    seed: int = 0,
    epochs: int = 30,
    val: float | None = None,
    model: str = "cnn",
    augment: dict[str, Any] | None = None,
    **split: Any,
) -> None:
    """A finished run by hand."""
    names = ("acc_nocase", "top3", "loss", "auroc", "ap")
    metrics = {
        "model": model,
        "data": "english",
        **({} if val is None else {"val/acc": val}),
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
            "model": {"name": model},
            **({"augment": augment} if augment else {}),
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


def test_a_group_is_told_by_its_name(tmp_path: Path) -> None:
    hand = {"name": "hand", "rotate": 12, "pen": 0.7}
    write(tmp_path / "0", 0.7, augment=hand)
    write(tmp_path / "1", 0.8, augment={"name": "none", "rotate": 0, "pen": 0})
    assert [row["setting"] for row in table(read_runs([tmp_path]))] == [
        "augment=none",
        "augment=hand",
    ]
    write(tmp_path / "2", 0.9, augment=hand | {"pen": 0})
    assert table(read_runs([tmp_path]))[0]["setting"] == (
        "augment=hand augment.pen=0 augment.rotate=12"
    )


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
    with pytest.raises(RunError, match="no run below"):
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


def guesses(folder: Path, files: range, right: set[int]) -> None:
    """Predictions by hand: these of the pictures are read rightly."""
    rows = "".join(f"{file},A,{'A' if file in right else 'B'},0.5\n" for file in files)
    (folder / "predictions.csv").write_text(f"file,label,prediction,probability\n{rows}")


def test_best_is_by_validation_never_by_test(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.9, epochs=1, val=0.7)
    write(tmp_path / "b", 0.8, epochs=2, val=0.75)
    write(tmp_path / "c", 0.95, epochs=3, val=0.99, val_is_test=True)
    rows = {
        row["setting"].partition(" ")[2] or row["setting"]: row
        for row in table(read_runs([tmp_path]))
    }
    best = [row for row in rows.values() if row["best"]]
    assert [row["acc"] for row in best] == [0.8]
    assert "75.0 *" in render(list(rows.values()), None)
    tested = next(row for row in rows.values() if row["acc"] == 0.95)
    assert tested["val_acc"] is None


def test_failed_and_unfinished_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "0", 0.7, 0)
    config = json.loads((tmp_path / "0/metrics.json").read_text())["config"]
    mark_failed(tmp_path / "1", config, ValueError("no\nway"))
    (tmp_path / "2").mkdir()
    (tmp_path / "2/config.yaml").write_text(json.dumps(config))
    (tmp_path / "10").mkdir()
    (tmp_path / "10/config.yaml").write_text(json.dumps(config))
    (row,) = table(read_runs([tmp_path]))
    assert (row["runs"], row["failed"], row["unfinished"]) == (1, 1, 2)
    monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path)])
    main()
    said = capsys.readouterr().out
    assert "1 (1 failed,2 unfinished)" in said
    assert said.splitlines()[-3:] == [
        f"failed: {tmp_path / '1'}: ValueError: no way",
        f"unfinished: {tmp_path / '2'}",
        f"unfinished: {tmp_path / '10'}",
    ]


def test_filter_and_sort(tmp_path: Path) -> None:
    for number, epochs in enumerate([1, 1, 2]):
        write(tmp_path / str(number), 0.7 + number / 10, number, epochs)
    runs = read_runs([tmp_path])
    assert len(select(runs, ["trainer.max_epochs=1.0", "model=cnn"])) == 2
    one, two = table(runs, "setting")
    assert (one["setting"], two["setting"]) == ("trainer.max_epochs=1", "trainer.max_epochs=2")
    assert [row["runs"] for row in table(runs, "runs")] == [2, 1]
    for conditions, words in (
        (["model"], "must be KEY=VALUE"),
        (["modle=cnn"], "no run has a setting modle"),
        (["model=mlp"], "no run matches model=mlp"),
    ):
        with pytest.raises(RunError, match=words):
            select(runs, conditions)
    with pytest.raises(RunError, match="no column nope"):
        table(runs, "nope")


def test_comparison_over_overlapping_splits(tmp_path: Path) -> None:
    first, second = [0.7, 0.74, 0.75, 0.71], [0.6, 0.66, 0.61, 0.62]
    for seed, (one, other) in enumerate(zip(first, second, strict=True)):
        write(tmp_path / f"cnn{seed}", one, seed)
        write(tmp_path / f"mlp{seed}", other, seed, model="mlp")
    write(tmp_path / "alone", 0.1, 9)
    runs = read_runs([tmp_path])
    found = compare(select(runs, ["model=cnn"]), select(runs, ["model=mlp"]))
    difference = np.subtract(first, second)
    half = t.ppf(0.975, 3) * difference.std(ddof=1) * (1 / 4 + 100 / 300) ** 0.5
    assert found["splits"] == 4
    assert found["corrected"] is True
    assert found["difference"] == pytest.approx(difference.mean())
    assert found["high"] - found["difference"] == pytest.approx(half)
    assert found["mcnemar"] is None
    assert "corrected resampled t" in sentences(found, ["a", "b"])


def test_comparison_over_folds(tmp_path: Path) -> None:
    """A plain paired t as scipy has it, and McNemar's test by hand."""
    first, second = [0.7, 0.74, 0.78], [0.6, 0.66, 0.61]
    for fold, (one, other) in enumerate(zip(first, second, strict=True)):
        pictures = range(10 * fold, 10 * fold + 10)
        for model, acc, right in (("cnn", one, set(pictures)), ("mlp", other, {10 * fold})):
            folder = tmp_path / f"{model}{fold}"
            write(folder, acc, 0, model=model, name="kfold", folds=3, fold=fold)
            guesses(folder, pictures, right - {5})
    runs = read_runs([tmp_path])
    sides = select(runs, ["model=cnn"]), select(runs, ["model=mlp"])
    found = compare(*sides)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval(0.95)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["p"] == pytest.approx(test.pvalue)
    only = 30 - 3 - 1
    assert found["mcnemar"] == {
        **{"pictures": 30, "only_first": only, "only_second": 0},
        "p": pytest.approx(2 * 0.5**only),
    }
    assert "McNemar over 30 pictures" in sentences(found, ["a", "b"])
    guesses(tmp_path / "cnn1", range(10), set())  # tested twice now
    assert compare(*sides)["mcnemar"] is None


def test_comparison_of_what_is_no_setting(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.7, epochs=1)
    write(tmp_path / "b", 0.7, epochs=2)
    write(tmp_path / "c", 0.7, 5, model="mlp")
    runs = read_runs([tmp_path])
    cnn, mlp = select(runs, ["model=cnn"]), select(runs, ["model=mlp"])
    with pytest.raises(RunError, match=r"differ in trainer\.max_epochs \(1, 2\)"):
        compare(cnn, mlp)
    with pytest.raises(RunError, match="no split in common"):
        compare(cnn[:1], mlp)


def test_plot(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"a{seed}", 0.7 + seed / 100, seed)
    write(tmp_path / "b", 0.8, model="mlp")
    plot(table(read_runs([tmp_path])), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1200)
    assert [path.name for path in tmp_path.glob("*plot*")] == ["plot.png"]


def test_plot_of_nothing_finished(tmp_path: Path) -> None:
    mark_failed(tmp_path, {"split": {"name": "kfold"}}, RunError("so it is"))
    with pytest.raises(RunError, match="no finished run to plot"):
        plot(table(read_runs([tmp_path])), tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


def test_a_thousand_runs_in_three_seconds(tmp_path: Path) -> None:
    for number in range(1000):
        write(tmp_path / str(number), 0.7, number, epochs=number % 50)
        (tmp_path / str(number) / "checkpoints").mkdir()
    started = time.perf_counter()
    rows = table(read_runs([tmp_path]))
    assert time.perf_counter() - started < 3
    assert len(rows) == 50


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 200_000, "it is nested too deeply"),
        ({"test/acc": "x"}, "its test/acc is no number"),
        ({"val/acc": "x"}, "its val/acc is no number"),
        ({"parameters": [1]}, "its parameters is no number"),
        ({"test/acc": 10**400}, "its test/acc is no number"),
        ({"test/acc": math.nan}, "its test/acc is no number"),
        ({"test/acc": None}, "its test/acc is no number"),
        ({"test/loss": -math.inf}, "its test/loss is no number"),
        ({"parameters": math.nan}, "its parameters is no number"),
        ({"parameters": math.inf}, "its parameters is no number"),
        ({"test_pictures": "x"}, "its test_pictures is no number of pictures"),
        ({"test_pictures": 0.5}, "its test_pictures is no number of pictures"),
        ({"train_pictures": None}, "its train_pictures is no number of pictures"),
        ({"train_pictures": 0}, "its train_pictures is no number of pictures"),
        ({"config": {"split": "x"}}, "its split is no group of settings"),
        ({"config": [1]}, "it lacks config"),
    ],
)
def test_strange_figures_are_left_out(
    content: str | dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", 0.8)
    write(tmp_path / "b", 0.7)
    file = tmp_path / "b/metrics.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(file.read_text()) | content)
    file.write_text(content)
    assert [run.path.name for run in read_runs([tmp_path])] == ["a"]
    assert f"left out {tmp_path.resolve() / 'b'}: {why}" in capsys.readouterr().err


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOMB, "its config.yaml has aliases"),
        ("split: &a {b: *a}", "its config.yaml has aliases"),
        ("# " + "x" * 65_536, "its config.yaml has more than 65,536 bytes"),
        ("[" * 60_000, "it is nested too deeply"),
        ("- " * 30_000, "it is nested too deeply"),
        (f"split: {{seed: 0x{'f' * 60_000}}}", "Exceeds the limit"),
        ("split: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("[1]", "it holds no settings"),
    ],
)
def test_strange_settings_of_an_unfinished_run_are_left_out(
    content: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", 0.8)
    for name, text in (("b", content), ("c", "split: {seed: 1.0e-05, name: 'a${b'}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    _, whole = read_runs([tmp_path])
    assert whole.config == {"split": {"seed": 1e-5, "name": "a${b"}}
    (said,) = capsys.readouterr().err.splitlines()
    assert why in said


@pytest.mark.parametrize("split", [{}, {"fold": [1], "seed": [1]}])
def test_a_split_without_seed_or_with_a_strange_fold(split: dict[str, Any], tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, 0.8, seed=ord(name))
        file = tmp_path / name / "metrics.json"
        metrics = json.loads(file.read_text())
        metrics["config"]["split"] = split
        file.write_text(json.dumps(metrics))
    (row,) = table(read_runs([tmp_path]))
    assert (row["runs"], row["acc_low"]) == (2, 0.8)


@pytest.mark.parametrize("config", [[1], {"split": "x", "model": 5}])
def test_a_strange_failure_is_left_out(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", 0.8)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/failed.json").write_text(json.dumps({"error": "e", "config": config}))
    assert len(read_runs([tmp_path])) == 1
    assert "left out" in capsys.readouterr().err


def test_names_cannot_move_the_cursor_or_break_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", 0.8, model="\x1b[31mX|<b>\n<script>")
    rows = table(read_runs([tmp_path]))
    assert "\x1b" not in render(rows, None)
    assert "\x1b" in render(rows, "csv")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b" not in render(rows, "csv")
    head, rule, line = render(rows, "markdown").splitlines()
    assert "\\|&lt;b&gt;" in line
    assert "\x1b" not in line
    assert head.count("|") == rule.count("|") == line.replace("\\|", "").count("|")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x" * 300], "no folder xxx"),
        (["--plot", "."], "is no file that could be written"),
    ],
)
def test_odd_places(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "a", 0.8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
