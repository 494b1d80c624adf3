"""Test sweeps on the engines that exist: Optuna, joblib, submitit's local executor, and DDP."""

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from programs import FOREST, TINY, TINY_FOREST, TINY_MLP, TRAIN, expect_user_error, run

from hwr.config.compose import compose_unchecked, initialize_hydra
from hwr.errors import RunError
from hwr.runs import records, sweep


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def plan(folder: Path, *overrides: str) -> list[str]:
    """Plan a multirun as the callback does, and return the names of the run folders."""
    words = ["data=synthetic", "hydra.mode=MULTIRUN", f"hydra.sweep.dir={folder}", *overrides]
    with initialize_hydra():
        hydra: Any = GlobalHydra.instance().hydra
        config = hydra.compose_config("train", words, RunMode.MULTIRUN)
        return [str(path.relative_to(folder)) for path in sweep.plan(config, "train").runs]


NAMED = "sweep=seeds seed=3,4 model=mlp,cnn +trainer.max_steps=1 hydra.sweep.subdir="
NAMED += "${hydra.runtime.choices.model}_${seed}"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        *((f"sweep={name}", "01234") for name in ("lr", "kfold", "writers")),
        ("sweep=seeds", "0123456789"),
        (NAMED, ["mlp_3", "cnn_3", "mlp_4", "cnn_4"]),  # the last seed= counts
    ],
)
def test_grids(tmp_path: Path, words: str, names: Sequence[str]) -> None:
    assert plan(tmp_path, *words.split()) == list(names)


def test_many_jobs_are_not_checked_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(plan(tmp_path, "seed=range(21)")) == 21
    assert capsys.readouterr().err == "hwr-train: checking 21 jobs\n"


def test_jobs_are_compared_with_what_is_there(tmp_path: Path) -> None:
    """An unfinished run has Hydra's unresolved settings, a failed one its own record."""
    words = ["seed=3", "scheduler=plateau"]
    with initialize_hydra():
        config = compose_unchecked(["data=synthetic", *words])
    records.mark_failed(tmp_path / "0", {"seed": 4}, RunError("x"))
    with pytest.raises(RunError, match="holds a run with seed=4, not 3"):
        plan(tmp_path, *words)
    (tmp_path / "0/failed.json").unlink()
    (tmp_path / "0/.hydra").mkdir()
    file = tmp_path / "0/.hydra/config.yaml"
    file.write_text(OmegaConf.to_yaml(config))
    assert plan(tmp_path, *words, "callbacks=none", "logger=csv") == ["0"]
    for more, differs in (
        ("+trainer.max_steps=5", "trainer.max_steps=unset, not 5"),
        ("split.seed=5", r"split.seed=\$\{seed\}, not 5"),
    ):
        with pytest.raises(RunError, match=differs):
            plan(tmp_path, *words, more)
    file.write_text("[")
    with pytest.raises(RunError, match="can't be read"):
        plan(tmp_path, *words)


@pytest.mark.filterwarnings("ignore:Deprecated API features:Warning")  # Optuna's, of sqlalchemy
def test_a_search_for_a_low_loss(tmp_path: Path) -> None:
    words = ["sweep=tpe", "optimized_metric=val/loss", "hydra.sweeper.n_trials=3"]
    assert plan(tmp_path, *words) == ["0", "1", "2"]
    optuna = pytest.importorskip("optuna")
    study = optuna.load_study(study_name="hwr", storage=f"sqlite:///{tmp_path / 'search.db'}")
    assert study.direction.name == "MINIMIZE"


def test_config_dir_and_mode_reach_every_job(tmp_path: Path) -> None:
    (tmp_path / "conf/split").mkdir(parents=True)
    text = "_target_: hwr.data.KFoldSplit\nseed: 0\nfolds: 2\nfold: 0\nval_size: 0\n"
    (tmp_path / "conf/split/mine.yaml").write_text(text + "val_is_test: false\nwriters: null\n")
    words = ["--config-dir", "conf", *TINY_FOREST[:2], *TINY_FOREST[3:], "hydra.mode=MULTIRUN"]
    done = run(tmp_path, FOREST, *words, "split=mine", "split.fold=0,1", "hydra.sweep.dir=s")
    assert (done.returncode, done.stderr) == (0, "")
    assert metrics(tmp_path / "s/1")["config"]["split"]["fold"] == 1
    files = {path.name for path in (tmp_path / "s/1/.hydra").iterdir()}
    assert files == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    wrong = run(tmp_path, FOREST, *words, "split=mine,nope", "hydra.sweep.dir=t")
    expect_user_error(wrong, "no split=nope, there are kfold, lockbox, mine, stratified, writer")


