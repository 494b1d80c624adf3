"""Test hwr-runs: groups, intervals, formats, broken folders."""

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

from hwr.errors import RunError
from hwr.runs.comparison import compare, sentences
from hwr.runs.records import difference, mark_failed, read, substituted
from hwr.runs.rendering import plot, render
from hwr.runs.table import main, read_runs, select, table

SPLITS = {"stratified": "StratifiedSplit", "kfold": "KFoldSplit"}


def write(
    folder: Path,
    acc: float,
    seed: int = 0,
    epochs: int = 30,
    val: float | None = None,
    model: str = "cnn",
    split: str = "stratified",
    settings: dict[str, Any] | None = None,
    **cut: Any,
) -> dict[str, Any]:
    """Write a finished run, and return its settings."""
    names = ("acc_nocase", "top3", "loss", "auroc", "ap")
    cut = {"_target_": f"hwr.data.{SPLITS[split]}", "seed": seed, **cut}
    config = {
        "seed": seed,
        "model": {"_target_": f"hwr.models.{model.upper()}"},
        "data": {"_target_": "hwr.data.FolderDataset", "name": "english", "root": str(folder)},
        "split": cut,
        "trainer": {"max_epochs": epochs},
        **(settings or {}),
    }
    metrics = {
        "model": model,
        "data": "english",
        **({} if val is None else {"val/acc": val}),
        "split": split,
        "partial": False,
        "test/acc": acc,
        **{f"test/{name}": 0.5 for name in names},
        "train/acc": 0.9,
        "fit_seconds": 2.0,
        "parameters": 10,
        "train_images": 300,
        "test_images": 100,
        "config": config,
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return config


def unfinished(folder: Path, text: str) -> None:
    """Write what Hydra leaves of a run that was cut off."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text(text)


def test_rows_by_setting(tmp_path: Path) -> None:
    for seed, acc in enumerate([0.7, 0.74, 0.75]):
        write(tmp_path / str(seed), acc, seed)
    write(tmp_path / "long", 0.8, epochs=60)
    long, short = table(read_runs([tmp_path, tmp_path / "long"]))
    assert (long["setting"], long["runs"], long["acc_low"]) == ("trainer.max_epochs=60", 1, None)
    assert (short["setting"], short["runs"]) == ("trainer.max_epochs=30", 3)
    assert short["acc"] == pytest.approx(0.73)


def test_a_group_has_as_few_keys_as_tell_it_apart(tmp_path: Path) -> None:
    augment = {"_target_": "hwr.data.Augment", "rotate": 12, "stroke_width": 0.7}
    none = augment | {"rotate": 0, "stroke_width": 0.0}
    write(tmp_path / "0", 0.7, settings={"augment": augment})
    write(tmp_path / "1", 0.8, settings={"augment": none})
    assert [row["setting"] for row in table(read_runs([tmp_path]))] == [
        "augment.rotate=0",
        "augment.rotate=12",
    ]
    write(tmp_path / "2", 0.9, settings={"augment": augment | {"stroke_width": 0.0}})
    assert table(read_runs([tmp_path]))[0]["setting"] == (
        "augment.rotate=12 augment.stroke_width=0.0"
    )
    optimizers = [{"_target_": "torch.optim.SGD", "lr": 1}, {"_target_": "torch.optim.AdamW"}]
    for number, optimizer in enumerate(optimizers):
        write(tmp_path / f"o{number}", 0.1, model="mlp", settings={"optimizer": optimizer})
    rows = table(select(read_runs([tmp_path]), ["model=mlp"]))
    assert {row["setting"] for row in rows} == {"optimizer=SGD", "optimizer=AdamW"}


def test_a_key_that_only_one_run_has_makes_them_different(tmp_path: Path) -> None:
    write(tmp_path / "0", 0.7)
    write(tmp_path / "1", 0.8, settings={"trainer": {"max_epochs": 30, "gradient_clip_val": 1}})
    runs = read_runs([tmp_path])
    assert [row["setting"] for row in table(runs)] == ["trainer.gradient_clip_val=1", "-"]
    with pytest.raises(RunError, match=r"differ in trainer\.gradient_clip_val \(1, unset\)"):
        compare(runs, runs)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"ckpt_path": None}, {"ckpt_path": "s/0/checkpoints/last.ckpt"}, True),
        ({"output_dir": "a"}, {"output_dir": "b"}, True),
        ({"callbacks": {"a": {"x": 1}}}, {}, True),
        ({"logger": {"a": {"x": 1}}}, {"logger": {"a": {"x": 2}}}, True),
        ({"n_jobs": 1}, {"n_jobs": 2}, True),
        ({"init_from": "a/pre/checkpoints/last.ckpt"}, {"init_from": "/b/pre"}, True),
        ({"init_from": "a/pre"}, {"init_from": "a/other"}, False),
        ({"init_from": None}, {"init_from": "a/other"}, False),
        ({"label_smoothing": 0.1}, {}, False),
        ({"added": None}, {}, False),
    ],
)
def test_what_makes_settings_equal(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    first = write(tmp_path / "0", 0.7, settings=one)
    second = write(tmp_path / "1", 0.7, settings=other)
    assert (difference(first, second) is None) == same
    assert len(table(read_runs([tmp_path]))) == (1 if same else 2)


def test_partial_runs_are_listed_and_never_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "0", 0.7, 0, val=0.7)
    write(tmp_path / "1", 0.8, 1, val=0.8)
    file = tmp_path / "1/metrics.json"
    metrics = json.loads(file.read_text()) | {"partial": True}
    del metrics["test/acc"]
    file.write_text(json.dumps(metrics))
    (row,) = table(read_runs([tmp_path]))
    assert (row["runs"], row["partial"], row["acc"], row["val_acc"]) == (1, 1, 0.7, 0.7)
    monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path)])
    main()
    assert capsys.readouterr().out.splitlines()[-1] == f"partial: {tmp_path / '1'}"
    monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path / "1")])
    main()
    assert capsys.readouterr().out.splitlines()[-1] == f"partial: {tmp_path / '1'}"


def test_names_of_unfinished_runs(tmp_path: Path) -> None:
    for number, (node, name) in enumerate(
        [
            ({"_target_": "hwr.data.StratifiedSplit"}, "stratified"),
            ({"_target_": "hwr.data.KFoldSplit"}, "kfold"),
            ({"_target_": "hwr.data.WriterSplit"}, "writer"),
            ({"_target_": "hwr.data.HeldOutWritersSplit"}, "lockbox"),
            ({"_target_": "mine.Dataset"}, "dataset"),
            ({"_target_": "mine.X", "name": "y"}, "y"),
            ({}, "-"),
        ]
    ):
        unfinished(tmp_path / str(number), json.dumps({"split": node, "seed": number}))
        (row,) = table(read_runs([tmp_path / str(number)]))
        assert (row["model"], row["split"]) == ("forest", name)
    text = "model: {_target_: pkg.ResNet}\ndata: {_target_: pkg.MyDataModule}\nsplit: {}\n"
    unfinished(tmp_path / "own", text)
    (row,) = table(read_runs([tmp_path / "own"]))
    assert (row["model"], row["data"]) == ("resnet", "my")


def test_an_evaluation_is_no_run(tmp_path: Path) -> None:
    write(tmp_path / "0", 0.7)
    unfinished(tmp_path / "eval", "data: {name: english}\nckpt_path: ../0\n")
    assert len(read_runs([tmp_path])) == 1
    (tmp_path / "eval/evaluation.json").write_text('{"acc": 0.5, "config": {"ckpt_path": "0"}}')
    assert len(read_runs([tmp_path])) == 1
    evaluation = read(tmp_path / "eval")
    assert evaluation is not None
    assert difference(evaluation.config, {"ckpt_path": "1"}) == "ckpt_path=0, not 1"


def test_interval_of_overlapping_splits(tmp_path: Path) -> None:
    accuracies = [0.7, 0.74, 0.75]
    for seed, acc in enumerate(accuracies):
        write(tmp_path / str(seed), acc, seed)
    (row,) = table(read_runs([tmp_path]))
    spread, quantile = statistics.stdev(accuracies), t.ppf(0.975, 2)
    half = quantile * spread * (1 / 3 + 100 / 300) ** 0.5
    assert row["acc_high"] - row["acc"] == pytest.approx(half)
    assert row["one_run_high"] - row["acc"] == pytest.approx(quantile * spread * (4 / 3) ** 0.5)


@pytest.mark.parametrize(("same_cut", "shared"), [(True, 0), (False, 1 / 3)])
def test_interval_of_folds(tmp_path: Path, same_cut: bool, shared: float) -> None:
    accuracies = [0.7, 0.74, 0.75]
    for fold, acc in enumerate(accuracies):
        seed = 0 if same_cut else fold
        write(tmp_path / str(fold), acc, seed, split="kfold", folds=3, fold=fold)
    (row,) = table(read_runs([tmp_path]))
    half = t.ppf(0.975, 2) * statistics.stdev(accuracies) * (1 / 3 + shared) ** 0.5
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


def guesses(folder: Path, files: range, correct: set[int]) -> None:
    """Write predictions, of which these are correct."""
    rows = "".join(f"{file},A,{'A' if file in correct else 'B'},0.5\n" for file in files)
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
    config = write(tmp_path / "0", 0.7, 0)
    mark_failed(tmp_path / "1", config, ValueError("no\nway"))
    unresolved = config | {"split": config["split"] | {"seed": "${seed}"}}
    for name in ("2", "10"):
        unfinished(tmp_path / name, json.dumps(unresolved))
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
    assert len(select(runs, ["trainer.max_epochs=1.0", "model=cnn", "split=stratified"])) == 2
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
    """Compare with the paired t of scipy, and McNemar's test by hand."""
    first, second = [0.7, 0.74, 0.78], [0.6, 0.66, 0.61]
    for fold, (one, other) in enumerate(zip(first, second, strict=True)):
        images = range(10 * fold, 10 * fold + 10)
        for model, acc, correct in (("cnn", one, set(images)), ("mlp", other, {10 * fold})):
            folder = tmp_path / f"{model}{fold}"
            write(folder, acc, 0, model=model, split="kfold", folds=3, fold=fold)
            guesses(folder, images, correct - {5})
    runs = read_runs([tmp_path])
    sides = select(runs, ["model=cnn"]), select(runs, ["model=mlp"])
    found = compare(*sides)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval(0.95)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["p"] == pytest.approx(test.pvalue)
    only = 30 - 3 - 1
    assert found["mcnemar"] == {
        **{"images": 30, "only_first": only, "only_second": 0},
        "p": pytest.approx(2 * 0.5**only),
    }
    assert "McNemar over 30 images" in sentences(found, ["a", "b"])
    guesses(tmp_path / "cnn1", range(10), set())  # tested twice now
    assert compare(*sides)["mcnemar"] is None


def test_comparison_of_several_settings(tmp_path: Path) -> None:
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
    with Image.open(tmp_path / "plot.png") as image:
        assert (image.format, image.width) == ("PNG", 1200)
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
        (tmp_path / str(number) / ".hydra").mkdir()
    started = time.perf_counter()
    rows = table(read_runs([tmp_path]))
    assert time.perf_counter() - started < 3
    assert len(rows) == 50


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 200_000, "it is nested too deeply"),
        ({"test/acc": "x"}, "its test/acc is not a finite number"),
        ({"val/acc": "x"}, "its val/acc is not a finite number"),
        ({"parameters": [1]}, "its parameters is not a finite number"),
        ({"test/acc": 10**400}, "its test/acc is not a finite number"),
        ({"test/acc": math.nan}, "its test/acc is not a finite number"),
        ({"test/acc": None}, "its test/acc is not a finite number"),
        ({"test/loss": -math.inf}, "its test/loss is not a finite number"),
        ({"parameters": math.nan}, "its parameters is not a finite number"),
        ({"parameters": math.inf}, "its parameters is not a finite number"),
        ({"test_images": "x"}, "its test_images is not a number of images"),
        ({"test_images": 0.5}, "its test_images is not a number of images"),
        ({"train_images": None}, "its train_images is not a number of images"),
        ({"train_images": 0}, "its train_images is not a number of images"),
        ({"config": {"split": "x"}}, "its split is no group of settings"),
        ({"config": [1]}, "it lacks config"),
    ],
)
def test_strange_metrics_are_left_out(
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
    unfinished(tmp_path / "b", content)
    unfinished(tmp_path / "c", "split: {seed: 1.0e-05, name: 'a${b'}")
    _, run = read_runs([tmp_path])
    assert run.config == {"split": {"seed": 1e-5, "name": "a${b"}}
    (said,) = capsys.readouterr().err.splitlines()
    assert why in said


def test_settings_of_a_stranger_are_not_resolved() -> None:
    config = {
        "seed": 3,
        "split": {"seed": "${seed}", "size": "${other.size}", "all": "${other}"},
        "other": {"size": 0.5, "list": [1], "copy": "${other.list}"},
        "root": "${oc.env:HOME}",
        "text": "x ${seed}",
        "absent": "${nowhere}",
    }
    assert substituted(config) == config | {
        "split": {"seed": 3, "size": 0.5, "all": "${other}"},
    }


def test_a_resumed_run_is_that_of_its_first_settings(tmp_path: Path) -> None:
    unfinished(tmp_path / "a", "split: {seed: 1}")
    unfinished(tmp_path / "a/.hydra/resume-1", "split: {seed: 2}")
    run = read(tmp_path / "a")
    assert run is not None
    assert run.config == {"split": {"seed": 1}}
    assert len(read_runs([tmp_path])) == 1


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
        (["--plot", "."], "is no file"),
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
