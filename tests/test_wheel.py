"""The wheel, installed elsewhere with no checkout near: it trains, and it reads without torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from hwr import export, synthetic
from hwr.config import compose
from hwr.train import train

ROOT = Path(__file__).resolve().parent.parent


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


def test_the_wheel_trains_elsewhere(site: Path, tmp_path: Path) -> None:
    overrides = "data=synthetic data.writers=4 model=mlp trainer.max_epochs=1 split.val_size=0"
    code = "import hwr, hwr.commands; print(hwr.__file__); hwr.commands.train()"
    done = subprocess.run(
        [sys.executable, "-c", code, *overrides.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(site) in done.stdout
    assert len(list(tmp_path.glob("outputs/*/*/metrics.json"))) == 1


def test_an_export_is_read_without_torch_and_pandas(site: Path, tmp_path: Path) -> None:
    settings = ["data=synthetic", "data.writers=4", "model=mlp", "trainer.max_epochs=1"]
    train(compose([*settings, "split.val_size=0"]), tmp_path / "run")
    export.export(tmp_path / "run", tmp_path / "model.onnx")
    synthetic.pictures(5, 0)[10].save(tmp_path / "a.png")
    packages = tmp_path / "packages"
    packages.mkdir()
    onnx = ("onnxruntime", "onnx", "google", "ml_dtypes", "typing_extensions.py")
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", *onnx):
        if (there := Path(numpy.__file__).parent.with_name(name)).exists():
            (packages / name).symlink_to(there)
    code = f"import sys; sys.path += [{str(site)!r}, {str(packages)!r}]\n"
    read = "import hwr; print(hwr.load('model.onnx').read('a.png'), hwr.__file__)"
    refused = "import hwr.commands; sys.argv[1:] = ['run', 'a.png']; hwr.commands.predict()"
    command = "import hwr.commands; sys.argv[1:] = ['model.onnx', 'a.png']; hwr.commands.predict()"
    one, two, three = (
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code + what],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for what in (read, command, refused)
    )
    assert one.stderr == two.stderr == ""
    character, file = one.stdout.split()
    assert str(site) in file
    assert two.stdout.split("\t")[:2] == ["a.png", character]
    assert three.returncode == 2
    assert three.stderr.endswith("last.ckpt needs torch, which is not installed\n")
