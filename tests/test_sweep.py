"""Sweeps on engines that exist: Optuna, joblib, submitit's local executor, Lightning's DDP."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from test_cli import TRAIN, run, sentence

from hwr.batches import Batches
from hwr.config import compose, composed, hydra_ready
from hwr.sweep import check

TINY = ["data=synthetic", "data.writers=4", "model=mlp", "trainer.max_epochs=1", "split.val_size=0"]


def figures(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("seeds", "seed", list(range(10))),
        ("lr", "model.lr", [0.0001, 0.0002, 0.0005, 0.001, 0.002]),
        ("kfold", "split.fold", list(range(5))),
        ("writers", "split.fold", list(range(5))),
    ],
)
def test_grids(tmp_path: Path, name: str, key: str, values: list[float]) -> None:
    sweep = check("train", [f"sweep={name}", f"hydra.sweep.dir={tmp_path}"], single=False)
    assert sweep is not None
    assert sweep.runs == [tmp_path / str(number) for number in range(len(values))]
    with hydra_ready():
        params = composed([f"sweep={name}"], with_hydra=True).hydra.sweeper.params
    assert key in params


def test_the_last_word_counts_and_folders_may_have_names(tmp_path: Path) -> None:
    words = ["sweep=seeds", "seed=3,4", "model=mlp,cnn", f"hydra.sweep.dir={tmp_path}"]
    sweep = check("train", [*words, "hydra.sweep.subdir=${model.name}_${seed}"], single=False)
    assert sweep is not None
    names = [folder.name for folder in sweep.runs]
    assert names == ["mlp_3", "cnn_3", "mlp_4", "cnn_4"]


def test_jobs_may_differ_in_an_added_setting(tmp_path: Path) -> None:
    words = ["+trainer.max_steps=1,2", f"hydra.sweep.dir={tmp_path}"]
    sweep = check("train", words, single=False)
    assert sweep is not None
    assert len(sweep.runs) == 2


def test_launchers_compose() -> None:
    with hydra_ready():
        for name, threads in (("local", "1"), ("slurm", "2")):
            hydra = composed([f"hydra/launcher={name}"], with_hydra=True).hydra
            assert threads == hydra.job.env_set.OMP_NUM_THREADS
    assert compose(["trainer=ddp"]).trainer.devices == 2


def test_search_goes_on(tmp_path: Path) -> None:
    """A search that was stopped after three trials goes on to five, with trials of its own."""
    settings = "data=synthetic data.writers=4 augment.drawn=2 split.val_size=0.34"
    search = ["-m", *settings.split(), "trainer.max_epochs=1", "sweep=tpe", "hydra.sweep.dir=sweep"]
    done = run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "sweep"
    assert {file.name for file in folder.iterdir()} == {
        *("0", "1", "search.db", "search.json", "optimization_results.yaml")
    }
    done = run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stderr
    found = [figures(folder / name)["config"]["model"] for name in ("0", "1", "after_2/0")]  # type: ignore[index]
    assert len({model["lr"] for model in found}) == 3
    best = max(figures(folder / name)["val/acc"] for name in ("0", "1", "after_2/0"))
    assert f"best_value: {best}" in (folder / "optimization_results.yaml").read_text()
    sentence(run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=3"), "has its 3 trials already")
    other = run(tmp_path, TRAIN, *search, "trainer.max_epochs=2")
    sentence(other, "holds a search with config.trainer.max_epochs=1, not 2")


def test_a_failed_trial_does_not_end_the_search(tmp_path: Path) -> None:
    search = "-m data=synthetic data.writers=4 sweep=tpe trainer.max_epochs=1 split.val_size=0.01"
    done = run(tmp_path, TRAIN, *search.split(), "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s")
    assert done.returncode == 1
    assert "hwr-train: job 1: split.val_size=0.01" in done.stderr
    assert "2 jobs failed: 0, 1" in done.stderr


def test_joblib_runs_four_jobs(tmp_path: Path) -> None:
    words = "seed=0,1,2,3 hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir=sweep"
    done = run(tmp_path, TRAIN, "-m", *TINY, *words.split(), "split.test_size=0.25")
    assert done.returncode == 0, done.stderr
    assert [figures(tmp_path / "sweep" / str(seed))["seed"] for seed in range(4)] == [0, 1, 2, 3]


def test_submitit_runs_four_jobs_and_outlives_a_kill(tmp_path: Path) -> None:
    words = "seed=0,1,2,3 hydra/launcher=local hydra.sweep.dir=sweep trainer.max_epochs=200"
    command = [str(TRAIN), "-m", *TINY, *words.split()]
    victim = tmp_path / "sweep/2"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (victim / "checkpoints/last.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        (events,) = victim.glob("events.out.tfevents.*")  # TIME.HOST.PROCESS.0
        os.kill(int(events.name.split(".")[-2]), signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "1 job did not finish: 2; the same line with hydra.sweep.dir=sweep" in said
    assert [figures(tmp_path / "sweep" / str(seed))["seed"] for seed in (0, 1, 3)] == [0, 1, 3]
    again = run(tmp_path, TRAIN, *command[1:])
    assert again.returncode == 0, again.stderr
    assert figures(victim)["epochs"] == 200
    assert figures(victim)["config"]["ckpt"]  # type: ignore[index]


@pytest.mark.parametrize(("count", "taken"), [(100, 100), (101, 100)])
def test_processes_share_every_batch(count: int, taken: int) -> None:
    """In training equal shares, and nothing twice; in order, every picture once."""
    image, label = torch.zeros(count, 1, 1, 1), torch.arange(count)
    shares = [Batches(image, label, 32, 5, rank, 2) for rank in range(2)]
    alone = [labels for _, labels in Batches(image, label, 32, 5)]
    assert len(shares[0]) == len(shares[1]) == len(alone)
    seen: list[int] = []
    for whole, (_, one), (_, other) in zip(alone, *shares, strict=True):
        assert len(one) == len(other)
        assert {*one.tolist(), *other.tolist()} <= set(whole.tolist())
        seen += [*one.tolist(), *other.tolist()]
    assert len(seen) == len(set(seen)) == taken
    in_order = [Batches(image, label, 32, None, rank, 2) for rank in range(2)]
    tested = [int(one) for share in in_order for _, labels in share for one in labels]
    assert sorted(tested) == list(range(count))


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Without dropout they differ by rounding; one run folder, every picture tested once."""
    words = "data=synthetic data.writers=8 split.val_size=0.5 model=mlp trainer.max_epochs=3"
    settings = [*words.split(), "monitor=val/loss", "trainer.accelerator=cpu"]
    for name, more in (("one", []), ("two", ["trainer=ddp"])):
        done = run(tmp_path, TRAIN, *settings, *more, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert len(list((tmp_path / "two").glob("events*"))) == 1
    one, two = (figures(tmp_path / name) for name in ("one", "two"))
    for name in ("train/loss", "val/loss", "test/loss", "test/top3"):
        assert one[name] == pytest.approx(two[name], abs=2e-4)
    assert one["reported_epoch"] == two["reported_epoch"] == 3
    with (tmp_path / "two/predictions.csv").open(encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert len(files) == len(set(files)) == two["test_pictures"]
