"""Test a user's own Trainer around the modules, and the Trainer's flags in hwr-train."""

import csv
import json
from pathlib import Path
from typing import Any

import programs
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from test_train import SMALL, TINY, curves, run, saved

import hwr
from hwr.config.compose import compose
from hwr.errors import ConfigError
from hwr.training.train import train


def test_a_plain_script(tmp_path: Path) -> None:
    """The user's own Trainer, logger and callbacks."""
    data = hwr.CharacterDataModule(compose(TINY).data, compose(["split.val_size=0.34"]).split)
    data.setup()
    model = hwr.MLP(data.charset)
    best = ModelCheckpoint(tmp_path / "ckpt", monitor="val/acc", mode="max")
    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    trainer = Trainer(
        max_epochs=9,
        logger=CSVLogger(tmp_path),
        callbacks=[best, stop],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(model, datamodule=data)
    assert trainer.current_epoch == 2
    assert best.best_model_score is not None
    (validated,) = trainer.validate(model, datamodule=data, verbose=False)
    names = {"val/loss", "val/acc", "val/acc_nocase", "val/top3", "val/acc_digits"}
    assert names <= validated.keys()
    (tested,) = trainer.test(model, datamodule=data, verbose=False)
    assert {"test/loss", "test/acc", "test/ece"} <= tested.keys()
    predicted: Any = trainer.predict(model, datamodule=data)
    assert sum(map(len, predicted)) == len(data.parts.test)
    assert predicted[0].shape[1] == 62
    with (tmp_path / "lightning_logs/version_0/metrics.csv").open() as file:
        assert {"train/loss", "val/acc"} <= set(next(csv.reader(file)))
    loaded = hwr.MLP.load_from_checkpoint(best.best_model_path)
    assert loaded.charset == data.charset
    recognizer = hwr.load(best.best_model_path)
    assert recognizer.charset == data.charset
    assert recognizer.preprocessor.statistics is not None  # of the training images


def test_overfit_batches(tmp_path: Path) -> None:
    """One batch, the same in each epoch, is memorized."""
    settings = ["model=cnn", "model.width_mult=0.5", "optimizer.lr=0.001"]
    settings += ["model.conv_dropout=0", "model.dense_dropout=0", "data.batch_size=32"]
    settings += ["+trainer.overfit_batches=1", "trainer.max_epochs=100"]
    settings += ["callbacks=light", "split.val_size=0"]
    metrics = run(tmp_path, *settings)
    assert metrics["train/acc"] >= 0.99


def test_fast_dev_run(tmp_path: Path) -> None:
    metrics = run(tmp_path, "model=mlp", "+trainer.fast_dev_run=true", "split.val_size=0.34")
    assert metrics["partial"] is True
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("limit", "tested"), [("0", 0), ("1", 64), ("0.5", 64)])
def test_limited_tests_are_partial(tmp_path: Path, limit: str, tested: int) -> None:
    settings = [*SMALL, "data.writers=8", f"+trainer.limit_test_batches={limit}"]
    metrics = run(tmp_path, *settings)
    assert metrics["partial"] is True
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == tested + 1
    assert ("test/acc" in metrics) == (tested > 0)


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ("+trainer.limit_train_batches=2", 2),
        ("trainer.max_epochs=2 +trainer.accumulate_grad_batches=3", 2),  # three batches an epoch
    ],
)
def test_number_of_steps(tmp_path: Path, flags: str, steps: int) -> None:
    metrics = run(tmp_path, *SMALL, *flags.split())
    assert (saved(tmp_path)["global_step"], metrics["partial"]) == (steps, False)


def test_profiler(tmp_path: Path) -> None:
    done = programs.run(tmp_path, programs.TRAIN, *programs.TINY_MLP, "+trainer.profiler=simple")
    assert "run_training_epoch" in done.stderr


def test_gradient_clipping(tmp_path: Path) -> None:
    """Steps of SGD on clipped gradients are tiny."""
    settings = [*SMALL, "optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"]
    settings += ["optimizer.weight_decay=0", "optimizer.lr=1", "+trainer.limit_train_batches=1"]
    ended = {}
    for name, more in {"free": [], "clipped": ["+trainer.gradient_clip_val=1e-6"]}.items():
        run(tmp_path / name, *settings, *more)
        ended[name] = saved(tmp_path / name)["state_dict"]
    start = hwr.MLP(list("ab"))  # only for the names of the weights
    name = next(n for n, _ in start.named_parameters() if n.endswith("bias"))
    assert ended["free"][name].abs().max() > 1e-4  # biases begin at zero
    assert 0 < ended["clipped"][name].abs().max() < 2e-6


