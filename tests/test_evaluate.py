"""hwr-evaluate: a checkpoint on another data set."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hwr import metrics
from hwr.config import compose
from hwr.errors import ConfigError, DataError, RunError
from hwr.evaluate import evaluate
from hwr.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = ["data=synthetic", "data.writers=6", "model=mlp", "trainer.max_epochs=3"]
    train(compose([*settings, "split.val_size=0", "trainer.accelerator=cpu"]), folder)
    return folder


def test_another_set(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["data=synthetic", "data.writers=4", "data.seed=1", f"ckpt={trained}"]
    whole = evaluate(compose(settings, "evaluate"), tmp_path / "all")
    assert capsys.readouterr().err == ""
    assert whole["pictures"] == 4 * 62
    part = evaluate(compose([*settings, "writers=1\\,3-4"], "evaluate"), tmp_path / "part")
    assert part["pictures"] == 3 * 62
    assert part["acc_low"] <= part["acc"] <= part["acc_high"]
    with (tmp_path / "part/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 62
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(
        part["acc"]
    )
    assert not any("-002.png" in row["file"] for row in rows)
    assert json.loads((tmp_path / "part/evaluation.json").read_text()) == part


def test_its_own_set_is_no_test(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["data=synthetic", "data.writers=6", f"ckpt={trained}/checkpoints/last.ckpt"]
    evaluate(compose(settings, "evaluate"), tmp_path)
    told = capsys.readouterr().err
    assert "of this very set (split=stratified); what it says of those is no test" in told


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    settings = ["data=synthetic", "data.writers=2"]
    with pytest.raises(RunError, match="no checkpoint"):
        evaluate(compose([*settings, f"ckpt={tmp_path / 'absent'}"], "evaluate"), tmp_path)
    with pytest.raises(RunError, match=r"holds no checkpoint"):
        evaluate(compose([*settings, f"ckpt={tmp_path}"], "evaluate"), tmp_path)
    with pytest.raises(DataError, match="no picture is by writers=7"):
        evaluate(compose([*settings, f"ckpt={trained}", "writers=7"], "evaluate"), tmp_path)
    with pytest.raises(ConfigError, match="writers=a-b must be numbers and ranges"):
        compose([*settings, "ckpt=x", "writers=a-b"], "evaluate")
    with pytest.raises(ConfigError, match="ckpt"):
        compose(settings, "evaluate")


def test_nothing_is_written_over(trained: Path, tmp_path: Path) -> None:
    settings = compose(["data=synthetic", "data.writers=2", f"ckpt={trained}"], "evaluate")
    before = (trained / "predictions.csv").read_bytes()
    with pytest.raises(RunError, match=f"{trained} holds a run already"):
        evaluate(settings, trained)
    assert (trained / "predictions.csv").read_bytes() == before
    evaluate(settings, tmp_path)
    with pytest.raises(RunError, match=f"{tmp_path} holds a run already"):
        evaluate(settings, tmp_path)


def test_bootstrap_over_writers() -> None:
    random = np.random.default_rng(0)
    writer = np.repeat(np.arange(40), 50)
    right = (random.random(2000) < np.repeat(random.beta(8, 2, 40), 50)).astype(float)
    low, high = metrics.bootstrap(right, writer)
    by_writer = right.reshape(40, 50).mean(axis=1)
    half = 1.96 * by_writer.std(ddof=1) / 40**0.5
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half), abs=0.01)
    assert metrics.bootstrap(np.ones(5), np.arange(5)) == (1, 1)


def test_each_writers_pictures_are_read_together(tmp_path: Path, trained: Path) -> None:
    tiny = ["experiment=best", "augment.drawn=2", "report=none", "trainer.max_epochs=1"]
    train(compose(["data=synthetic", "data.writers=4", *tiny]), tmp_path / "run")
    settings = ["data=synthetic", "data.writers=2", "data.seed=1", "context=writer"]
    found = evaluate(compose([*settings, f"ckpt={tmp_path}/run"], "evaluate"), tmp_path / "read")
    assert found["acc"] == pytest.approx(found["acc_writer"])
    assert {"acc_writer_1", "acc_writer_20", "acc_onecase"} <= found.keys()
    with pytest.raises(DataError, match="context=writer needs a checkpoint of model=glyphnet"):
        evaluate(compose([*settings, f"ckpt={trained}"], "evaluate"), tmp_path / "mlp")
    with pytest.raises(ConfigError, match="context=page must be null or writer"):
        compose([*settings, "ckpt=x", "context=page"], "evaluate")
