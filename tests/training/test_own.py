"""Test a user's own model, data, callback, logger and optimizer, by --config-dir, without edits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
COMMON = ["--config-dir", "my_conf", "trainer.max_epochs=2", "data=synthetic", "data.writers=4"]
COMMON += ["split.val_size=0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package and settings of a user's own."""
    folder = tmp_path_factory.mktemp("own")
    for name, content in PACKAGE.items():
        (folder / "my_pkg").mkdir(exist_ok=True)
        (folder / "my_pkg" / name).write_text(content)
    for name, content in CONF.items():
        file = folder / "my_conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def hwr_command(place: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(f"hwr-{name}"), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(place)},
    )


def trained(place: Path, *arguments: str, folder: str) -> dict[str, object]:
    done = hwr_command(place, "train", *COMMON, *arguments, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    metrics: dict[str, object] = json.loads((place / folder / "metrics.json").read_text())
    assert metrics["partial"] is False
    assert len((place / folder / "predictions.csv").read_text().splitlines()) > 5
    return metrics


def test_own_network_trains_resumes_and_loads(place: Path) -> None:
    own = ["model=resnet", "optimizer=mine", "scheduler=mine"]
    own += ["callbacks=[default,mine]", "logger=[tensorboard,csv]"]
    metrics = trained(place, *own, folder="resnet")
    assert metrics["model"] == "resnet"
    assert len((place / "resnet/epochs.txt").read_text().splitlines()) == 2
    assert list((place / "resnet").glob("events*"))
    assert (place / "resnet/csv/metrics.csv").exists()
    trained(place, *own, "trainer.max_epochs=1", "scheduler=none", folder="begun")
    more = ["scheduler=none", "ckpt_path=begun/checkpoints/last.ckpt"]
    metrics = trained(place, *own, *more, folder="begun")
    assert metrics["epochs"] == 2
    assert (place / "begun/.hydra/resume-1/config.yaml").exists()

    with pytest.raises(RunError, match="my_pkg") as error:
        hwr.load(place / "resnet")
    assert "trust" in str(error.value)
    assert "my_pkg" not in sys.modules
    evaluated = ["ckpt_path=resnet", "data=synthetic", "data.writers=2"]
    done = hwr_command(place, "evaluate", *evaluated)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    done = hwr_command(place, "evaluate", *evaluated, "trust=[my_pkg]")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", ["resnet", "net"])
def test_own_models_load_with_trust(
    place: Path, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained(place, f"model={model}", "callbacks=light", folder=f"load-{model}")
    monkeypatch.syspath_prepend(place)
    recognizer = hwr.load(place / f"load-{model}", trust=["my_pkg"])
    assert len(recognizer.charset) == 62
    assert recognizer.size == (30, 40)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("data", "model", "settings"),
    [
        ("bars", "mlp", ["split.val_size=0.2"]),
        ("bars", "mlp", ["split=writer", "split.folds=4", "callbacks=plain"]),
        ("module", "mlp", ["callbacks=[default,plain]"]),
        ("module", "net", []),
    ],
)
def test_own_data(place: Path, data: str, model: str, settings: list[str]) -> None:
    arguments = [f"data={data}", f"model={model}", "logger=mine", *settings]
    folder = f"{data}-{model}-{len(settings)}-{len(' '.join(settings))}"
    common = [*COMMON[:3], *arguments, f"hydra.run.dir={folder}"]
    done = hwr_command(place, "train", *common)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((place / folder / "metrics.json").read_text())
    assert metrics["classes"] == 3
    assert 0 <= metrics["test/acc"] <= 1
    assert (place / folder / "own/metrics.csv").exists()


def test_own_things_in_a_multirun(place: Path) -> None:
    arguments = ["-m", *COMMON, "model=resnet,net", "optimizer=mine", "logger=both"]
    arguments += ["callbacks=light", "hydra.sweep.dir=sweep"]
    done = hwr_command(place, "train", *arguments)
    assert done.returncode == 0, done.stderr
    names = [json.loads((place / f"sweep/{k}/metrics.json").read_text())["model"] for k in (0, 1)]
    assert names == ["resnet", "net"]
    again = hwr_command(place, "train", *arguments)
    assert (again.returncode, again.stdout.count("is done already")) == (0, 2)
