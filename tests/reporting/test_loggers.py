"""Every logger of conf/logger gets settings, metrics and plots; W&B and MLflow run for real."""

import csv
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwr.config.compose import compose
from hwr.training.train import train

TINY = [
    *("data=synthetic", "data.writers=4", "split.val_size=0.34"),
    *("model=mlp", "trainer.max_epochs=1"),
]
PLOTS = {"confusion", "mistakes", "reliability", "curves"}


def test_csv_and_tensorboard(tmp_path: Path) -> None:
    own = tmp_path / "conf/logger/both.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [tensorboard, csv]\n")
    path, folder = f"hydra.searchpath=[file://{tmp_path}/conf]", tmp_path / "run"
    metrics = train(compose([*TINY, "logger=both", path]), folder)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {tag.rpartition("/")[2] for tag in events.Tags()["images"]} == {*PLOTS, "batch"}
    with (folder / "csv/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert metrics["test/acc"] in [float(row["test/acc"]) for row in rows if row["test/acc"]]
    assert any(row["train/loss"] for row in rows)
    settings = yaml.safe_load((folder / "csv/hparams.yaml").read_text())
    assert settings["optimizer.lr"] == 0.0005
    assert settings["model"] == "hwr.models.MLP"
    assert settings["monitor"] == "-"


def test_none(tmp_path: Path) -> None:
    train(compose([*TINY, "logger=none"]), tmp_path / "default")
    assert not list((tmp_path / "default").glob("events*"))
    assert {path.stem for path in (tmp_path / "default").glob("*.png")} == PLOTS
    train(compose([*TINY, "logger=none", "callbacks=light"]), tmp_path / "light")
    assert not list((tmp_path / "light").glob("*.png"))


def test_wandb(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    offline = ["logger=wandb", "logger.wandb.offline=true"]
    for seed in (0, 1):  # the second is a run of its own
        train(compose([*TINY, *offline, f"seed={seed}"]), tmp_path / str(seed))
        assert wandb.run is None
        (run,) = (tmp_path / str(seed)).glob("wandb/offline-run-*")
        (record,) = run.glob("*.wandb")
        wanted = (b"optimizer.lr", b"hwr.models.MLP", b"train/loss", b"val/acc", b"test/acc")
        for _ in range(300):  # W&B's own process writes the file after the run has ended
            if all(text in record.read_bytes() for text in wanted):
                break
            time.sleep(0.1)
        content = record.read_bytes()
        assert [text for text in wanted if text not in content] == []
        plots = {path.name.rsplit("_", 2)[0] for path in run.glob("files/media/images/test/*.png")}
        assert plots == PLOTS


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)  # artifacts go to mlruns/
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store := f"sqlite:///{tmp_path}/mlflow.db")
    metrics = train(compose([*TINY, "logger=mlflow"]), tmp_path / "run")
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("hwr").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.0005"
    assert run.data.params["model"] == "hwr.models.MLP"
    assert run.data.metrics["test/acc"] == pytest.approx(metrics["test/acc"])
    assert {"train/loss", "val/acc"} <= run.data.metrics.keys()
    names = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "images")}
    assert {name.partition("+")[0].rpartition("~")[2] for name in names} >= PLOTS
