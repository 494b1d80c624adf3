"""Test hwr-train from Python: run folders, repeatability, resuming, rejected settings."""

import csv
import json
import pickle
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
from hwr.runs.run_folder import started
from hwr.training.train import train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
SMALL = ["model=mlp", "split.val_size=0", "trainer.max_epochs=1", "callbacks=light"]
MONITORED = ["monitor=val/loss", "model=mlp", "split.val_size=0.34", "callbacks=light"]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    return train(compose([*TINY, *overrides]), folder)


def saved(folder: Path, name: str = "last") -> dict[str, Any]:
    file = folder / f"checkpoints/{name}.ckpt"
    checkpoint: dict[str, Any] = torch.load(file, weights_only=True)
    return checkpoint


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    state: dict[str, Any] = saved(folder, name)["state_dict"]
    return state


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def curves(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [point.value for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class StopInEpochThree(Callback):
    """Break off like a crash."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            raise ArithmeticError("in the third epoch")


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn") / "run"
    run(folder, "experiment=notebook_cnn", "trainer.max_epochs=4")
    return folder


def test_run_folder(four_epochs: Path) -> None:
    names = {path.name for path in four_epochs.iterdir() if "tfevents" not in path.name}
    assert {"checkpoints", "metrics.json", "predictions.csv", "README.md"} <= names
    assert {"confusion.png", "mistakes.png", "reliability.png", "curves.png"} <= names
    metrics = json.loads((four_epochs / "metrics.json").read_text())
    keys = "test/acc test/loss test/acc_nocase test/top3 test/auroc test/ap test/ece train/acc"
    keys += " val/loss fit_seconds parameters epochs seed data split model git_commit val_is_test"
    assert set(keys.split()) <= metrics.keys()
    assert metrics["val_is_test"] is True
    assert metrics["partial"] is False
    assert metrics["parameters"] == 624_766
    assert metrics["epochs"] == metrics["reported_epoch"] == 4
    assert metrics["val/acc"] == pytest.approx(metrics["test/acc"])
    with (four_epochs / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["test_images"] == 62
    assert list(rows[0]) == ["file", "label", "prediction", "probability"]
    correct = np.mean([row["label"] == row["prediction"] for row in rows])
    assert correct == pytest.approx(metrics["test/acc"])


def test_tensorboard_scalars(four_epochs: Path) -> None:
    found = curves(four_epochs)
    for part in ("train", "val"):
        for name in ("loss", "acc", "acc_nocase", "top3"):
            assert len(found[f"{part}/{name}"]) == 4
    assert {"test/acc", "test/loss", "test/acc_nocase", "test/top3"} <= found.keys()
    metrics = json.loads((four_epochs / "metrics.json").read_text())
    assert found["val/acc"][-1] == pytest.approx(metrics["test/acc"])


def test_checkpoint_loads_with_default_settings(four_epochs: Path) -> None:
    model = hwr.CNN.load_from_checkpoint(four_epochs / "checkpoints/last.ckpt").eval()
    data = hwr.CharacterDataModule(compose(TINY).data, compose(["experiment=notebook_cnn"]).split)
    data.setup()
    image, label = next(iter(data.test_dataloader()))
    with torch.no_grad():
        predicted = model(image).argmax(1)
    with (four_epochs / "predictions.csv").open(encoding="utf-8") as file:
        written = [row["prediction"] for row in csv.DictReader(file)]
    assert [model.charset.names[index] for index in predicted] == written[: len(label)]
    with pytest.raises(RunError, match=r"MLP is not for hwr\.models\.CNN"):
        hwr.MLP.load_from_checkpoint(four_epochs / "checkpoints/last.ckpt")


def test_seed_repeats_to_the_bit(four_epochs: Path, tmp_path: Path) -> None:
    run(tmp_path / "again", "experiment=notebook_cnn", "trainer.max_epochs=4", "callbacks=light")
    assert same(weights(four_epochs), weights(tmp_path / "again"))
    run(tmp_path / "other", "experiment=notebook_cnn", "trainer.max_epochs=4", "seed=1", *SMALL[3:])
    assert not same(weights(four_epochs), weights(tmp_path / "other"))


@pytest.mark.parametrize("where", ["same folder", "new folder"])
def test_resume_is_as_if_never_stopped(four_epochs: Path, tmp_path: Path, where: str) -> None:
    first = tmp_path / "first"
    run(first, "experiment=notebook_cnn", "trainer.max_epochs=2")
    second = first if where == "same folder" else tmp_path / "second"
    torch.rand(17)  # the state of the generators must not matter
    ckpt = f"ckpt_path={first}/checkpoints/last.ckpt"
    metrics = run(second, "experiment=notebook_cnn", "trainer.max_epochs=4", ckpt)
    assert metrics["epochs"] == 4
    assert same(weights(four_epochs), weights(second))
    undisturbed = json.loads((four_epochs / "metrics.json").read_text())
    assert metrics["test/acc"] == undisturbed["test/acc"]
    if where == "same folder":
        resumed = curves(second)
        for tag, values in curves(four_epochs).items():
            if tag.startswith(("train/", "val/")):
                assert values == resumed[tag]
    one, other = (saved(folder)["optimizer_states"][0] for folder in (four_epochs, second))
    for key, state in one["state"].items():
        assert torch.equal(state["square"], other["state"][key]["square"])


@pytest.mark.parametrize("model", ["mlp", "glyphnet"])
def test_other_networks_resume_too(tmp_path: Path, model: str) -> None:
    """With Adam, and with augmentation, a one-cycle schedule and writer batches."""
    settings = [f"model={model}", "split.val_size=0", "callbacks=light", "trainer.max_epochs=3"]
    if model == "glyphnet":
        settings += ["augment=handwriting", "augment.synthetic_writers=2", "model.width_mult=0.25"]
    run(tmp_path / "whole", *settings)

    class Stop(RuntimeError):
        pass

    stop = "+callbacks.stop._target_=test_train.StopInEpochThree"
    with pytest.raises(ArithmeticError, match="third epoch"):
        run(tmp_path / "pieced", *settings, stop)
    assert saved(tmp_path / "pieced")["epoch"] == 1
    run(tmp_path / "pieced", *settings, f"ckpt_path={tmp_path}/pieced")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "pieced"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["experiment=notebook_mlp"], r"model\._target_=hwr\.models\.CNN"),
        (["experiment=notebook_cnn", "seed=1"], "seed=0"),
        (["experiment=notebook_cnn", "optimizer.lr=0.1"], "optimizer.lr=0.0005"),
        (["experiment=notebook_cnn", "split.test_size=0.5"], "split.test_size=0.25"),
        (["experiment=notebook_cnn", "data.writers=5"], "data.writers=4"),
        (["experiment=notebook_cnn", "trainer.max_epochs=3"], "4 epochs"),
    ],
)
def test_checkpoint_of_another_run_is_rejected(
    four_epochs: Path, tmp_path: Path, overrides: list[str], words: str
) -> None:
    ckpt = f"ckpt_path={four_epochs}/checkpoints/last.ckpt"
    with pytest.raises(RunError, match=words):
        run(tmp_path / "new", "trainer.max_epochs=5", *overrides, ckpt)
    assert not (tmp_path / "new").exists()


def test_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "mark",))  # type: ignore[return-value]

    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(Planted()))
    (tmp_path / "y.ckpt").write_text("no checkpoint")
    for name in ("x.ckpt", "y.ckpt", "absent.ckpt"):
        for key in ("ckpt_path", "init_from"):
            with pytest.raises(RunError, match=name):
                run(tmp_path / "new", "split.val_size=0", f"{key}={tmp_path / name}")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("part", ["optimizer", "scheduler"])
def test_a_file_names_no_optimizer_that_is_called(
    four_epochs: Path, tmp_path: Path, part: str
) -> None:
    checkpoint = saved(four_epochs)
    for node in (
        {"_target_": "os.system", "command": "true"},
        {"_target_": "torch.optim.SGD", "lr": {"_target_": "os.system", "command": "true"}},
    ):
        checkpoint["hyper_parameters"][part] = node
        torch.save(checkpoint, tmp_path / "x.ckpt")
        with pytest.raises(RunError, match=f"names the {part}"):
            hwr.CNN.load_from_checkpoint(tmp_path / "x.ckpt")
        hwr.CNN.load_from_checkpoint(tmp_path / "x.ckpt", **{part: {"_target_": "torch.optim.SGD"}})


def test_a_run_is_not_written_over(four_epochs: Path) -> None:
    before = weights(four_epochs)
    with pytest.raises(RunError, match="holds a run already"):
        run(four_epochs, "experiment=notebook_cnn", "trainer.max_epochs=1", "seed=3")
    assert same(before, weights(four_epochs))


def test_two_runs_at_once_in_one_folder(tmp_path: Path) -> None:
    with started(tmp_path, compose([*TINY, *SMALL])):
        with pytest.raises(RunError, match=f"another process writes into {tmp_path}; choose"):
            run(tmp_path, *SMALL, "seed=7")
        assert list(tmp_path.iterdir()) == []
    run(tmp_path, *SMALL)


def test_monitor_reports_the_best_epoch(tmp_path: Path) -> None:
    metrics = run(tmp_path, *MONITORED, "trainer.max_epochs=4", "optimizer.lr=0.02")
    losses = curves(tmp_path)["val/loss"]
    assert metrics["reported_epoch"] == int(np.argmin(losses[:4])) + 1
    assert metrics["val/loss"] == pytest.approx(min(losses), abs=1e-5)
    assert weights(tmp_path, "best")
    assert hwr.load(tmp_path).charset.names[0] == "0"


def test_resume_with_a_monitor(tmp_path: Path) -> None:
    run(tmp_path, *MONITORED, "trainer.max_epochs=1")
    metrics = run(tmp_path, *MONITORED, "trainer.max_epochs=2", f"ckpt_path={tmp_path}")
    assert metrics["epochs"] == 2


def test_no_validation_and_writers(tmp_path: Path) -> None:
    settings = ["split=writer", "split.folds=4", "split.val_size=0", "trainer.max_epochs=1"]
    metrics = run(tmp_path, "model=mlp", "callbacks=light", *settings)
    assert metrics["val_images"] == 0
    assert not [tag for tag in curves(tmp_path) if tag.startswith("val/")]


def test_weights_of_another_run_to_begin_with(
    four_epochs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: Path
) -> None:
    """Heads of another size are left out."""
    few = ["data=folder", f"data.root={drawn}", "data.csv=english.csv", "model=cnn", *SMALL[1:]]
    train(compose([*few, f"init_from={four_epochs}", "optimizer.lr=1e-9"]), tmp_path / "run")
    before, after = weights(four_epochs), weights(tmp_path / "run")
    head = [name for name in before if before[name].shape != after[name].shape]
    assert head
    assert f"left out {', '.join(sorted(head))}" in capsys.readouterr().err
    first = next(name for name in before if name not in head)
    assert torch.allclose(before[first], after[first], atol=1e-4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+trainer.max_epoch=1", r"no setting max_epoch; did you mean trainer\.max_epochs"),
        ("+trainer.logger=true", r"trainer\.logger is set by the groups"),
        ("trainer.accelerator=abacus", "abacus"),
        ("trainer.precision=7", "7"),
        ("callbacks=none monitor=val/loss split.val_size=0.34", "needs a ModelCheckpoint"),
        ("monitor=val/accuracy split.val_size=0.34", "must be one of .*val/loss"),
        ("optimizer._target_=torch.optim.Nope", "torch.optim.Nope"),
        ("+optimizer.nope=1", "nope"),
        ("model._target_=nope.Nope", r"model\._target_: .*nope"),
    ],
)
def test_settings_that_cannot_be_instantiated(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        run(tmp_path / "run", *SMALL, *override.split())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize("kind", [hwr.MLP, hwr.CNN])
def test_networks_learn(kind: type[hwr.CharacterClassifier]) -> None:
    torch.manual_seed(0)
    off = {} if kind is hwr.MLP else {"conv_dropout": 0.0, "dense_dropout": 0.0}
    lr = {"lr": 5e-3 if kind is hwr.MLP else 1e-3}
    model = kind(list("ABCDEFGH"), off, optimizer={**kind.default_optimizer, **lr})
    image, label = torch.rand(16, 1, 30, 40), torch.arange(16) % 8
    optimizer: Any = model.configure_optimizers()
    for step in range(300):
        optimizer.zero_grad()
        loss = model.training_step((image, label), step)
        loss.backward()
        if step == 0:
            assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())  # type: ignore[union-attr]
        optimizer.step()
    assert float(loss.detach()) < 0.05
