"""Test the package as a whole: versions, defaults and files agree."""

import inspect
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hydra.utils import get_class

import hwr
from hwr.config.compose import plain

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(
    line.lower().replace("_", "-").split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
)


def test_every_name_resolves() -> None:
    assert all(getattr(hwr, name) is not None for name in hwr.__all__)


def test_the_other_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch", ModuleType("lightning.pytorch"))
    with pytest.warns(UserWarning, match="needs the Trainer of pytorch_lightning"):
        hwr.MLP(["a", "b"])


def test_versions() -> None:
    """Everything installed is pinned, to the version that pre-commit's hooks use."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert hwr.__version__ == version("hwr") == citation["version"]
    assert {re.split("[>=]", text)[0].lower() for text in PROJECT["dependencies"]} <= PINNED.keys()
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in local["hooks"]:
        assert hook["language"] == "python"
        for requirement in hook["additional_dependencies"]:
            name, pinned = requirement.split("==")
            assert PINNED[name] == pinned


def test_workflow() -> None:
    """The workflow for GitHub tests every Python that pyproject.toml names, on three systems."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    pythons = [name.rpartition(" :: ")[2] for name in PROJECT["classifiers"] if "3." in name]
    assert matrix["python"] == pythons
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            for path in re.findall(r"tests/\w+", step.get("run", "")):
                assert (ROOT / path).is_dir()


@pytest.mark.parametrize("name", ["MLP", "CNN", "GlyphNet"])
def test_shipped_defaults_are_the_models(name: str) -> None:
    """The defaults of the classes and the values in conf/ are the same."""
    config = plain(hwr.compose([f"model={name.lower()}", "output_dir=run"]))
    node = config["model"]
    defaults = inspect.signature(get_class(node.pop("_target_"))).parameters
    assert node == {key: defaults[key].default for key in node}
    assert getattr(hwr, name).default_optimizer.items() <= config["optimizer"].items()
