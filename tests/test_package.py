"""Test the package as a whole: it imports lightly, and its versions and defaults agree."""

import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra.utils import get_class

import hwr
from hwr.config.compose import plain

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


@pytest.mark.parametrize("name", ["MLP", "CNN", "GlyphNet"])
def test_shipped_defaults_are_the_models(name: str) -> None:
    """The defaults of the classes and the values in conf/ are the same."""
    config = plain(hwr.compose([f"model={name.lower()}", "output_dir=run"]))
    node = config["model"]
    defaults = inspect.signature(get_class(node.pop("_target_"))).parameters
    assert node == {key: defaults[key].default for key in node}
    assert getattr(hwr, name).default_optimizer.items() <= config["optimizer"].items()
