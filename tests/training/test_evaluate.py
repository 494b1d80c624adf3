"""Test hwr-evaluate: a checkpoint on another dataset."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig
from PIL import ImageOps

import hwr
from hwr.config.compose import compose
from hwr.data.synthetic import CHARACTERS, draw_images
from hwr.errors import ConfigError, DataError, RunError
from hwr.reporting.metrics import bootstrap
from hwr.training.evaluate import evaluate


def config(*settings: str, writers: int = 2) -> DictConfig:
    return compose(["data=synthetic", f"data.writers={writers}", *settings], "evaluate")


def test_another_dataset(cnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["data.seed=1", f"ckpt_path={cnn_run}"]
    complete = evaluate(config(*settings, writers=4), tmp_path / "all")
    assert capsys.readouterr().err == ""
    assert complete["images"] == 4 * 62
    part = evaluate(config(*settings, "writers=1\\,3-4", writers=4), tmp_path / "part")
    assert part["images"] == 3 * 62
    assert part["acc_low"] - 1e-6 <= part["acc"] <= part["acc_high"] + 1e-6
    with (tmp_path / "part/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 62
    correct = np.mean([row["label"] == row["prediction"] for row in rows])
    assert correct == pytest.approx(part["acc"])
    assert not any("-002.png" in row["file"] for row in rows)
    assert json.loads((tmp_path / "part/evaluation.json").read_text()) == part
    assert part["config"]["writers"] == "1,3-4"


def test_its_own_dataset_is_no_test(
    cnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(config(f"ckpt_path={cnn_run}/checkpoints/last.ckpt", writers=4), tmp_path)
    warning = capsys.readouterr().err
    assert "trained on images of this very dataset (split=stratified)" in warning


def test_images_are_prepared_as_for_inference(cnn_run: Path, tmp_path: Path) -> None:
    images = [ImageOps.invert(image).resize((600, 450)) for image in draw_images(9, 0)]
    for number, image in enumerate(images):
        (tmp_path / f"set/{CHARACTERS[number]}").mkdir(parents=True)
        image.save(tmp_path / f"set/{CHARACTERS[number]}/{number:02d}.png")
    settings = ["data=folder", f"data.root={tmp_path}/set", f"ckpt_path={cnn_run}"]
    evaluate(compose(settings, "evaluate"), tmp_path / "out")
    predicted = [found.character for found in hwr.load(cnn_run).predict(images)]
    rows = pd.read_csv(tmp_path / "out/predictions.csv", dtype=str)
    assert (
        rows.sort_values("file", key=lambda file: file.str[-6:])["prediction"].tolist() == predicted
    )


def test_mistakes(cnn_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder or file"):
        evaluate(config(f"ckpt_path={tmp_path / 'absent'}"), tmp_path)
    with pytest.raises(RunError, match="holds none of checkpoints"):
        evaluate(config(f"ckpt_path={tmp_path}"), tmp_path)
    with pytest.raises(DataError, match="no image is by writers=7"):
        evaluate(config(f"ckpt_path={cnn_run}", "writers=7"), tmp_path)
    with pytest.raises(DataError, match="context=writer needs a checkpoint of model=glyphnet"):
        evaluate(config(f"ckpt_path={cnn_run}", "context=writer"), tmp_path)
    with pytest.raises(ConfigError, match="writers=a-b must be numbers and ranges"):
        config("ckpt_path=x", "writers=a-b")
    with pytest.raises(ConfigError, match="context=page must be"):
        config("ckpt_path=x", "context=page")
    with pytest.raises(ConfigError, match="ckpt_path"):
        config()


def test_nothing_is_written_over(cnn_run: Path) -> None:
    before = (cnn_run / "predictions.csv").read_bytes()
    with pytest.raises(RunError, match=f"{cnn_run} holds a run already"):
        evaluate(config(f"ckpt_path={cnn_run}"), cnn_run)
    assert (cnn_run / "predictions.csv").read_bytes() == before


def test_writer_context(glyphnet_run: Path, tmp_path: Path) -> None:
    settings = ["data.seed=1", "context=writer", f"ckpt_path={glyphnet_run}"]
    metrics = evaluate(config(*settings), tmp_path)
    assert metrics["acc"] == pytest.approx(metrics["acc_writer"])
    assert {"acc_writer_1", "acc_writer_20", "acc_onecase"} <= metrics.keys()


def test_bootstrap_over_writers() -> None:
    random = np.random.default_rng(0)
    writer = np.repeat(np.arange(40), 50)
    correct = (random.random(2000) < np.repeat(random.beta(8, 2, 40), 50)).astype(float)
    low, high = bootstrap(correct, writer)
    by_writer = correct.reshape(40, 50).mean(axis=1)
    half = 1.96 * by_writer.std(ddof=1) / 40**0.5
    assert (low, high) == pytest.approx((correct.mean() - half, correct.mean() + half), abs=0.01)
    assert bootstrap(np.ones(5), np.arange(5)) == (1, 1)
