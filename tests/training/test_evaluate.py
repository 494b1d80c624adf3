"""hwr-evaluate: a checkpoint on another dataset."""

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwr.config.compose import compose
from hwr.errors import ConfigError, DataError, RunError
from hwr.reporting import metrics
from hwr.training.evaluate import evaluate
from hwr.training.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = ["data=synthetic", "data.writers=6", "model=mlp", "trainer.max_epochs=3"]
    train(compose([*settings, "split.val_size=0", "trainer.accelerator=cpu"]), folder)
    return folder


def test_another_set(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["data=synthetic", "data.writers=4", "data.seed=1", f"ckpt_path={trained}"]
    every = evaluate(compose(settings, "evaluate"), tmp_path / "all")
    assert capsys.readouterr().err == ""
    assert every["images"] == 4 * 62
    part = evaluate(compose([*settings, "writers=1\\,3-4"], "evaluate"), tmp_path / "part")
    assert part["images"] == 3 * 62
    assert part["acc_low"] - 1e-6 <= part["acc"] <= part["acc_high"] + 1e-6
    with (tmp_path / "part/predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 62
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(
        part["acc"]
    )
    assert not any("-002.png" in row["file"] for row in rows)
    assert json.loads((tmp_path / "part/evaluation.json").read_text()) == part
    assert part["config"]["writers"] == "1,3-4"
    assert not (tmp_path / "part/config.yaml").exists()  # Hydra writes its own


def test_its_own_set_is_no_test(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["data=synthetic", "data.writers=6", f"ckpt_path={trained}/checkpoints/last.ckpt"]
    evaluate(compose(settings, "evaluate"), tmp_path)
    warning = capsys.readouterr().err
    assert "trained on images of this very dataset (split=stratified)" in warning


def test_mistakes(trained: Path, tmp_path: Path) -> None:
    settings = ["data=synthetic", "data.writers=2"]
    with pytest.raises(RunError, match="no run folder or file"):
        evaluate(compose([*settings, f"ckpt_path={tmp_path / 'absent'}"], "evaluate"), tmp_path)
    with pytest.raises(RunError, match=r"holds none of checkpoints"):
        evaluate(compose([*settings, f"ckpt_path={tmp_path}"], "evaluate"), tmp_path)
    with pytest.raises(DataError, match="no image is by writers=7"):
        evaluate(compose([*settings, f"ckpt_path={trained}", "writers=7"], "evaluate"), tmp_path)
    with pytest.raises(ConfigError, match="writers=a-b must be numbers and ranges"):
        compose([*settings, "ckpt_path=x", "writers=a-b"], "evaluate")
    with pytest.raises(ConfigError, match="ckpt_path"):
        compose(settings, "evaluate")


def test_nothing_is_written_over(trained: Path, tmp_path: Path) -> None:
    settings = compose(["data=synthetic", "data.writers=2", f"ckpt_path={trained}"], "evaluate")
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
    correct = (random.random(2000) < np.repeat(random.beta(8, 2, 40), 50)).astype(float)
    low, high = metrics.bootstrap(correct, writer)
    by_writer = correct.reshape(40, 50).mean(axis=1)
    half = 1.96 * by_writer.std(ddof=1) / 40**0.5
    assert (low, high) == pytest.approx((correct.mean() - half, correct.mean() + half), abs=0.01)
    assert metrics.bootstrap(np.ones(5), np.arange(5)) == (1, 1)


def test_writer_context(tmp_path: Path, trained: Path) -> None:
    tiny = [
        "experiment=best",
        "augment.synthetic_writers=2",
        "callbacks=light",
        "trainer.max_epochs=1",
    ]
    train(compose(["data=synthetic", "data.writers=4", *tiny]), tmp_path / "run")
    settings = ["data=synthetic", "data.writers=2", "data.seed=1", "context=writer"]
    found = evaluate(
        compose([*settings, f"ckpt_path={tmp_path}/run"], "evaluate"), tmp_path / "read"
    )
    assert found["acc"] == pytest.approx(found["acc_writer"])
    assert {"acc_writer_1", "acc_writer_20", "acc_onecase"} <= found.keys()
    with pytest.raises(DataError, match="context=writer needs a checkpoint of model=glyphnet"):
        evaluate(compose([*settings, f"ckpt_path={trained}"], "evaluate"), tmp_path / "mlp")
    with pytest.raises(ConfigError, match="context=page must be"):
        compose([*settings, "ckpt_path=x", "context=page"], "evaluate")


def test_a_users_own_model_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evaluated_pkg.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own: Any = importlib.import_module("evaluated_pkg")
    node = {"_target_": "evaluated_pkg.Net", "num_classes": 2}
    card = {"height": 6, "width": 8, "channels": 3, "preprocessing": "notebook", "frame": None}
    saved = {
        "state_dict": {f"model.{k}": v for k, v in own.Net(2).state_dict().items()},
        "hwr": {
            **{"model": node, "state_dict_prefix": "model."},
            **{"charset": ["a", "b"], "about": {}, **card},
        },
    }
    torch.save(saved, tmp_path / "own.ckpt")
    config = compose(["data=synthetic", f"ckpt_path={tmp_path}/own.ckpt"], "evaluate")
    with pytest.raises(RunError, match=r'trust=\["evaluated_pkg"\]'):
        evaluate(config, tmp_path / "out")
    config.trust = ["evaluated_pkg"]
    config.data = {"_target_": "evaluated_pkg.Letters", "size": [6, 8]}
    found = evaluate(config, tmp_path / "out")
    assert found["images"] == 10
    assert found["data"] == "Letters"
    config.data.size = [5, 8]
    with pytest.raises(DataError, match=r"have shape \(3, 5, 8\), but the model takes \(3, 6, 8\)"):
        evaluate(config, tmp_path / "other")


OWN = """
import torch
from torch import nn
from torch.utils.data import Dataset

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, num_classes))

    def forward(self, image):
        return self.layers(image)

class Letters(Dataset):
    def __init__(self, size):
        self.size = tuple(size)

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.full((3, *self.size), index / 10), "ab"[index % 2]
"""
