"""Test hwr-train from Python: run folders, repeatability, resuming, rejected settings."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hwr
from hwr.config.compose import compose
from hwr.errors import ConfigError, RunError
from hwr.runs.run_folder import lock_run
from hwr.training.train import train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
SMALL = ["model=mlp", "split.val_size=0", "trainer.max_epochs=1", "callbacks=light"]
CNN = ["experiment=notebook_cnn", "model.width_mult=0.25", "trainer.max_epochs=4"]
"""The settings of the fixture `cnn_run`."""
MONITORED = ["monitor=val/loss", "model=mlp", "split.val_size=0.34", "callbacks=light"]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    return train(compose([*TINY, *overrides]), folder)


def saved(folder: Path, name: str = "last") -> dict[str, Any]:
    file = folder / f"checkpoints/{name}.ckpt"
    checkpoint: dict[str, Any] = torch.load(file, weights_only=True)
    return checkpoint


def same_weights(one: Path, other: Path) -> bool:
    first, second = (saved(folder)["state_dict"] for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def curves(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [point.value for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class StopInEpochThree(Callback):
    """Break off like a crash."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            raise ArithmeticError("in the third epoch")


def test_run_folder(cnn_run: Path) -> None:
    names = {path.name for path in cnn_run.iterdir() if "tfevents" not in path.name}
    assert {"checkpoints", "metrics.json", "predictions.csv", "README.md"} <= names
    assert {"confusion.png", "mistakes.png", "reliability.png", "curves.png"} <= names
    metrics = json.loads((cnn_run / "metrics.json").read_text())
    keys = "test/acc test/loss test/acc_nocase test/top3 test/auroc test/ap test/ece train/acc"
    keys += " val/loss fit_seconds parameters epochs seed data split model git_commit val_is_test"
    assert set(keys.split()) <= metrics.keys()
    assert (metrics["val_is_test"], metrics["partial"], metrics["model"]) == (True, False, "cnn")
    assert metrics["epochs"] == metrics["reported_epoch"] == 4
    assert metrics["val/acc"] == pytest.approx(metrics["test/acc"])
    rows = predictions(cnn_run)
    assert len(rows) == metrics["test_images"] == 62
    assert list(rows[0]) == ["file", "label", "prediction", "probability"]
    correct = np.mean([row["label"] == row["prediction"] for row in rows])
    assert correct == pytest.approx(metrics["test/acc"])
    scalars = curves(cnn_run)
    for name in ("loss", "acc", "acc_nocase", "top3"):
        assert len(scalars[f"train/{name}"]) == len(scalars[f"val/{name}"]) == 4
        assert f"test/{name}" in scalars


def test_checkpoint_loads_with_default_settings(cnn_run: Path) -> None:
    model = hwr.CNN.load_from_checkpoint(cnn_run / "checkpoints/last.ckpt").eval()
    config = compose([*TINY, *CNN])
    data = hwr.CharacterDataModule(config.data, config.split)
    data.setup()
    image, label = next(iter(data.test_dataloader()))
    with torch.no_grad():
        predicted = model(image).argmax(1)
    written = [row["prediction"] for row in predictions(cnn_run)]
    assert [model.charset.names[index] for index in predicted] == written[: len(label)]
    with pytest.raises(RunError, match=r"MLP is not for hwr\.models\.CNN"):
        hwr.MLP.load_from_checkpoint(cnn_run / "checkpoints/last.ckpt")


def test_seed_repeats_to_the_bit(cnn_run: Path, tmp_path: Path) -> None:
    run(tmp_path / "again", *CNN, "callbacks=light")
    assert same_weights(cnn_run, tmp_path / "again")
    run(tmp_path / "other", *CNN, "seed=1", "callbacks=light")
    assert not same_weights(cnn_run, tmp_path / "other")


def test_resume_is_as_if_never_stopped(cnn_run: Path, tmp_path: Path) -> None:
    """In a new folder, then in the same one."""
    first = tmp_path / "first"
    run(first, *CNN, "trainer.max_epochs=2")
    undisturbed = json.loads((cnn_run / "metrics.json").read_text())
    for folder in (tmp_path / "second", first):
        torch.rand(17)  # the state of the generators must not matter
        metrics = run(folder, *CNN, f"ckpt_path={first}/checkpoints/last.ckpt")
        assert metrics["epochs"] == 4
        assert metrics["test/acc"] == undisturbed["test/acc"]
        assert same_weights(cnn_run, folder)
        one, other = (saved(path)["optimizer_states"][0]["state"] for path in (cnn_run, folder))
        assert all(torch.equal(one[key]["square"], other[key]["square"]) for key in one)
    resumed = curves(first)
    for tag, values in curves(cnn_run).items():
        if tag.startswith(("train/", "val/")):
            assert values == resumed[tag]


