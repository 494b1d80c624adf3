"""The commands as a user types them: one sentence, the exit code, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw

TRAIN, FOREST = (Path(sys.executable).with_name(f"hwr-{name}") for name in ("train", "forest"))


def run(folder: Path, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def sentence(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Exit code 2, and one line on stderr with these words."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("seeed=1", "hwr-train: no such setting: seeed"),
        ("--cfg job +unknown=1", "no such setting: unknown"),
        ("-m seed=0,1 +unknown=1", "no such setting: unknown"),
        ("-m split=kfold split.fold=0,9", "split.fold=9 must lie"),
        ("-m model=cnn,nope", "no model=nope"),
        ("hydra.run.dir=/dev/null/x data=synthetic data.writers=1", "/dev/null/x"),
        ("data.root=absent", "no data folder absent"),
        ("--experimental-rerun x", "pickle"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: str, words: str) -> None:
    sentence(run(tmp_path, TRAIN, *arguments.split()), words)
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "outputs"])


def test_broken_picture_leaves_nothing(tmp_path: Path) -> None:
    root = draw(tmp_path / "data")
    (root / "Img/img001-001.png").write_text("no picture")
    (tmp_path / "work").mkdir()
    for program in (TRAIN, FOREST):
        done = run(tmp_path / "work", program, f"data.root={root}", "hydra.run.dir=run")
        sentence(done, "row 1: Img/img001-001.png cannot be read as a picture")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["seeed=1"]])
def test_answers_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys, hwr.cli\n"
        "try:\n    hwr.cli.train()\n"
        "finally:\n    heavy = {'torch', 'sklearn', 'pandas', 'PIL'} & set(sys.modules)\n"
        "    print('heavy:', heavy or None)"
    )
    done = run(tmp_path, Path(sys.executable), "-c", code, *arguments)
    assert done.stdout.endswith("heavy: None\n")
    assert done.returncode == (2 if arguments == ["seeed=1"] else 0)
    if arguments == ["--help"]:
        assert "schema" not in done.stdout
        assert "experiment: notebook_cnn, notebook_mlp" in done.stdout


def test_multirun_and_table(tmp_path: Path) -> None:
    settings = "data=synthetic data.writers=4 model=mlp trainer.max_epochs=1 split.val_size=0"
    done = run(
        tmp_path,
        TRAIN,
        "-m",
        *settings.split(),
        "seed=0,1",
        "split.test_size=0.25,0.01",
        "hydra.sweep.dir=sweep",
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 3
    assert "hwr-train: job 1: split.test_size=0.01 of 248 pictures" in done.stderr
    assert done.stderr.endswith("2 jobs failed: 1, 3\n")
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == [
        "0",
        "2",
        "multirun.yaml",
    ]
    table = run(tmp_path, TRAIN.with_name("hwr-runs"), "sweep", "--json")
    assert table.stderr == ""
    (row,) = json.loads(table.stdout)
    assert (row["model"], row["runs"], row["parameters"]) == ("mlp", 2, 126_362)
