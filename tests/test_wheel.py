"""The wheel, installed elsewhere with no checkout near, trains on the built-in set."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_wheel_works_elsewhere(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, site, work = (tmp_path / name for name in ("wheels", "site", "work"))
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    work.mkdir()
    overrides = "data=synthetic data.writers=4 model=mlp trainer.max_epochs=1 split.val_size=0"
    code = "import hwr, hwr.cli; print(hwr.__file__); hwr.cli.train()"
    done = subprocess.run(
        [sys.executable, "-c", code, *overrides.split()],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(site) in done.stdout
    assert len(list(work.glob("outputs/*/*/metrics.json"))) == 1
