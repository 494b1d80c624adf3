"""Targets in files: our models and classes of trusted packages are built, nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hwr
from hwr.errors import RunError
from hwr.inference import trust

PACKAGE = {
    "my_pkg/__init__.py": """
import os
from torch.nn import Linear
from my_pkg.net import Net, Wrapped, build_net
""",
    "my_pkg/net.py": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, height, width, in_channels=1, hidden=4):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * height * width, hidden))
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, image):
        return self.head(self.body(image))

class Wrapped(nn.Module):
    def __init__(self, inner, layers=(), **settings):
        super().__init__()
        self.inner, self.layers, self.settings = inner, nn.ModuleList(layers), settings

    def forward(self, image):
        return self.inner(image)

class Settings:
    pass

def build_net(**arguments):
    return Net(**arguments)
""",
    "my_pkg/lightning.py": """
from pytorch_lightning import LightningModule
from my_pkg.net import Net

class Module(LightningModule):
    def __init__(self, num_classes, height, width, optimizer=None):
        super().__init__()
        self.net = Net(num_classes, height, width)

    def forward(self, image):
        return self.net(image)
""",
    "my_pkg/broken.py": "raise ValueError('no license')\n",
    "my_pkg_evil/__init__.py": "from my_pkg.net import Net as X\n",
}
NET = {"_target_": "my_pkg.Net", "num_classes": 3, "height": 4, "width": 5}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for name, content in PACKAGE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def _importable(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(packages))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("my_pkg")]:
        del sys.modules[name]


def save(file: Path, node: Any, prefix: str = "model.", **more: Any) -> Path:
    """Write a checkpoint of a model of the package."""
    model = trust.build(node, ["my_pkg"])
    saved = {
        "state_dict": {prefix + name: value for name, value in model.state_dict().items()},
        "hwr": {
            "model": node,
            "state_dict_prefix": prefix,
            "charset": ["a", "b", "c"],
            **{"height": 4, "width": 5, "channels": 1, "preprocessing": "notebook"},
            **{"image_statistics": None, "about": {}, **more},
        },
    }
    torch.save(saved, file)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_pkg"]:
        del sys.modules[name]
    return file


@pytest.mark.parametrize("name", ["MLP", "CNN", "GlyphNet"])
def test_our_models_need_no_trust(name: str) -> None:
    for path in (f"hwr.models.{name}", f"hwr.models.{name.lower()}.{name}"):
        assert trust.resolve(path).__name__ == name
    node = {"_target_": f"hwr.models.{name}", "_convert_": "all", "_recursive_": False}
    model = trust.build({**node, "num_classes": 5, "in_channels": 1, "height": 32, "width": 48})
    assert model.eval()(torch.rand(2, 1, 32, 48)).shape == (2, 5)


def test_a_trusted_package() -> None:
    model = trust.build(NET, trust=["other", "my_pkg"])
    assert type(model).__module__ == "my_pkg.net"
    assert trust.resolve("my_pkg.net.Net", ["my_pkg.net"]) is type(model)
    assert trust.resolve("my_pkg.net.Net", "my_pkg") is type(model)
    assert trust.resolve("torch.nn.ReLU", ["torch.nn"]) is torch.nn.ReLU
    outer = {
        "_target_": "my_pkg.Wrapped",
        "inner": NET,
        "layers": [NET, {"_target_": "hwr.models.MLP", "height": 2, "width": 2}],
        "depth": {"more": [1, 2]},
    }
    wrapped: Any = trust.build(outer, ["my_pkg"])
    assert [type(layer).__name__ for layer in (wrapped.inner, *wrapped.layers)] == [
        *("Net", "Net", "MLP"),
    ]
    assert wrapped.settings == {"depth": {"more": [1, 2]}}


@pytest.mark.parametrize(
    ("target", "trusted", "words"),
    [
        ("my_pkg.Net", [], r'trust=\["my_pkg"\]'),
        ("my_pkg_evil.X", ["my_pkg"], r'trust=\["my_pkg_evil"\]'),
        ("my_pkg.Net", ["my", "my_pkg_evil", "my_pkg.other", ""], r'trust=\["my_pkg"\]'),
        ("subprocess.run", [], r'trust=\["subprocess"\]'),
        ("torch.nn.Linear", [], r'trust=\["torch"\]'),
        ("hwr.x.subprocess.run", [], "not one of the models"),
        ("hwr.x.subprocess.run", ["hwr"], "cannot be imported"),
        ("hwr.training.networks.CNN", [], "not one of the models"),
        ("hwr.models.cnn.torch.nn.Linear", [], "not one of the models"),
        ("hwr.models.cnn.nn", [], "not one of the models"),
        ("my_pkg.os.system", ["my_pkg"], "cannot be imported"),
        ("my_pkg.os", ["my_pkg"], "not a class of models"),
        ("my_pkg.build_net", ["my_pkg"], "not a class of models"),
        ("my_pkg.net.Settings", ["my_pkg"], "not a class of models"),
        ("my_pkg.Linear", ["my_pkg"], r"defined in torch\.nn\.modules\.linear"),
        ("my_pkg_evil.X", ["my_pkg_evil"], r"defined in my_pkg\.net"),
        ("my_pkg.Absent", ["my_pkg"], "cannot be imported"),
        ("my_pkg.broken.Net", ["my_pkg"], "cannot be imported: no license"),
        ("absent.Net", ["absent"], "cannot be imported"),
        ("my_pkg", ["my_pkg"], "must be the path of a class"),
        ("my_pkg..Net", ["my_pkg"], "must be the path of a class"),
        ("my_pkg.Net()", ["my_pkg"], "must be the path of a class"),
        ("", ["my_pkg"], "must be the path of a class"),
        (None, ["my_pkg"], "must be the path of a class"),
        (["my_pkg.Net"], ["my_pkg"], "must be the path of a class"),
        (5, ["my_pkg"], "must be the path of a class"),
    ],
)
def test_other_targets_are_rejected(target: Any, trusted: list[str], words: str) -> None:
    for check in (
        lambda: trust.resolve(target, trusted),
        lambda: trust.build({**NET, "_target_": target}, trusted),
    ):
        with pytest.raises(RunError, match=words) as error:
            check()
        assert "\n" not in str(error.value)
    if not trusted:
        assert "my_pkg" not in sys.modules


