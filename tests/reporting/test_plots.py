"""Plots and columns: own modules and data, odd classes, resumed curves, all models."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hwr.baselines.forest import forest
from hwr.callbacks import Plots
from hwr.charset import Charset
from hwr.config.compose import compose
from hwr.reporting import columns, figures, modelcard, results
from hwr.training.train import train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
SMALL = [*TINY, "split.val_size=0.34", "trainer.max_epochs=2"]
HOSTILE = ["<script>alert(1)</script>", "a|b", "`", "$x$", "\x1b[31m", "字", "long " * 40, " "]
FILES = {"confusion.png", "mistakes.png", "reliability.png", "curves.png"}


class OwnModule(LightningModule):
    """A module that knows nothing of hwr, and logs its training loss when the epoch ends."""

    def __init__(self, channels: int = 3, returns_logits: bool = True) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(72 * channels, 5))
        self.loss, self.returns_logits = torch.zeros(()), returns_logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        return self.loss

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.loss)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        logits = self.net(batch[0])
        return {"logits": logits, "label": batch[1]} if self.returns_logits else logits.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


class OwnData(LightningDataModule):
    """Normalized images of five classes."""

    charset = ("a", "b", "c", "d", "e")

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.set = TensorDataset(torch.randn(20, channels, 8, 9), torch.arange(20) % 5)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.set, 10)

    val_dataloader = test_dataloader = train_dataloader


def trainer(folder: Path, epochs: int, *callbacks: Any, logger: Any = False) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=folder,
        log_every_n_steps=1,
        enable_checkpointing=len(callbacks) > 1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize("channels", [1, 3])
def test_own_module_and_data(tmp_path: Path, channels: int) -> None:
    logger = TensorBoardLogger(str(tmp_path), name="", version="")
    plots = Plots()
    own = trainer(tmp_path, 2, plots, logger=logger)
    model, data = OwnModule(channels), OwnData(channels)
    own.fit(model, datamodule=data)
    own.test(model, datamodule=data, verbose=False)
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    assert [sorted(row) for row in plots.history.values()] == [["train/loss", "val/loss"]] * 2
    tags = events(tmp_path).Tags()
    assert {f"test/{file.removesuffix('.png')}" for file in FILES} | {"train/batch"} == set(
        tags["images"]
    )
    assert {"test/per_class/text_summary", "pr/all"} <= set(tags["tensors"])
    (labels,) = tmp_path.glob("*/test_images/metadata.tsv")
    rows = labels.read_text(encoding="utf-8").splitlines()
    assert rows[0].split("\t") == ["true", "predicted", "outcome"]
    assert [row[0] for row in rows[1:6]] == list("abcde")


def test_without_logits_or_charset(tmp_path: Path) -> None:
    """Nothing is drawn without logits; classes have numbers where no charset names them."""
    model, loader = OwnModule(returns_logits=False), OwnData().test_dataloader()
    trainer(tmp_path, 1, Plots()).test(model, loader, verbose=False)
    assert not list(tmp_path.iterdir())
    trainer(tmp_path, 1, Plots(str(tmp_path))).test(OwnModule(), loader, verbose=False)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"curves.png"}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_resumed_curves_are_complete(tmp_path: Path) -> None:
    first, second, old = Plots(), Plots(), tmp_path / "old.ckpt"
    last = {"filename": "last", "enable_version_counter": False}
    one = trainer(tmp_path, 2, first, ModelCheckpoint(tmp_path, **last))
    one.fit(OwnModule(), datamodule=OwnData())
    shutil.copy(tmp_path / "last.ckpt", old)
    again = trainer(tmp_path, 3, second, ModelCheckpoint(tmp_path, **last))
    again.fit(OwnModule(), datamodule=OwnData(), ckpt_path=old)
    assert {epoch: second.history[epoch] for epoch in (1, 2)} == first.history
    assert "train/loss" in second.history[2]
    # Testing an older checkpoint must not shorten the curves.
    again.test(OwnModule(), OwnData().test_dataloader(), ckpt_path=old, verbose=False)
    assert sorted(second.history) == [1, 2, 3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of three models."""
    root = tmp_path_factory.mktemp("runs")
    for model in ("mlp", "cnn"):
        train(compose([*SMALL, f"model={model}"]), root / model)
    forest(compose([*TINY, "n_estimators=10"], "forest"), root / "forest")
    return {model: root / model for model in ("mlp", "cnn", "forest")}


def test_hparams_are_equal_and_of_one_type(runs: dict[str, Path]) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for model, folder in runs.items():
        summary = events(folder).SummaryMetadata(metadata.SESSION_START_INFO_TAG)
        start = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content)
        values = start.hparams.items()
        rows[model] = {name: getattr(value, value.WhichOneof("kind")) for name, value in values}
        for name in ("val_acc", "test_acc", "test_acc_nocase", "fit_seconds"):
            (point,) = events(folder).Scalars(f"hp/{name}")
            assert point.value >= 0
    types = [{name: type(value) for name, value in row.items()} for row in rows.values()]
    assert types[0] == types[1] == types[2]
    assert rows["forest"]["LR"] == rows["mlp"]["model.conv_dropout"] == "-"
    assert rows["mlp"]["model.hidden"] == "100"
    assert (rows["cnn"]["Model"], rows["cnn"]["optimizer"]) == ("cnn", "KerasRMSprop")


