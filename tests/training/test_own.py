"""Test a user's own model, data, callback, logger and optimizer, by --config-dir."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from programs import run

import hwr
from hwr.errors import RunError

PACKAGE = {
    "__init__.py": '''
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.loggers import CSVLogger
from torch import nn

class ResNet(nn.Module):
    """An nn.Module that names some of what it is given."""
    def __init__(self, num_classes, in_channels, height, width, hidden=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Linear(16 * hidden, num_classes))
    def forward(self, image):
        return self.layers(image)

class Net(LightningModule):
    """A LightningModule, used as it is."""
    def __init__(self, num_classes, hidden=4):
        super().__init__()
        self.model = ResNet(num_classes, 1, 0, 0, hidden)
    def forward(self, image):
        return self.model(image)
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

class Bars(torch.utils.data.Dataset):
    """Images of three symbols, with writers."""
    classes = ["-", "|", "+"]
    def __init__(self, count=60, size=16):
        self.count, self.size = count, size
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        image = torch.ones(1, self.size, self.size)
        middle = self.size // 2 + index % 2
        if index % 3 != 1:
            image[:, middle] = 0
        if index % 3 != 0:
            image[:, :, middle] = 0
        return image, index % 3, index // 6

class Epochs(Callback):
    def __init__(self, file):
        self.file = file
    def on_train_epoch_end(self, trainer, pl_module):
        with open(self.file, "a") as file:
            file.write(f"{float(trainer.callback_metrics['train/loss'])}\\n")

class Log(CSVLogger):
    pass

class Slow(torch.optim.SGD):
    pass
''',
    "data.py": """
import torch
from hwr import Charset
from my_pkg import Bars
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

class BarsModule(LightningDataModule):
    def __init__(self, batch_size=10):
        super().__init__()
        self.charset, self.batch_size = Charset(("-", "|", "+")), batch_size
        self.bars = [(image, label) for image, label, _ in (Bars()[k] for k in range(60))]
    def train_dataloader(self):
        return DataLoader(self.bars[:40], self.batch_size, shuffle=True)
    def val_dataloader(self):
        return DataLoader(self.bars[40:50], self.batch_size)
    def test_dataloader(self):
        return DataLoader(self.bars[50:], self.batch_size)
""",
}
CONF = {
    "model/resnet.yaml": "_target_: my_pkg.ResNet\nhidden: 6\n",
    "model/net.yaml": "_target_: my_pkg.Net\n",
    "data/bars.yaml": "_target_: my_pkg.Bars\nsize: 20\n",
    "data/module.yaml": "_target_: my_pkg.data.BarsModule\n",
    "callbacks/mine.yaml": "epochs:\n  _target_: my_pkg.Epochs\n  file: ${output_dir}/epochs.txt\n",
    "callbacks/plain.yaml": "_target_: my_pkg.Epochs\nfile: ${output_dir}/epochs.txt\n",
    "logger/mine.yaml": "_target_: my_pkg.Log\nsave_dir: ${output_dir}\nname: own\nversion: ''\n",
    "logger/both.yaml": "defaults: [tensorboard, csv]\n",
    "optimizer/mine.yaml": "_target_: my_pkg.Slow\nlr: 0.01\n",
    "scheduler/mine.yaml": "_target_: torch.optim.lr_scheduler.StepLR\nstep_size: 1\n",
}
COMMON = ["trainer.max_epochs=2", "callbacks=light"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package and settings of a user's own."""
    folder = tmp_path_factory.mktemp("own")
    for parent, files in {"my_pkg": PACKAGE, "my_conf": CONF}.items():
        for name, content in files.items():
            file = folder / parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    return folder


def hwr_train(place: Path, *arguments: str, flags: Sequence[str] = ()) -> str:
    """Run hwr-train in a process of its own, and return what it prints."""
    return command(place, "hwr-train", *flags, *COMMON, *arguments)


def command(place: Path, name: str, *arguments: str, code: int = 0) -> str:
    """Run a command with the user's settings, and return what it prints, or its mistake."""
    program, path = Path(sys.executable).with_name(name), os.pathsep.join([str(place), *sys.path])
    done = run(place, program, "--config-dir", "my_conf", *arguments, PYTHONPATH=path)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    assert content["partial"] is False
    assert 0 <= content["test/acc"] <= 1
    assert len((folder / "predictions.csv").read_text().splitlines()) > 5
    return content


def check_trust(place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> hwr.Recognizer:
    """Load a run with trust, and import nothing of it without."""
    with pytest.raises(RunError, match="my_pkg") as error:
        hwr.load(run)
    assert "trust" in str(error.value)
    assert "my_pkg" not in sys.modules
    monkeypatch.syspath_prepend(place)
    recognizer = hwr.load(run, trust=["my_pkg"])
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        del sys.modules[name]
    return recognizer


def test_own_network_and_dataset(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With optimizer, scheduler and callback of the user's own; resumed."""
    own = ["data=bars", "model=resnet", "optimizer=mine", "callbacks=[default,mine]"]
    own += ["logger=[tensorboard,csv]", "split.val_size=0.2", "hydra.run.dir=resnet"]
    hwr_train(place, *own, "trainer.max_epochs=1", "scheduler=none")
    folder = place / "resnet"
    hwr_train(place, *own, "scheduler=none", f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert (folder / ".hydra/resume-1/config.yaml").exists()
    result = metrics(folder)
    assert (result["model"], result["classes"], result["epochs"]) == ("resnet", 3, 2)
    assert len((folder / "epochs.txt").read_text().splitlines()) == 2
    assert list(folder.glob("events*"))
    assert (folder / "csv/metrics.csv").exists()
    recognizer = check_trust(place, folder, monkeypatch)
    assert (recognizer.charset.names, recognizer.size) == (("-", "|", "+"), (20, 20))
    again = ["data=bars", f"ckpt_path={folder}", "trust=[my_pkg]", "hydra.run.dir=evaluated"]
    assert "of 60 images in data=Bars" in command(place, "hwr-evaluate", *again)
    again = [*again[:3], "data.size=21", "hydra.run.dir=other"]
    words = "have shape (1, 21, 21), but the model takes (1, 20, 20)"
    assert words in command(place, "hwr-evaluate", *again, code=2)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ("bars", ["split=writer", "split.folds=4", "split.val_size=0", "callbacks=plain"]),
        ("module", ["callbacks=[default,plain]"]),
    ],
)
def test_own_data_for_a_network_of_hwr(place: Path, data: str, settings: list[str]) -> None:
    own = [f"data={data}", "model=mlp", "logger=mine", "scheduler=mine"]
    hwr_train(place, *own, *settings, f"hydra.run.dir={data}")
    assert metrics(place / data)["classes"] == 3
    assert (place / data / "own/metrics.csv").exists()
    assert len((place / data / "epochs.txt").read_text().splitlines()) == 2


def test_own_things_in_a_multirun(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["data=synthetic", "data.writers=4", "split.val_size=0", "model=resnet,net"]
    arguments += ["optimizer=mine", "logger=both", "hydra.sweep.dir=sweep"]
    hwr_train(place, *arguments, flags=["-m"])
    runs = [place / "sweep/0", place / "sweep/1"]
    assert [metrics(run)["model"] for run in runs] == ["resnet", "net"]
    assert hwr_train(place, *arguments, flags=["-m"]).count("is done already") == 2
    recognizer = check_trust(place, runs[1], monkeypatch)
    assert (len(recognizer.charset), recognizer.size) == (62, (30, 40))
