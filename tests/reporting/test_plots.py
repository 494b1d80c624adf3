"""Plots, tables and columns: own modules and data, odd classes, resumed curves, all models."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
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
from hwr.reporting import columns, figures, grids, tables
from hwr.training.train import train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
SMALL = [*TINY, "split.val_size=0.34", "trainer.max_epochs=2"]
HOSTILE = ["<script>alert(1)</script>", "a|b", "`", "$x$", "\x1b[31m", "字", "long " * 40, " "]
FILES = {"confusion.png", "mistakes.png", "reliability.png", "curves.png"}


class OwnModule(LightningModule):
    """A module that knows nothing of hwr, and logs its training loss when the epoch ends."""

    def __init__(self, channels: int = 3, returns_logits: bool = True) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.LazyLinear(5))
        self.net(torch.zeros(1, channels, 8, 9))
        self.losses: list[Tensor] = []
        self.returns_logits = returns_logits

    def forward(self, image: Tensor) -> Any:
        return self.net(image)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", torch.stack(self.losses).mean())
        self.losses.clear()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        logits = self.net(batch[0])
        loss = functional.cross_entropy(logits, batch[1])
        self.log("test/loss", loss)
        return {"logits": logits, "label": batch[1]} if self.returns_logits else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


class OwnData(LightningDataModule):
    """Normalized images of five classes."""

    charset = ("a", "b", "c", "d", "e")

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(20, channels, 8, 9, generator=generator)
        self.set = TensorDataset(image, torch.arange(20) % 5)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.set, 10)

    val_dataloader = test_dataloader = train_dataloader


def trainer(folder: Path, epochs: int, *callbacks: Any, logger: Any = False) -> Trainer:
    flags: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=folder,
        log_every_n_steps=1,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        **flags,
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
    assert set(tags["images"]) == {
        *("train/batch", "test/confusion", "test/mistakes", "test/best_and_worst"),
        *("test/reliability", "test/curves", "weights/first_layer"),
    }
    assert tags["graph"]
    assert {"test/confused/text_summary", "pr/all"} <= set(tags["tensors"])
    (labels,) = tmp_path.glob("*/test_images/metadata.tsv")
    rows = labels.read_text(encoding="utf-8").splitlines()
    assert rows[0].split("\t") == ["true", "predicted", "outcome"]
    assert [row[0] for row in rows[1:6]] == list("abcde")


def test_without_logits_nothing_is_drawn(tmp_path: Path) -> None:
    model = OwnModule(returns_logits=False)
    trainer(tmp_path, 1, Plots()).test(model, datamodule=OwnData(), verbose=False)
    assert not list(tmp_path.iterdir())


def test_without_charset_classes_are_numbers(tmp_path: Path) -> None:
    loader = OwnData().test_dataloader()
    folder = tmp_path / "plots"
    trainer(tmp_path, 1, Plots(str(folder))).test(OwnModule(), loader, verbose=False)
    assert {path.name for path in folder.iterdir()} == FILES - {"curves.png"}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_resumed_curves_are_complete(tmp_path: Path) -> None:
    first, second, old = Plots(), Plots(), tmp_path / "old.ckpt"

    def saved() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, "last", enable_version_counter=False)

    trainer(tmp_path, 2, first, saved()).fit(OwnModule(), datamodule=OwnData())
    shutil.copy(tmp_path / "last.ckpt", old)
    again = trainer(tmp_path, 3, second, saved())
    again.fit(OwnModule(), datamodule=OwnData(), ckpt_path=old)
    assert sorted(second.history) == [1, 2, 3]
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


def hparams(folder: Path) -> dict[str, Any]:
    """Read the row of a run in the HParams tab."""
    content = events(folder).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}


def test_columns_are_equal_and_of_one_type(runs: dict[str, Path]) -> None:
    rows = {model: hparams(folder) for model, folder in runs.items()}
    first, *others = rows.values()
    for row in others:
        assert row.keys() == first.keys()
        assert [type(row[name]) for name in first] == [type(value) for value in first.values()]
    assert rows["forest"]["LR"] == rows["mlp"]["model.conv_dropout"] == "-"
    assert rows["mlp"]["model.hidden"].strip() == "100"
    assert rows["cnn"]["Model"] == "cnn"
    assert rows["cnn"]["augment"] == rows["forest"]["augment"] == "-"
    assert rows["cnn"]["optimizer"] == "KerasRMSprop".lower()
    for folder in runs.values():
        for name in ("val_acc", "test_acc", "test_acc_nocase", "fit_seconds"):
            (point,) = events(folder).Scalars(f"hp/{name}")
            assert point.value >= 0


def test_every_model_has_its_plots(runs: dict[str, Path]) -> None:
    for model, folder in runs.items():
        tags = events(folder).Tags()
        images = {"test/confusion", "test/mistakes", "test/reliability", "test/best_and_worst"}
        images.add("weights/first_layer")
        scalars = {"test/acc", "test/acc_nocase", "test/top3", "train/acc_upper", "test/ece"}
        tensors = {"test/confused/text_summary", "test/per_class/text_summary", "pr/all"}
        tensors.add("pr_confusable/0")
        files = FILES
        if model == "forest":
            files = FILES - {"curves.png"}
        else:
            images |= {"train/batch", "test/curves"}
            scalars |= {"val/acc_upper", "train/loss"}
            tensors |= {"custom_scalars__config__", "run/settings/text_summary"}
            assert tags["graph"]
        assert images == set(tags["images"])
        assert scalars <= set(tags["scalars"])
        assert tensors <= set(tags["tensors"])
        assert files == {path.name for path in folder.glob("*.png")}
        assert sum(file.stat().st_size for file in folder.glob("events*")) < 5_000_000
        (points,) = folder.glob("*/test_images/tensors.tsv")
        assert len(np.loadtxt(points, delimiter="\t")) == 62


def test_light_callbacks_draw_nothing(tmp_path: Path) -> None:
    train(compose([*SMALL, "model=mlp", "callbacks=light"]), tmp_path)
    assert not events(tmp_path).Tags()["images"]
    assert not list(tmp_path.glob("*.png"))
    assert events(tmp_path).Scalars("hp/test_acc")


def test_settings_are_flat_and_plain() -> None:
    flat = columns.logged(
        {"seed": 0, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "betas": [0.9, 1]}}
        | {"scheduler": {}, "monitor": None, "callbacks": {"x": {"_target_": "y"}}}
    )
    assert flat == {
        **{"seed": 0, "optimizer": "torch.optim.SGD", "optimizer.lr": 0.1},
        **{"optimizer.betas": "[0.9, 1]", "scheduler": "-", "monitor": "-"},
    }


def test_numbers_as_text_keep_their_order() -> None:
    numbers = [0, 0.00001, 0.0005, 0.01, 0.25, 1, 2.5, 32, 200, 1000]
    assert sorted(map(columns.as_text, numbers)) == list(map(columns.as_text, numbers))
    assert [columns.as_text(number).strip() for number in (0.00001, 200)] == ["0.00001", "200"]


def drawn_and_label(classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels (200,) and probabilities (200, C), half of them of the label."""
    random = np.random.default_rng(0)
    label = random.integers(0, classes, 200)
    guess = np.where(random.random(200) < 0.5, label, random.integers(0, classes, 200))
    probability = np.full((200, classes), 0.1 / classes, dtype=np.float32)
    probability[np.arange(200), guess] = 0.9
    return label, probability


