"""The commands as a user types them: one sentence, the exit code, nothing left behind."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from english import draw

from hwr import stopping
from hwr.stopping import stoppable, unstopped

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
        ("sweep=seeds", "sweep=seeds makes several runs; add -m"),
        ("-m sweep=seeds,lr", "sweep= takes one name"),
        ("-m sweep=nope", "no sweep=nope, there are kfold, lr, seeds, tpe, writers"),
        ("-m model.lr=interval(0.1,1)", "needs a search, such as sweep=tpe"),
        ("-m sweep=tpe experiment=notebook_cnn", "would choose settings by the test split"),
        ("-m sweep=tpe split.val_size=0", "objective=val/acc needs validation pictures"),
        ("-m sweep=tpe objective=test/acc", "by test pictures nothing is chosen"),
        ("-m sweep=tpe objective=null", "a search needs a validation figure"),
        ("-m sweep=tpe objective=val/loss", "hydra.sweeper.direction=minimize, not maximize"),
        ("-m sweep=tpe model=mlp", "no such setting: model.width"),
        ("-m trainer=ddp seed=0,1", "would start the whole sweep (-m) again"),
        ("-m hydra/launcher=slurm seed=0,1", "no Slurm here"),
        ("trainer=ddp trainer.devices=3", "data.batch_size=32 must be a multiple of the 3"),
        ("hydra.run.dir=/dev/null/x data=synthetic data.writers=1", "/dev/null/x"),
        ("hydra.run.dir= data=synthetic", "hydra.run.dir= is empty; it must name a folder"),
        ("-m seed=1 hydra.launcher._target_=nope", "hydra.launcher._target_=nope is no plugin"),
        ("-m seed=1 hydra.sweeper._target_=nope", "hydra.sweeper._target_=nope is no plugin"),
        ("-m seed=1 hydra.launcher=null", "hydra.launcher._target_=None is no plugin"),
        ("-m seed=0,1,0", "jobs 0 and 2 are one: seed=0"),
        ("-m hydra.sweep.subdir=x seed=1,2", "jobs 0 and 1 would both write into"),
        ("-m hydra.sweep.dir= data=synthetic seed=1,2", "hydra.sweep.dir= is empty"),
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


def test_a_folder_may_look_like_an_interpolation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWR_DATA", str(draw(tmp_path / "a${b")))
    words = ["model=mlp", "split.val_size=0", "trainer.max_epochs=1", "hydra.run.dir=run"]
    done = run(tmp_path, TRAIN, *words, "report=light")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["data"]["root"] == str(tmp_path / "a${b")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["seeed=1"]])
def test_answers_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys, hwr.commands\n"
        "try:\n    hwr.commands.train()\n"
        "finally:\n    heavy = {'torch', 'sklearn', 'pandas', 'PIL'} & set(sys.modules)\n"
        "    print('heavy:', heavy or None)"
    )
    done = run(tmp_path, Path(sys.executable), "-c", code, *arguments)
    assert done.stdout.endswith("heavy: None\n")
    assert done.returncode == (2 if arguments == ["seeed=1"] else 0)
    if arguments == ["--help"]:
        assert "schema" not in done.stdout
        assert "experiment: best, fast, notebook_cnn, notebook_mlp" in done.stdout


def test_sweep(tmp_path: Path) -> None:
    """A job that fails is marked, the others go on; started again, only what isn't done runs."""
    settings = "-m data=synthetic data.writers=4 model=mlp trainer.max_epochs=2 split.val_size=0"
    sweep = [*settings.split(), "seed=0,1", "hydra.sweep.dir=sweep"]
    done = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.01")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 3
    assert "hwr-train: job 1: split.test_size=0.01 of 248 pictures" in done.stderr
    assert "2 jobs failed: 1, 3; the same line with hydra.sweep.dir=sweep" in done.stderr
    folder = tmp_path / "sweep"
    assert [(folder / name / "metrics.json").exists() for name in "0123"] == [True, False] * 2
    failed = json.loads((folder / "1/failed.json").read_text())
    assert failed["error"].startswith("split.test_size=0.01 of 248 pictures")
    assert failed["config"]["split"]["test_size"] == 0.01

    table = run(tmp_path, TRAIN.with_name("hwr-runs"), "sweep", "--json")
    assert table.stderr == ""
    row, none = json.loads(table.stdout)
    assert (row["model"], row["runs"], row["parameters"]) == ("mlp", 2, 126_362)
    assert (none["runs"], none["failed"]) == (0, 2)

    first = (folder / "0/metrics.json").read_bytes()
    (folder / "2/metrics.json").unlink()  # as if it had been cut off
    for name in "13":
        shutil.rmtree(folder / name)
    again = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.3")
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{folder / '0'} is done already" in again.stdout
    assert (folder / "0/metrics.json").read_bytes() == first
    resumed = json.loads((folder / "2/metrics.json").read_text())
    assert resumed["config"]["ckpt"] == str(folder / "2/checkpoints/last.ckpt")
    assert resumed["epochs"] == 2
    other = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.4")
    sentence(other, "sweep/1 holds a run with split.test_size=0.3, not 0.4; choose another")


def test_a_stop_waits_where_it_would_become_an_error(request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background: ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    done = []

    @unstopped()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert handlers == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("work", [lambda: None, sys.exit, lambda: sys.exit(2)])
def test_a_stop_between_any_two_steps(
    work: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever line of `stoppable`, or of what it calls, SIGTERM meets, no traceback is seen."""
    early: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: early.append(number))
    ours, left = {stopping.__file__, signal.__file__}, 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in ours:
            return None
        left -= 1
        if left == 0:
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGTERM)
        return trace

    codes = []
    try:
        for number in itertools.count(1):
            left, code = number, 0
            try:
                sys.settrace(trace)
                stoppable("hwr-x", work)
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.settrace(None)
            if left > 0:  # it has ended before
                break
            codes.append(code)
    finally:
        signal.signal(signal.SIGTERM, before)
    by_itself = set(codes) - {143}
    assert len(by_itself) == 1
    assert 143 in codes
    assert len(early) < len(codes) - codes.count(143)
    assert capsys.readouterr().err.count("hwr-x: stopped") == codes.count(143)


def test_odd_streams(tmp_path: Path) -> None:
    """An output that can't say é, a closed error output, a folder that changes colours."""
    tiny = "data=synthetic data.writers=4 model=mlp trainer.max_epochs=1 split.val_size=0"
    where = "$'hydra.run.dir=\\'h-é\\e[31m\\''"
    done = subprocess.run(
        f"PYTHONIOENCODING=ascii {TRAIN} {tiny} report=none {where} 2>&-",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    (folder,) = tmp_path.glob("h-*")
    assert (folder / "metrics.json").exists()
    assert b"h-\\xe9" in done.stdout
    assert b"\x1b" not in done.stdout


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "\x1b[31mred.png").touch()
    program = Path(sys.executable).with_name("hwr-data")
    for command, code, sentence in (
        (f"{program} verify set", 1, ""),
        (f"{program} verify set > /dev/full", 2, "No space left on device: standard output"),
        (f"{program} draw a --writers 1 > /dev/full", 2, "space left on device: standard output"),
    ):
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        assert done.returncode == code
        assert sentence in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) <= 1
