"""Test sweeps on the engines that exist: Optuna, joblib, submitit's local executor, and DDP."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from test_cli import FOREST, TINY, TINY_FOREST, TINY_MLP, TRAIN, run, sentence

from hwr.config.compose import composed, hydra_ready
from hwr.errors import ConfigError, RunError
from hwr.runs import records, sweep


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def plan(*overrides: str, name: str = "train") -> list[Path]:
    """Plan a multirun as the callback does, and return the run folders."""
    with hydra_ready():
        hydra: Any = GlobalHydra.instance().hydra
        words = ["data=synthetic", "hydra.mode=MULTIRUN", *overrides]
        return sweep.plan(hydra.compose_config(name, words, RunMode.MULTIRUN), name).runs


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("seeds", "seed", list(range(10))),
        ("lr", "optimizer.lr", [0.0001, 0.0002, 0.0005, 0.001, 0.002]),
        ("kfold", "split.fold", list(range(5))),
        ("writers", "split.fold", list(range(5))),
    ],
)
def test_grids(tmp_path: Path, name: str, key: str, values: list[float]) -> None:
    runs = plan(f"sweep={name}", f"hydra.sweep.dir={tmp_path}")
    assert runs == [tmp_path / str(number) for number in range(len(values))]
    with hydra_ready():
        params = composed([f"sweep={name}"], with_hydra=True).hydra.sweeper.params
    assert key in params


def test_the_last_one_counts_and_folders_may_have_names(tmp_path: Path) -> None:
    words = ["sweep=seeds", "seed=3,4", "model=mlp,cnn", f"hydra.sweep.dir={tmp_path}"]
    runs = plan(*words, "hydra.sweep.subdir=${hydra.runtime.choices.model}_${seed}")
    assert [folder.name for folder in runs] == ["mlp_3", "cnn_3", "mlp_4", "cnn_4"]
    runs = plan(*words, "hydra.sweep.subdir=${hydra.job.override_dirname}")
    assert [folder.name for folder in runs][::3] == [
        "data=synthetic,model=mlp,seed=3,sweep=seeds",
        "data=synthetic,model=cnn,seed=4,sweep=seeds",
    ]


def test_jobs_may_differ_in_an_added_setting(tmp_path: Path) -> None:
    assert len(plan("+trainer.max_steps=1,2", f"hydra.sweep.dir={tmp_path}")) == 2


@pytest.mark.parametrize(
    "words", [["seed=1,2,1"], ["model=mlp,mlp"], ["optimizer.lr=0.1,1e-1", "callbacks=light"]]
)
def test_equal_jobs_are_rejected(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="are one: "):
        plan(*words, f"hydra.sweep.dir={tmp_path}")


def test_a_hundred_jobs_are_not_checked_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(plan("seed=range(100)", f"hydra.sweep.dir={tmp_path}")) == 100
    assert capsys.readouterr().err == "hwr-train: checking 100 jobs\n"


def test_jobs_are_compared_with_what_is_there(tmp_path: Path) -> None:
    """An unfinished run has Hydra's unresolved settings, a failed one its own record."""
    words = ["seed=3", "scheduler=plateau", f"hydra.sweep.dir={tmp_path}"]
    with hydra_ready():
        config = composed(["data=synthetic", *words[:2]])
    records.mark_failed(tmp_path / "0", {"seed": 4}, RunError("x"))
    with pytest.raises(RunError, match="holds a run with seed=4, not 3"):
        plan(*words)
    (tmp_path / "0/failed.json").unlink()
    (tmp_path / "0/.hydra").mkdir()
    file = tmp_path / "0/.hydra/config.yaml"
    file.write_text(OmegaConf.to_yaml(config))
    assert plan(*words) == [tmp_path / "0"]
    assert plan(*words, "callbacks=none", "logger=csv") == [tmp_path / "0"]
    for more, differs in (
        ("+trainer.max_steps=5", "trainer.max_steps=unset, not 5"),
        ("split.seed=5", "split.seed=3, not 5"),
    ):
        with pytest.raises(RunError, match=differs):
            plan(*words, more)
    file.write_text("[")
    with pytest.raises(RunError, match="is damaged"):
        plan(*words)


def test_launchers_compose() -> None:
    with hydra_ready():
        for name, threads in (("local", "1"), ("slurm", "2")):
            hydra = composed([f"hydra/launcher={name}"], with_hydra=True).hydra
            assert threads == hydra.job.env_set.OMP_NUM_THREADS


