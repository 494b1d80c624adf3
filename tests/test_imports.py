"""Rooms import one way only, and inference needs neither Lightning nor, for ONNX, torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "hwr"
ROOMS = ("cli", "training", "baselines", "inference", "runs", "callbacks", "reporting", "data")
ROOMS += ("models", "preprocessing", "config")
"""A room may import the rooms behind it."""
FILES = {"__init__.py", "__main__.py", "charset.py", "errors.py", "files.py"}
"""Files at the root, which every room may import."""


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every import in a file, in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def forbidden(file: Path) -> list[str]:
    """List the imports of a file that go to a room above its own."""
    parts = file.relative_to(ROOT).parts
    own = ROOMS.index(parts[0]) if len(parts) > 1 else len(ROOMS)
    wrong = []
    for line, name in imported(file):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "hwr" and room in ROOMS and ROOMS.index(room) < own:
            wrong.append(f"{'/'.join(parts)}:{line} imports {name}")
    return wrong


def test_rooms_import_one_way() -> None:
    """Only __init__.py, which imports names when they are used, and __main__.py refer to rooms."""
    files = [file for file in ROOT.rglob("*.py") if file.parent != ROOT or file.name[0] != "_"]
    assert {file.relative_to(ROOT).parts[0] for file in files if file.parent != ROOT} == {*ROOMS}
    assert {file.name for file in ROOT.glob("*.py")} == FILES
    assert [line for file in files for line in forbidden(file)] == []


def test_rooms_are_small() -> None:
    """A reader sees all files of a room at a glance."""
    for room in ROOMS:
        files = sorted(file.name for file in (ROOT / room).glob("*.py"))
        assert len(files) <= 10, (room, files)


def test_forbidden_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In functions and in both forms of an import."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "data").mkdir()
    file = tmp_path / "data/folder.py"
    file.write_text("import hwr.errors\ndef f():\n    from hwr import cli\n    import hwr.runs.x\n")
    assert [line.split()[0] for line in forbidden(file)] == ["data/folder.py:3", "data/folder.py:4"]


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import hwr", ("torch", "numpy", "hydra")),
        ("import hwr.cli.runs", ("torch",)),
        ("import hwr.baselines.forest", ("pytorch_lightning",)),
        ("import hwr.inference", ("torch", "pytorch_lightning")),
        ("import hwr.inference.loading, hwr.inference.recognizer", ("torch", "pytorch_lightning")),
        ("import hwr.inference.checkpoint, hwr.inference.trust", ("pytorch_lightning",)),
        ("import hwr.preprocessing.decode, hwr.preprocessing.preprocessor", ("torch",)),
        ("import hwr.models", ("pytorch_lightning",)),
        ("import hwr.config.compose, hwr.config.checks", ("torch", "pytorch_lightning")),
    ],
)
def test_light_imports(code: str, absent: tuple[str, ...]) -> None:
    """A deployment without these packages can import the room."""
    code = f"import sys; {code}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inference_imports_no_lightning() -> None:
    """Lazy imports count too; what reads ONNX files imports no torch."""

    def packages(file: str) -> set[str]:
        return {name.partition(".")[0] for _, name in imported(ROOT / file)}

    for room in ("inference", "preprocessing"):
        for file in (ROOT / room).glob("*.py"):
            assert not {"pytorch_lightning", "lightning"} & packages(f"{room}/{file.name}")
    assert "torch" not in packages("inference/onnxfile.py") | packages("inference/recognizer.py")