@pytest.mark.parametrize("classes", [2, 62, 3000])
def test_any_charset(classes: int) -> None:
    names = HOSTILE + [f"{chr(97 + i % 26)}{i}" for i in range(classes)]
    charset = Charset.of(names[:classes])
    label, probability = drawn_and_label(classes)
    guess = probability.argmax(axis=1)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (label, guess), 1)
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 30, 40)).astype(np.uint8)
    drawn = [
        figures.confusion(counts, charset, "a run"),
        grids.mistakes(images, label, probability, charset),
        grids.extremes(images, label, probability, charset),
        grids.batch(images, label, charset, 1),
    ]
    for png in drawn:
        with Image.open(io.BytesIO(png)) as image:
            assert image.width < 2000
            assert image.height < 6000
    for text in (tables.confused(label, guess, charset), tables.per_class(label, guess, charset)):
        for line in text.splitlines():
            assert line.count("|") in (0, 5, 6)
            assert "\x1b" not in line
            if "script" in line:
                assert "`<script>" in line


def test_all_correct() -> None:
    charset, label = Charset.of("ab"), np.array([0, 1])
    images = np.zeros((2, 3, 200, 300), dtype=np.uint8)
    png = grids.mistakes(images, label, np.eye(2, dtype=np.float32), charset)
    assert png.startswith(b"\x89PNG")
    assert figures.confusion(np.eye(2, dtype=np.int64), charset, "perfect")
    assert figures.curves({}, {})
    assert "All test images" in tables.confused(label, label, charset)