def test_search_goes_on(tmp_path: Path) -> None:
    """A search that was stopped after two trials goes on to three, with trials of its own."""
    settings = "data=synthetic data.writers=4 augment.synthetic_writers=2 split.val_size=0.34"
    search = ["-m", *settings.split(), "trainer.max_epochs=1", "callbacks=light", "sweep=tpe"]
    search += ["hydra.sweep.dir=sweep"]
    for trials in (2, 3):
        done = run(tmp_path, TRAIN, *search, f"hydra.sweeper.n_trials={trials}")
        assert done.returncode == 0, done.stderr
    folder = tmp_path / "sweep"
    names = ("0", "1", "after_2/0")
    rates = [metrics(folder / name)["config"]["optimizer"]["lr"] for name in names]
    assert len(set(rates)) == 3
    best = max(metrics(folder / name)["val/acc"] for name in names)
    assert f"best_value: {best}" in (folder / "optimization_results.yaml").read_text()
    for more, words in (
        ("hydra.sweeper.n_trials=3", "has its 3 trials already"),
        ("trainer.max_epochs=2", "holds a search with trainer.max_epochs=1, not 2"),
        ("model.width_mult=choice(0.5,1.0)", "holds a search with space.model.width_mult="),
    ):
        expect_user_error(run(tmp_path, TRAIN, *search, more), words)


def test_a_failed_trial_does_not_end_the_search(tmp_path: Path) -> None:
    search = "-m data=synthetic data.writers=4 sweep=tpe trainer.max_epochs=1 split.val_size=0.01"
    done = run(tmp_path, TRAIN, *search.split(), "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s")
    assert done.returncode == 1
    assert "hwr-train: job 1: split.val_size=0.01" in done.stderr
    assert "jobs 0, 1 failed or did not finish" in done.stderr


def test_joblib_runs_two_jobs(tmp_path: Path) -> None:
    words = "seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir=sweep"
    done = run(tmp_path, TRAIN, "-m", *TINY_MLP, *words.split())
    assert done.returncode == 0, done.stderr
    assert [metrics(tmp_path / "sweep" / str(seed))["seed"] for seed in range(2)] == [0, 1]


def test_submitit_runs_two_jobs_and_outlives_a_kill(tmp_path: Path) -> None:
    words = "seed=0,1 hydra/launcher=local hydra.sweep.dir=sweep trainer.max_epochs=100"
    command = [str(TRAIN), "-m", *TINY_MLP, *words.split()]
    victim = tmp_path / "sweep/1"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (victim / "checkpoints/last.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        events = min(victim.glob("events.out.tfevents.*"))  # TIME.HOST.PROCESS.0
        os.kill(int(events.name.split(".")[-2]), signal.SIGKILL)
        stderr = process.communicate()[1]
    assert process.returncode == 1
    assert "jobs 1 failed or did not finish; the same line with hydra.sweep.dir=sweep" in stderr
    assert "Traceback" not in stderr
    assert metrics(tmp_path / "sweep/0")["seed"] == 0
    again = run(tmp_path, TRAIN, *command[1:])
    assert again.returncode == 0, again.stderr
    assert metrics(victim)["epochs"] == 100
    assert metrics(victim)["config"]["ckpt_path"]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Without dropout they differ by rounding; one run folder, every image tested once."""
    words = "data=synthetic data.writers=8 split.val_size=0.5 model=mlp trainer.max_epochs=3"
    settings = [*words.split(), "monitor=val/loss", "trainer.accelerator=cpu", "callbacks=light"]
    for name, more in (("one", []), ("two", ["trainer=ddp", "data.batch_size=16"])):
        done = run(tmp_path, TRAIN, *settings, *more, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    for name in ("train/loss", "val/loss", "test/loss", "test/top3"):
        assert one[name] == pytest.approx(two[name], abs=2e-4)
    assert one["reported_epoch"] == two["reported_epoch"] == 3
    with (tmp_path / "two/predictions.csv").open(encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert len(files) == len(set(files)) == two["test_images"]


def test_a_mistake_in_several_processes_leaves_nothing(tmp_path: Path) -> None:
    words = [*TINY, "model=mlp", "trainer=ddp", "split.test_size=0.01", "hydra.run.dir=run"]
    done = run(tmp_path, TRAIN, *words)
    expect_user_error(done, "split.test_size=0.01")
    assert list(tmp_path.iterdir()) == []
