"""What the package promises as a whole: it imports lightly, and is alike inside and outside."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import hwr

ROOT = Path(__file__).resolve().parent.parent


def test_import_is_light() -> None:
    code = "import sys, hwr; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_resolves() -> None:
    assert all(getattr(hwr, name) is not None for name in hwr.__all__)


def test_version_and_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == version("hwr")
    pinned = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    for requirement in project["dependencies"]:
        name = requirement.partition(">=")[0].lower()
        assert name in pinned


def test_shipped_defaults_are_the_networks() -> None:
    """The arguments of the networks and the values in conf/model say the same."""
    for model in (hwr.MLP, hwr.CNN):
        config = vars(hwr.compose([f"model={model.__name__.lower()}"]).model)
        saved = dict(model(["a", "b", "c"]).hparams)
        for name in config.keys() - {"name"}:
            assert saved[name] == config[name]