@pytest.mark.parametrize("model", ["mlp", "glyphnet"])
def test_other_networks_resume_too(tmp_path: Path, model: str) -> None:
    """With Adam, and with augmentation, a one-cycle schedule and writer batches."""
    settings = [f"model={model}", "split.val_size=0", "callbacks=light", "trainer.max_epochs=3"]
    if model == "glyphnet":
        settings += ["augment=handwriting", "augment.synthetic_writers=2", "model.width_mult=0.25"]
    run(tmp_path / "undisturbed", *settings)
    stop = "+callbacks.stop._target_=test_train.StopInEpochThree"
    with pytest.raises(ArithmeticError, match="third epoch"):
        run(tmp_path / "stopped", *settings, stop)
    assert saved(tmp_path / "stopped")["epoch"] == 1
    run(tmp_path / "stopped", *settings, f"ckpt_path={tmp_path}/stopped")
    assert same_weights(tmp_path / "undisturbed", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["experiment=notebook_mlp"], "KerasRMSprop, not .*KerasAdam"),
        (["seed=1"], "seed=0, not 1"),
        (["optimizer.lr=0.1"], "optimizer.lr=0.0005, not 0.1"),
        (["split.test_size=0.5"], "split.test_size=0.25"),
        (["data.writers=5"], "data.writers=4"),
        (["trainer.max_epochs=3"], "4 epochs"),
    ],
)
def test_checkpoint_of_another_run_is_rejected(
    cnn_run: Path, tmp_path: Path, overrides: list[str], words: str
) -> None:
    settings = overrides if "experiment" in overrides[0] else [*CNN, *overrides]
    with pytest.raises(RunError, match=words):
        run(tmp_path / "new", *settings, f"ckpt_path={cnn_run}/checkpoints/last.ckpt")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("part", ["optimizer", "scheduler"])
def test_optimizers_that_a_file_names_are_not_called(
    cnn_run: Path, tmp_path: Path, part: str
) -> None:
    checkpoint = saved(cnn_run)
    command = {"_target_": "os.system", "command": "true"}
    hidden = '${oc.create:\'{"\\x5ftarget_": os.system, command: "true"}\'}'
    for node in (
        command,
        {"_target_": "torch.optim.SGD", "lr": command},
        {"_target_": "torch.optim.SGD", "lr": hidden},
        {"_target_": "torch.optim.SGD", "lr": [{"_args_": ["${oc.env:HOME}"]}]},
    ):
        checkpoint["hyper_parameters"][part] = node
        torch.save(checkpoint, tmp_path / "x.ckpt")
        with pytest.raises(RunError, match=f"names the {part}"):
            hwr.CNN.load_from_checkpoint(tmp_path / "x.ckpt")
        hwr.CNN.load_from_checkpoint(tmp_path / "x.ckpt", **{part: {"_target_": "torch.optim.SGD"}})


def test_a_run_is_not_written_over(cnn_run: Path, tmp_path: Path) -> None:
    before = (cnn_run / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        run(cnn_run, *CNN, "seed=3")
    assert (cnn_run / "checkpoints/last.ckpt").read_bytes() == before
    with lock_run(tmp_path, compose([*TINY, *SMALL])):
        with pytest.raises(RunError, match=f"another process writes into {tmp_path}; choose"):
            run(tmp_path, *SMALL, "seed=7")
        assert list(tmp_path.iterdir()) == []


def test_monitor_reports_the_best_epoch(tmp_path: Path) -> None:
    run(tmp_path, *MONITORED, "trainer.max_epochs=1", "optimizer.lr=0.02")
    settings = ["trainer.max_epochs=4", "optimizer.lr=0.02", f"ckpt_path={tmp_path}"]
    metrics = run(tmp_path, *MONITORED, *settings)
    losses = curves(tmp_path)["val/loss"]
    assert metrics["epochs"] == 4
    assert metrics["reported_epoch"] == int(np.argmin(losses[:4])) + 1
    assert metrics["val/loss"] == pytest.approx(min(losses), abs=1e-5)
    assert (tmp_path / "checkpoints/best.ckpt").exists()
    assert hwr.load(tmp_path).charset.names[0] == "0"


def test_no_validation_and_writers(tmp_path: Path) -> None:
    settings = ["split=writer", "split.folds=4", "split.val_size=0", "trainer.max_epochs=1"]
    metrics = run(tmp_path, "model=mlp", "callbacks=light", *settings)
    assert metrics["val_images"] == 0
    assert not [tag for tag in curves(tmp_path) if tag.startswith("val/")]


def test_init_from_another_run(
    cnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: Path
) -> None:
    """Heads of another size are left out."""
    few = ["data=folder", f"data.root={drawn}", "data.csv=english.csv", *SMALL[1:]]
    few += ["model=cnn", "model.width_mult=0.25", f"init_from={cnn_run}", "optimizer.lr=1e-9"]
    train(compose(few), tmp_path / "run")
    before, after = (saved(folder)["state_dict"] for folder in (cnn_run, tmp_path / "run"))
    head = [name for name in before if before[name].shape != after[name].shape]
    assert head
    assert f"left out {', '.join(sorted(head))}" in capsys.readouterr().err
    for name in before.keys() - head:
        assert torch.allclose(before[name], after[name], atol=1e-4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+trainer.max_epoch=1", "no argument max_epoch; did you mean trainer.max_epochs"),
        ("+trainer.logger=true", r"trainer\.logger is set by the groups"),
        ("trainer.accelerator=abacus", "abacus"),
        ("trainer.precision=7", "7"),
        ("callbacks=none monitor=val/loss split.val_size=0.34", "needs a ModelCheckpoint"),
        ("monitor=val/accuracy split.val_size=0.34", "must be one of .*val/loss"),
        ("optimizer._target_=torch.optim.Nope", "torch.optim.Nope"),
        ("+optimizer.nope=1", "nope"),
        ("+scheduler._target_=torch.optim.lr_scheduler.Nope", "scheduler._target_: .*Nope"),
        ("+scheduler.patience=1", "scheduler._target_"),
        (
            "callbacks=early_stopping callbacks.early_stopping.monitor=val/accuracy "
            "split.val_size=0.34",
            "EarlyStopping monitors val/accuracy, which is none of val/acc, ",
        ),
        ("model._target_=nope.Nope", r"model\._target_: .*nope"),
    ],
)
def test_settings_that_cannot_be_instantiated(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        run(tmp_path / "run", *SMALL, *override.split())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/metrics.json").exists()