def test_every_model_has_its_plots(runs: dict[str, Path]) -> None:
    for model, folder in runs.items():
        tags = events(folder).Tags()
        files = {path.name for path in folder.glob("*.png")}
        images = {f"test/{name[:-4]}" for name in files}
        scalars = {"test/acc", "test/acc_nocase", "test/top3", "train/acc_upper", "test/ece"}
        texts = ("run/settings", "run/environment", "test/per_class")
        tensors = {*(f"{name}/text_summary" for name in texts), "pr/all"}
        if model == "forest":
            assert files == FILES - {"curves.png"}
        else:
            assert files == FILES
            images.add("train/batch")
            scalars |= {"val/acc_upper", "train/loss"}
            tensors.add("custom_scalars__config__")
        assert images == set(tags["images"])
        assert scalars <= set(tags["scalars"])
        assert tensors <= set(tags["tensors"])
        (points,) = folder.glob("*/test_images/tensors.tsv")
        assert len(np.loadtxt(points, delimiter="\t")) == 62


def test_settings_are_flat() -> None:
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1, "betas": [0.9, 1]}
    config = {"seed": 0, "optimizer": optimizer, "monitor": None, "callbacks": {"x": 1}}
    assert columns.flatten(config) == {
        **{"seed": 0, "monitor": "-", "optimizer": "torch.optim.SGD"},
        **{"optimizer.lr": 0.1, "optimizer.betas": [0.9, 1]},
    }


def result_of(charset: Charset) -> figures.TestResult:
    """Draw 200 labels and predictions, half of them correct."""
    random, classes = np.random.default_rng(0), len(charset)
    label = random.integers(0, classes, 200)
    prediction = np.where(random.random(200) < 0.5, label, random.integers(0, classes, 200))
    probability = np.full((200, classes), 0.1 / classes, dtype=np.float32)
    probability[np.arange(200), prediction] = 0.9
    images = random.integers(0, 256, (200, 1, 30, 40)).astype(np.uint8)
    return figures.TestResult(images, label, probability, charset)


@pytest.mark.parametrize("classes", [2, 62, 3000])
def test_any_charset(classes: int) -> None:
    names = HOSTILE + [f"{chr(97 + i % 26)}{i}" for i in range(classes)]
    result = result_of(Charset.of(names[:classes]))
    plots = results.draw(result, "a run")
    plots["batch"] = figures.grid("$batch", result.images, [names[0]] * 200)
    for plot in plots.values():
        height, width, _ = plot.shape
        assert width < 2000
        assert height < 6000
        assert plot.std() > 1


def test_characters_that_the_font_lacks() -> None:
    assert figures.shorten("e\u0301漢é") == "éU+6F22é"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of missing glyphs
        results.draw(result_of(Charset.of(["漢", "🦄"])), "字")


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_any_backend(tmp_path: Path, backend: str) -> None:
    (tmp_path / "style").write_text("text.usetex: True")
    environment = os.environ | {"MPLBACKEND": backend, "MATPLOTLIBRC": str(tmp_path / "style")}
    command = [str(Path(sys.executable).with_name("hwr-data")), "show", *TINY[:2]]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_all_correct() -> None:
    images, label = np.zeros((2, 3, 200, 300), np.uint8), np.array([0, 1])
    result = figures.TestResult(images, label, np.eye(2, dtype=np.float32), Charset.of("ab"))
    assert all(plot.std() > 1 for plot in results.draw(result, "perfect").values())
    assert figures.curves({}, {}).std() > 1


def test_mistakes_begin_with_the_most_confident() -> None:
    gray = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.full((1, 1, 30, 40), 60, np.uint8)
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]], np.float32)
    result = figures.TestResult(gray, np.array([0, 1, 1, 1]), probability, Charset.of("ab"))
    pixels = figures.mistakes(result)
    # The second and third images are errors; the third is the more confident one.
    assert [pixels[60, 30 + 120 * cell, 0] for cell in range(3)] == [120, 60, 255]


def test_model_card(tmp_path: Path) -> None:
    about = {"model": "my|model", "data": "own", "split": "kfold", "hwr_version": "1", "seed": 0}
    amounts = {"classes": 3, "parameters": 1000, "epochs": 2, "reported_epoch": 1}
    images = {"train_images": 2000, "val_images": 10, "test_images": 4, "fit_seconds": 1.4}
    flags = {"val_is_test": False, "partial": True, "data_fingerprint": "abc"}
    metrics = {"test/acc": 0.5, "test/loss": 1.25, "test/top3": 1.0}
    rows = [
        ("f", "a", "a", 0.9),
        ("g", "a", "b`|", 0.9),
        ("h", "a", "b`|", 0.9),
        ("i", "c", "a", 1),
    ]
    modelcard.write(tmp_path, about | amounts | images | flags | metrics, (0.25, 0.75), rows)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# `my¦model` on `own`\n")
    for line in (
        *("- Metrics of epoch 1 of 2.", "- Fingerprint of the data: `abc`."),
        *("| accuracy | 50.0% (25.0% - 75.0%) |", "| top-3 accuracy | 100.0% |"),
        *("| loss | 1.250 |", "| `a` | `b'¦` | 2 |\n| `c` | `a` | 1 |", "The test was limited"),
    ):
        assert line in text