def test_precision(tmp_path: Path) -> None:
    run(tmp_path, *SMALL, "trainer.precision=bf16-true")
    assert {w.dtype for w in saved(tmp_path)["state_dict"].values()} == {torch.bfloat16}


def test_max_steps_counts_those_before_the_resume(tmp_path: Path) -> None:
    run(tmp_path, *SMALL)
    more = ["trainer.max_epochs=9", "+trainer.max_steps=7", f"ckpt_path={tmp_path}"]
    run(tmp_path, *SMALL, *more)
    assert saved(tmp_path)["global_step"] in (6, 7)  # a checkpoint is of a whole epoch


def test_weight_averaging(tmp_path: Path) -> None:
    average = "+callbacks.average._target_=pytorch_lightning.callbacks.EMAWeightAveraging"
    weights = []
    for name, more in {"last": [], "average": [average]}.items():
        run(tmp_path / name, *SMALL, "model=glyphnet", "model.width_mult=0.25", *more)
        weights.append(saved(tmp_path / name)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_early_stopping(tmp_path: Path) -> None:
    settings = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1"]
    settings += ["callbacks.early_stopping.monitor=val/acc", "optimizer.lr=1e-9"]
    settings += ["callbacks.early_stopping.mode=max", "model=mlp", "split.val_size=0.34"]
    metrics = run(tmp_path, *settings, "trainer.max_epochs=9")
    assert metrics["epochs"] == 2
    assert (tmp_path / "checkpoints/last.ckpt").exists()


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        *(("keras_adam", "one_cycle"), ("keras_rmsprop", "cosine"), ("adamw", "plateau")),
        *(("sgd", "none"), ("sgd", "one_cycle")),
    ],
)
def test_optimizers_and_schedulers(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    groups = [f"optimizer={optimizer}", f"scheduler={scheduler}", "model=mlp", "callbacks=light"]
    if scheduler == "plateau":  # at this rate nothing improves
        groups += ["scheduler.patience=0", "optimizer.lr=1e-6"]
    run(tmp_path, *groups, "split.val_size=0.34", "trainer.max_epochs=4")
    rates = next(v for tag, v in curves(tmp_path).items() if tag.startswith("lr-"))
    assert (rates[0] == rates[-1]) == (scheduler == "none")


@pytest.mark.parametrize("stance", ["force_eager", pytest.param("default", marks=pytest.mark.slow)])
def test_compiled_networks_keep_the_names_of_their_weights(tmp_path: Path, stance: str) -> None:
    with torch.compiler.set_stance(stance):
        run(tmp_path, *SMALL, "compile=true", "+trainer.limit_train_batches=1")
    assert not [name for name in saved(tmp_path)["state_dict"] if "_orig_mod" in name]
    assert hwr.MLP.load_from_checkpoint(tmp_path / "checkpoints/last.ckpt")


def test_no_callbacks(tmp_path: Path) -> None:
    metrics = run(tmp_path, "model=mlp", "split.val_size=0", "callbacks=none", "logger=none")
    assert "test/acc" in metrics
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("README.md", "metrics.json", "predictions.csv")
    ]
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 30


class Monitors(Callback):
    """A callback of a user's own."""

    monitor = "val/acc"


def test_own_callbacks_choose_nothing_by_test_images(tmp_path: Path) -> None:
    own = "+callbacks.own._target_=test_trainer.Monitors"
    with pytest.raises(ConfigError, match="Monitors monitors val/acc"):
        run(tmp_path, "experiment=notebook_mlp", "callbacks=light", own)


class Own(hwr.MLP):
    """A LightningModule of a user's own, whose schedule monitors the validation."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.01)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        lr_scheduler = {"scheduler": scheduler, "monitor": "val/loss"}
        return {"optimizer": optimizer, "lr_scheduler": lr_scheduler}


def test_own_schedules_choose_nothing_by_test_images(tmp_path: Path) -> None:
    config = compose([*TINY, "experiment=notebook_mlp", "callbacks=light"])
    config.model = {"_target_": "test_trainer.Own"}
    with pytest.raises(ConfigError, match="monitors val/loss"):
        train(config, tmp_path)