@pytest.mark.parametrize(
    "nested",
    [
        {"_target_": "my_pkg_evil.X"},
        {"_target_": "torch.optim.Adam"},
        [{"a": ({"_target_": "subprocess.run"},)}],
        {"a": {"b": [1, {"_target_": None}]}},
        {**NET, "_partial_": True},
        {**NET, "_args_": [1]},
        {"_other_": 1},
    ],
)
def test_nested_nodes_are_checked_before_anything_is_imported(nested: Any) -> None:
    for inner in (nested, {"_target_": "my_pkg.Wrapped", "inner": NET, "more": nested}):
        with pytest.raises(RunError):
            trust.build({"_target_": "my_pkg.Wrapped", "inner": NET, "x": inner}, ["my_pkg"])
    assert "my_pkg" not in sys.modules


def test_a_checkpoint_of_an_own_model(tmp_path: Path) -> None:
    file = save(tmp_path / "a.ckpt", NET)
    with pytest.raises(RunError, match=r'a\.ckpt: my_pkg\.Net is .*trust=\["my_pkg"\]') as error:
        hwr.load(file)
    assert "\n" not in str(error.value)
    assert "my_pkg" not in sys.modules
    recognizer = hwr.load(file, trust=["my_pkg"])
    assert recognizer.size == (4, 5)
    array = np.random.default_rng(0).integers(0, 256, (7, 4, 5), np.uint8)
    found = recognizer.probabilities(array, normalize="as_is")
    logits = recognizer.model(torch.from_numpy(array / np.float32(255))[:, None])
    np.testing.assert_allclose(found, logits.softmax(1).detach().numpy(), atol=1e-6)
    with pytest.raises(hwr.errors.DataError, match="Net has no writer context"):
        recognizer.predict(array, writer="one")


def test_a_checkpoint_of_an_own_lightning_module(tmp_path: Path) -> None:
    node = {**NET, "_target_": "my_pkg.lightning.Module", "optimizer": None}
    file = save(tmp_path / "a.ckpt", node, prefix="")
    assert hwr.load(file, trust=["my_pkg"]).read(np.zeros((4, 5), np.uint8)) in "abc"
    optimizer = {"_target_": "torch.optim.Adam", "lr": 0.1}
    saved = torch.load(file, weights_only=True)
    saved["hwr"]["model"]["optimizer"] = optimizer
    torch.save(saved, tmp_path / "b.ckpt")
    with pytest.raises(RunError, match=r"torch\.optim\.Adam"):
        hwr.load(tmp_path / "b.ckpt", trust=["my_pkg"])


@pytest.mark.parametrize("wrong", [{"hidden": 9}, {"height": None}, {"unknown": 1}])
def test_models_that_fail(tmp_path: Path, wrong: dict[str, Any]) -> None:
    saved = torch.load(save(tmp_path / "a.ckpt", NET), weights_only=True)
    saved["hwr"]["model"].update(wrong)
    torch.save(saved, tmp_path / "b.ckpt")
    with pytest.raises(RunError, match="does not fit its own settings") as error:
        hwr.load(tmp_path / "b.ckpt", trust=["my_pkg"])
    assert "\n" not in str(error.value)


def test_checkpoints_of_others(tmp_path: Path) -> None:
    for saved, words in (
        ({"state_dict": {}, "epoch": 3}, "no entry 'hwr'"),
        ({"weights": 1}, "no entry 'state_dict'"),
        ([1], "not a checkpoint of hwr-train"),
    ):
        torch.save(saved, tmp_path / "other.ckpt")
        with pytest.raises(RunError, match=words):
            hwr.load(tmp_path / "other.ckpt")


def test_commands_trust(tmp_path: Path, packages: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    save(run / "checkpoints/last.ckpt", NET)

    def call(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).with_name(program)), str(run), *words]
        environment = {"PYTHONPATH": str(packages), "PATH": ""}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    (tmp_path / "a.pgm").write_bytes(b"P5 5 4 255\n" + bytes(20))
    image = str(tmp_path / "a.pgm")
    rejected = call("hwr-predict", image)
    assert (rejected.returncode, rejected.stderr.count("\n")) == (2, 1)
    assert "--trust my_pkg" in rejected.stderr
    done = call("hwr-predict", image, "--json", "--trust", "my_pkg", "--trust", "other")
    assert json.loads(done.stdout)["prediction"] in "abc", done.stderr
    assert call("hwr-export").returncode == 2
    done = call("hwr-export", "--trust", "my_pkg")
    assert done.returncode == 0, done.stderr
    assert hwr.load(run / "model.onnx").charset.names == ("a", "b", "c")
