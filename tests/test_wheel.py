"""Test the wheel, installed elsewhere with no checkout near: training, and inference alone."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from programs import TINY_MLP, run

from hwr.config.compose import compose
from hwr.data import synthetic
from hwr.inference import export
from hwr.training.train import train

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel alone."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, site = (tmp_path_factory.mktemp(name) for name in ("wheels", "site"))
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


def test_all_files_are_in_the_wheel(site: Path) -> None:
    """Settings, drawn letters, checksums and the mark of types, beside the modules."""
    for name in ("conf", "hwr"):
        ours = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.*")}
        place = site / "hwr/conf" if name == "conf" else site / "hwr"
        missing = [str(path) for path in ours if not (place / path).exists()]
        assert not [path for path in missing if "__pycache__" not in path]


def test_the_wheel_trains_elsewhere(site: Path, tmp_path: Path) -> None:
    code = "import hwr, hwr.cli.commands; print(hwr.__file__); hwr.cli.commands.train()"
    done = run(tmp_path, PYTHON, "-c", code, *TINY_MLP, "callbacks=default", PYTHONPATH=str(site))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(site) in done.stdout
    assert len(list(tmp_path.glob("outputs/*/*/metrics.json"))) == 1


def test_onnx_files_are_read_without_torch(site: Path, tmp_path: Path) -> None:
    """Inference with ONNX needs NumPy, Pillow and the packages of hwr[onnx], nothing else."""
    train(compose(TINY_MLP), tmp_path / "run")
    export.export(tmp_path / "run", tmp_path / "model.onnx")
    synthetic.draw_images(5, 0)[10].save(tmp_path / "a.png")
    packages = tmp_path / "packages"
    packages.mkdir()
    onnx = ("onnxruntime", "onnx", "google", "ml_dtypes", "typing_extensions.py")
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", *onnx):
        if (there := Path(numpy.__file__).parent.with_name(name)).exists():
            (packages / name).symlink_to(there)
    code = f"import sys; sys.path += [{str(site)!r}, {str(packages)!r}]\nimport hwr.cli.commands\n"
    read = "print(hwr.load('model.onnx').read('a.png'), hwr.__file__)"
    command = "sys.argv[1:] = [{!r}, 'a.png']; hwr.cli.commands.predict()"
    words = (read, command.format("model.onnx"), command.format("run"))
    one, two, three = (run(tmp_path, PYTHON, "-I", "-S", "-c", code + what) for what in words)
    assert one.stderr == two.stderr == ""
    character, file = one.stdout.split()
    assert str(site) in file
    assert two.stdout.split("\t")[:2] == ["a.png", character]
    assert three.returncode == 2
    assert three.stderr.endswith("last.ckpt needs torch, which is not installed\n")