def test_mode_of_the_settings_is_that_of_the_flag(tmp_path: Path) -> None:
    for flag, folder in (("-m", "a"), ("hydra.mode=MULTIRUN", "b")):
        done = run(tmp_path, FOREST, flag, *TINY_FOREST, "seed=0,1", f"hydra.sweep.dir={folder}")
        assert (done.returncode, done.stderr) == (0, "")
        assert [metrics(tmp_path / folder / name)["seed"] for name in "01"] == [0, 1]
        files = {path.name for path in (tmp_path / folder / "1/.hydra").iterdir()}
        assert files == {"config.yaml", "hydra.yaml", "overrides.yaml"}


def test_config_dir_reaches_every_job(tmp_path: Path) -> None:
    (tmp_path / "conf/split").mkdir(parents=True)
    text = "_target_: hwr.data.KFoldSplit\nseed: 0\nfolds: 2\nfold: 0\nval_size: 0\n"
    (tmp_path / "conf/split/mine.yaml").write_text(text + "val_is_test: false\nwriters: null\n")
    words = ["data=synthetic", "data.writers=4", "n_estimators=2", "plots=false"]
    flags = ["--config-dir", "conf", "-m"]
    done = run(
        tmp_path, FOREST, *flags, *words, "split=mine", "split.fold=0,1", "hydra.sweep.dir=s"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert metrics(tmp_path / "s/1")["config"]["split"]["fold"] == 1
    wrong = run(tmp_path, FOREST, *flags, *words, "split=mine,nope", "hydra.sweep.dir=t")
    sentence(wrong, "no split=nope, there are kfold, lockbox, mine, stratified, writer")


def test_search_goes_on(tmp_path: Path) -> None:
    """A search that was stopped after two trials goes on to three, with trials of its own."""
    settings = "data=synthetic data.writers=4 augment.synthetic_writers=2 split.val_size=0.34"
    search = ["-m", *settings.split(), "trainer.max_epochs=1", "callbacks=light", "sweep=tpe"]
    search += ["hydra.sweep.dir=sweep"]
    done = run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "sweep"
    assert {file.name for file in folder.iterdir()} == {
        *("0", "1", "search.db", "search.json", "optimization_results.yaml")
    }
    done = run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stderr
    names = ("0", "1", "after_2/0")
    rates = [metrics(folder / name)["config"]["optimizer"]["lr"] for name in names]
    assert len(set(rates)) == 3
    best = max(metrics(folder / name)["val/acc"] for name in names)
    assert f"best_value: {best}" in (folder / "optimization_results.yaml").read_text()
    sentence(run(tmp_path, TRAIN, *search, "hydra.sweeper.n_trials=3"), "has its 3 trials already")
    other = run(tmp_path, TRAIN, *search, "trainer.max_epochs=2")
    sentence(other, "holds a search with trainer.max_epochs=1, not 2")
    other = run(tmp_path, TRAIN, *search, "model.width_mult=choice(0.5,1.0)")
    sentence(other, "holds a search with space.model.width_mult=")


def test_a_failed_trial_does_not_end_the_search(tmp_path: Path) -> None:
    search = "-m data=synthetic data.writers=4 sweep=tpe trainer.max_epochs=1 split.val_size=0.01"
    done = run(tmp_path, TRAIN, *search.split(), "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s")
    assert done.returncode == 1
    assert "hwr-train: job 1: split.val_size=0.01" in done.stderr
    assert "2 jobs failed: 0, 1" in done.stderr


def test_joblib_runs_four_jobs(tmp_path: Path) -> None:
    words = "seed=0,1,2,3 hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir=sweep"
    done = run(tmp_path, TRAIN, "-m", *TINY_MLP, *words.split())
    assert done.returncode == 0, done.stderr
    assert [metrics(tmp_path / "sweep" / str(seed))["seed"] for seed in range(4)] == [0, 1, 2, 3]


def test_submitit_runs_four_jobs_and_outlives_a_kill(tmp_path: Path) -> None:
    words = "seed=0,1,2,3 hydra/launcher=local hydra.sweep.dir=sweep trainer.max_epochs=200"
    command = [str(TRAIN), "-m", *TINY_MLP, *words.split()]
    victim = tmp_path / "sweep/2"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (victim / "checkpoints/last.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        events = min(victim.glob("events.out.tfevents.*"))  # TIME.HOST.PROCESS.0
        os.kill(int(events.name.split(".")[-2]), signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "1 job did not finish: 2; the same line with hydra.sweep.dir=sweep" in said
    assert "Traceback" not in said
    assert [metrics(tmp_path / "sweep" / str(seed))["seed"] for seed in (0, 1, 3)] == [0, 1, 3]
    again = run(tmp_path, TRAIN, *command[1:])
    assert again.returncode == 0, again.stderr
    assert metrics(victim)["epochs"] == 200
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
    sentence(done, "split.test_size=0.01")
    assert list(tmp_path.iterdir()) == []
