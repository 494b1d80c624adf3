"""Run the installed commands, as a user types them, with small settings."""

import os
import subprocess
import sys
from pathlib import Path

TRAIN, FOREST = (Path(sys.executable).with_name(f"hwr-{name}") for name in ("train", "forest"))
TINY = ["data=synthetic", "data.writers=4", "split.val_size=0"]
TINY_MLP = [*TINY, "model=mlp", "trainer.max_epochs=1", "callbacks=light"]
TINY_FOREST = [*TINY, "n_estimators=2", "plots=false"]


def run(
    folder: Path, program: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    line, env = [program, *arguments], {**os.environ, **environment}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)


def expect_user_error(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Expect exit code 2, and one line on stderr with these words."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr
