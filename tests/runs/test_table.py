"""Test hwr-runs: rows, names, formats, options."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hwr.cli.runs import main
from hwr.errors import RunError, UserError
from hwr.runs.records import mark_failed
from hwr.runs.rendering import render
from hwr.runs.table import read_runs, select, table


@pytest.fixture
def hwr_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that calls the command, and returns what it prints."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["hwr-runs", str(tmp_path), *arguments])
        main()
        return capsys.readouterr().out

    return call


def test_rows_by_setting(tmp_path: Path, write_run: Any) -> None:
    for seed, acc in enumerate([0.7, 0.74, 0.75]):
        write_run(str(seed), acc, seed)
    write_run("long", 0.8, epochs=60)
    rows = table(read_runs([tmp_path, tmp_path / "long"]))
    assert rows["setting"].tolist() == ["trainer.max_epochs=60", "trainer.max_epochs=30"]
    assert rows["runs"].tolist() == [1, 3]
    assert rows["acc"].tolist() == pytest.approx([0.8, 0.73])
    assert rows["acc_low"].isna().tolist() == [True, False]


def test_a_group_has_as_few_keys_as_tell_it_apart(tmp_path: Path, write_run: Any) -> None:
    augment = {"_target_": "hwr.data.Augment", "rotate": 12, "stroke_width": 0.7}
    none = augment | {"rotate": 0, "stroke_width": 0.0}
    write_run("0", 0.7, augment=augment)
    write_run("1", 0.8, augment=none)
    settings = table(read_runs([tmp_path]))["setting"]
    assert settings.tolist() == ["augment.rotate=0", "augment.rotate=12"]
    write_run("2", 0.9, augment=augment | {"stroke_width": 0.0})
    settings = table(read_runs([tmp_path]))["setting"]
    assert settings[0] == "augment.rotate=12 augment.stroke_width=0.0"
    optimizers = [{"_target_": "torch.optim.SGD", "lr": 0.123456789}, {"_target_": "x.AdamW"}]
    for number, optimizer in enumerate(optimizers):
        write_run(f"o{number}", 0.1, model="mlp", optimizer=optimizer)
    rows = table(select(read_runs([tmp_path]), ["model=mlp"]))
    assert set(rows["setting"]) == {"optimizer=SGD", "optimizer=AdamW"}
    write_run("3", 0.3, model="lr", trainer={"max_epochs": 30})
    write_run("4", 0.2, model="lr", trainer={"max_epochs": 30, "gradient_clip_val": 0.123456789})
    settings = table(select(read_runs([tmp_path]), ["model=lr"]))["setting"]
    assert settings.tolist() == ["-", "trainer.gradient_clip_val=0.1235"]


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ({"_target_": "hwr.data.KFoldSplit"}, "kfold"),
        ({"_target_": "hwr.data.HeldOutWritersSplit"}, "lockbox"),
        ({"_target_": "mine.X", "name": "y"}, "y"),
        ({}, "-"),
    ],
)
def test_names_of_unfinished_runs(
    tmp_path: Path, write_unfinished: Any, node: dict[str, str], name: str
) -> None:
    write_unfinished("run", json.dumps({"data": {"_target_": "pkg.MyDataModule"}, "split": node}))
    row = table(read_runs([tmp_path])).iloc[0]
    assert (row["model"], row["data"], row["split"]) == ("forest", "my", name)


def test_best_is_by_validation_never_by_test(tmp_path: Path, write_run: Any) -> None:
    write_run("a", 0.9, epochs=1, metrics={"val/acc": 0.7})
    write_run("b", 0.8, epochs=2, metrics={"val/acc": 0.75})
    write_run("c", 0.95, epochs=3, metrics={"val/acc": 0.99}, cut={"val_is_test": True})
    rows = table(read_runs([tmp_path]))
    assert rows[rows["best"]]["acc"].tolist() == [0.8]
    assert rows["val_acc"].isna().tolist() == [True, False, False]
    assert "75.0 *" in render(rows, None)


def test_only_finished_runs_are_ranked_the_others_listed(
    tmp_path: Path, write_run: Any, write_unfinished: Any, hwr_runs: Callable[..., str]
) -> None:
    config = write_run("0", 0.7, metrics={"val/acc": 0.7})
    write_run("1", None, 1, metrics={"partial": True, "val/acc": 0.8})
    mark_failed(tmp_path / "2", config, ValueError("no\nway"))
    write_unfinished("3", json.dumps(config | {"split": config["split"] | {"seed": "${seed}"}}))
    row = table(read_runs([tmp_path])).iloc[0]
    assert [row[name] for name in ("runs", "partial", "failed", "unfinished")] == [1] * 4
    assert (row["acc"], row["val_acc"]) == (0.7, 0.7)
    lines = hwr_runs().splitlines()
    assert "1 (1 partial, 1 failed, 1 unfinished)" in lines[1]
    assert lines[-3:] == [
        f"partial: {tmp_path / '1'}",
        f"failed: {tmp_path / '2'}: ValueError: no way",
        f"unfinished: {tmp_path / '3'}",
    ]


def test_filter_and_sort(tmp_path: Path, write_run: Any) -> None:
    for number, epochs in enumerate([1, 1, 2]):
        optimizer = {"_target_": "torch.optim.AdamW"}
        write_run(str(number), 0.7 + number / 10, number, epochs=epochs, o=optimizer)
    runs = read_runs([tmp_path])
    conditions = ["trainer.max_epochs=1.0", "model=cnn", "split=stratified", "o=adamw"]
    assert len(select(runs, conditions)) == 2
    settings = table(runs, "setting")["setting"]
    assert settings.tolist() == ["trainer.max_epochs=1", "trainer.max_epochs=2"]
    assert table(runs, "runs")["runs"].tolist() == [2, 1]
    for condition, words in (
        ("model", "must be KEY=VALUE"),
        ("modle=cnn", "no run matches modle=cnn"),
        ("model=mlp", "no run matches model=mlp"),
    ):
        with pytest.raises(RunError, match=words):
            select(runs, [condition])
    with pytest.raises(RunError, match="no column nope"):
        table(runs, "nope")


def test_formats(write_run: Any, hwr_runs: Callable[..., str]) -> None:
    write_run("a", 0.7, 0, model="\x1b[31mX|\n")
    write_run("b", 0.8, 1, model="\x1b[31mX|\n")
    (line,) = csv.DictReader(io.StringIO(hwr_runs("--csv")))
    (record,) = json.loads(hwr_runs("--json"))
    assert list(line) == list(record)
    assert float(line["acc"]) == pytest.approx(record["acc"])
    assert (record["acc"], record["parameters"], line["parameters"]) == (0.75, 1234567, "1234567")
    head, rule, body = hwr_runs("--markdown").splitlines()
    assert head.count("|") == rule.count("|") == body.replace(r"\|", "").count("|")
    assert "75.0 ± " in body
    text = hwr_runs()
    assert "75.0 ± " in text
    assert "\x1b" not in text + body + line["model"] + record["model"]


def test_nan_is_no_mean(tmp_path: Path, write_run: Any) -> None:
    write_run("a", 0.7, 0, metrics={"test/loss": float("nan")})
    write_run("b", 0.8, 1, metrics={"test/loss": 0.5})
    row = table(read_runs([tmp_path])).iloc[0]
    assert (row["acc"], str(row["loss"])) == (0.75, "nan")


def test_compare(write_run: Any, hwr_runs: Callable[..., str]) -> None:
    for seed in range(3):
        write_run(f"cnn{seed}", 0.7 + seed / 100, seed)
        write_run(f"mlp{seed}", 0.6 + seed / 50, seed, model="mlp")
    arguments = ("--compare", "model=cnn,trainer.max_epochs=30", "model=mlp")
    assert json.loads(hwr_runs(*arguments, "--json"))["difference"] == pytest.approx(0.09)
    lines = hwr_runs(*arguments).splitlines()
    assert lines[:2] == ["first: model=cnn,trainer.max_epochs=30", "second: model=mlp"]
    assert "difference 0.09" in [" ".join(line.split()) for line in lines]


def test_plot(tmp_path: Path, write_run: Any, hwr_runs: Callable[..., str]) -> None:
    for seed in range(3):
        write_run(f"a{seed}", 0.7 + seed / 100, seed, metrics={"val/acc": 0.5}, a="$x$")
    write_run("b", 0.8, model="mlp", metrics={"val/acc": 0.6})
    hwr_runs("--plot", str(tmp_path / "plot.png"))
    with Image.open(tmp_path / "plot.png") as image:
        assert (image.format, image.width) == ("PNG", 1200)
    assert [path.name for path in tmp_path.glob("*plot*")] == ["plot.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "no folder absent"),
        (["--plot", "."], "is not a file"),
        (["--filter", "model=mlp", "--plot", "x.png"], "no finished run to plot"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    write_run: Any,
    hwr_runs: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    write_run("a", 0.8)
    write_run("b", None, model="mlp", metrics={"partial": True})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        hwr_runs(*arguments)
