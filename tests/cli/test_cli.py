"""Test the commands as a user types them: one sentence, the exit code, nothing left behind."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from english import draw
from programs import FOREST, TINY_FOREST, TINY_MLP, TRAIN, expect_user_error, run

import hwr
from hwr.cli import commands
from hwr.cli.launch import Checks
from hwr.errors import error_message

SCRIPTS = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
SCRIPTS = SCRIPTS["scripts"]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Return a function that runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    for name in ("folder", "planned"):
        monkeypatch.setattr(Checks, name, None)
    for name in ("HYDRA_FULL_ERROR", "HWR_FULL_ERROR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        with pytest.raises(SystemExit) as end:
            getattr(commands, SCRIPTS[command].partition(":")[2])()
        code = end.value.code or 0
        return subprocess.CompletedProcess(command, int(code), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("seeed=1", "hwr-train: no such setting: seeed; did you mean seed?"),
        ("+unknown=1", "no such setting: unknown"),
        ("seed=x", "seed=x: Value 'x' of type 'str' could not be converted to Integer"),
        ("seed=0,1", "add --multirun"),
        ("model=nope", "no model=nope, there are cnn, glyphnet, mlp"),
        ("-m seed=0,1 +unknown=1", "no such setting: unknown"),
        ("-m seed=0,x", "seed=x: Value 'x' of type 'str' could not be converted to Integer"),
        ("-m split=kfold split.fold=0,9", "split.fold=9 must lie"),
        ("-m model=cnn,nope", "no model=nope"),
        ("hydra.mode=MULTIRUN seed=0,1,0", "seed=0,1,0 has a value twice"),
        ("sweep=seeds", "sweep=seeds makes several runs; add -m"),
        ("-m sweep=seeds,lr", "sweep= takes one name"),
        ("-m sweep=nope", "no sweep=nope, there are kfold, lr, seeds, tpe, writers"),
        ("-m optimizer.lr=interval(0.1,1)", "needs a search, such as sweep=tpe"),
        ("-m sweep=tpe experiment=notebook_cnn", "the validation images are the test images"),
        ("-m sweep=tpe split.val_size=0", "optimized_metric=val/acc needs validation images"),
        ("-m sweep=tpe optimized_metric=test/acc", "nothing is chosen on test images"),
        ("-m sweep=tpe optimized_metric=null", "a search needs a validation metric"),
        ("-m sweep=tpe model=mlp", "no such setting: model.width_mult"),
        ("-m trainer=ddp seed=0,1", "would start the whole sweep (-m) again"),
        ("-m hydra/launcher=slurm seed=0,1", "no Slurm here"),
        ("hydra.run.dir=/dev/null/x", "/dev/null/x"),
        ("-m hydra.sweep.subdir=x seed=1,2", "must give each job a folder of its own"),
        ("data.root=absent", "no data folder absent"),
        ("-m seed=0,1 data.root=absent", "no data folder absent"),
        ("ckpt_path=absent", "ckpt_path=absent: no such checkpoint or run folder"),
        ("--experimental-rerun x", "pickle"),
        ("hydra.run.dir=\\${x}", "${x}: the name of a run folder must not hold ${"),
        ("data.root=${x}", r"write \${ for ${"),
        (
            "data=synthetic hydra.run.dir=x +trainer.max_time=0",
            "trainer.max_time=0 must be days, hours",
        ),
    ],
)
def test_mistakes(
    tmp_path: Path,
    drawn: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    arguments: str,
    words: str,
) -> None:
    monkeypatch.setenv("HWR_DATA", str(drawn))
    expect_user_error(call("hwr-train", *arguments.split()), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("seeed=1", 2),
        ("split.val_is_test=true", 2),
        ("data.root=absent", 2),
        ("ckpt_path=absent", 2),
        ("-m seed=0,-1", 2),
    ],
)
def test_answers_without_torch(tmp_path: Path, arguments: str, code: int) -> None:
    program = (
        "import sys, hwr.cli.commands\n"
        "try:\n    hwr.cli.commands.train()\n"
        "finally:\n    heavy = {'torch', 'sklearn', 'pandas', 'PIL'} & set(sys.modules)\n"
        "    print('heavy:', heavy or None)"
    )
    done = run(tmp_path, Path(sys.executable), "-c", program, *arguments.split())
    assert done.stdout.endswith("heavy: None\n")
    assert done.returncode == code
    if arguments == "--help":
        assert "schema" not in done.stdout
        assert "experiment: best, fast, notebook_cnn, notebook_mlp" in done.stdout


@pytest.mark.parametrize("command", SCRIPTS)
def test_version(call: Call, command: str) -> None:
    assert call(command, "--version").stdout == f"{command} {hwr.__version__}\n"


def test_module(tmp_path: Path) -> None:
    """`python -m hwr` lists the commands and runs one."""
    python = Path(sys.executable)
    listed = run(tmp_path, python, "-m", "hwr").stdout
    assert all(f"\n  {name.removeprefix('hwr-')} " in listed for name in SCRIPTS)
    assert run(tmp_path, python, "-m", "hwr", "--version").stdout == f"hwr {hwr.__version__}\n"
    assert run(tmp_path, python, "-m", "hwr", "nope").returncode == 2
    expect_user_error(
        run(tmp_path, python, "-m", "hwr", "train", "seeed=1"), "hwr-train: no such setting"
    )


def test_full_errors_on_request(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("HWR_FULL_ERROR")
    done = call("hwr-train", "split.test_size=1.5")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_run_folder_and_resume(tmp_path: Path) -> None:
    """A run folder is taken once; a resume adds to it, with Hydra's files beside the first."""
    words, folder = [*TINY_MLP, "hydra.run.dir=run"], tmp_path / "run"
    assert run(tmp_path, TRAIN, *words).returncode == 0
    files = {path.name for path in (folder / ".hydra").iterdir()}
    assert files == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    expect_user_error(run(tmp_path, TRAIN, *words), "or resume it with ckpt_path=")
    expect_user_error(run(tmp_path, FOREST, *TINY_FOREST, "hydra.run.dir=run"), "holds a run")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    more = ["ckpt_path=run/checkpoints/last.ckpt", "trainer.max_epochs=2"]
    done = run(tmp_path, TRAIN, *words, *more)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 2
    epochs = [
        yaml.safe_load((folder / ".hydra" / name / "config.yaml").read_text())["trainer"]
        for name in ("", "resume-1")
    ]
    assert [one["max_epochs"] for one in epochs] == [1, 2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space"), "No space: standard output"),
        (OSError(2, "No such file"), "No such file"),
        (OSError("cannot write mode"), "cannot write mode"),
        (OSError(), "OSError"),
    ],
)
def test_error_message(error: OSError, words: str) -> None:
    assert error_message(error) == words


def test_max_time_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit counts, and a variable of Slurm without srun does not."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    words = ["trainer.max_epochs=100000", "+trainer.max_time=00:00:00:01", "hydra.run.dir=~/é (1)"]
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run(tmp_path, TRAIN, *TINY_MLP, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "é (1)/metrics.json").is_file()


def test_broken_image_leaves_nothing(tmp_path: Path) -> None:
    root = draw(tmp_path / "data")
    (root / "Img/img001-001.png").write_text("no image")
    (tmp_path / "work").mkdir()
    for program in (TRAIN, FOREST):
        done = run(tmp_path / "work", program, f"data.root={root}", "hydra.run.dir=run")
        expect_user_error(done, "img001-001.png")
        assert list((tmp_path / "work").iterdir()) == []


def test_sweep(tmp_path: Path) -> None:
    """A job that fails is marked, the others go on; started again, only what isn't done runs."""
    sweep = ["-m", *TINY_MLP, "trainer.max_epochs=2", "seed=0,1", "hydra.sweep.dir=sweep"]
    done = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.01")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 3, done.stderr
    assert "hwr-train: job 1: split.test_size=0.01 splits 248 images" in done.stderr
    assert "jobs 1, 3 failed or did not finish; the same line with" in done.stderr
    folder = tmp_path / "sweep"
    assert [(folder / name / "metrics.json").exists() for name in "0123"] == [True, False] * 2
    failed = json.loads((folder / "1/failed.json").read_text())
    assert failed["error"].startswith("split.test_size=0.01 splits 248 images")
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
    assert resumed["config"]["ckpt_path"] == str(folder / "2/checkpoints/last.ckpt")
    assert resumed["epochs"] == 2
    hydra_files = [(folder / name / ".hydra/resume-1").exists() for name in "0123"]
    assert hydra_files == [False, False, True, False]
    other = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.4")
    expect_user_error(
        other, "sweep/1 holds a run with split.test_size=0.3, not 0.4; choose another"
    )


def stop(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """Stop a command, and return its sentence."""
    process.send_signal(by)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + by
    assert "Traceback" not in errors
    return errors.splitlines()[-1]


@pytest.mark.parametrize(("wait", "by"), [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_stop(tmp_path: Path, wait: float, by: signal.Signals) -> None:
    """A stop at any time, imports included, is one sentence; a run without results goes."""
    words = [*TINY_MLP, "trainer.max_epochs=100000", "hydra.run.dir=run"]
    with subprocess.Popen([TRAIN, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as one:
        while not (tmp_path / "run").exists():
            time.sleep(0.01)
        time.sleep(wait)
        assert stop(one, by).startswith("hwr-train: stopped")
    assert not (tmp_path / "run").exists() or len(list((tmp_path / "run").iterdir())) > 1


def test_stopped_sweep(tmp_path: Path) -> None:
    """What is left of the first job can be resumed."""
    words = ["-m", *TINY_MLP, "trainer.max_epochs=100000", "seed=0,1", "hydra.sweep.dir=s"]
    with subprocess.Popen([TRAIN, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as one:
        while not (tmp_path / "s/0/checkpoints/last.ckpt").exists():
            time.sleep(0.01)
        message = stop(one, signal.SIGTERM)
    assert message.startswith("hwr-train: stopped after ")
    assert message.endswith("; the same line with hydra.sweep.dir=s goes on")
    assert not (tmp_path / "s/1").exists()


def exits() -> None:
    """Stop as Lightning does."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        sys.exit(1)


def fails() -> None:
    """Stop as compiled modules do."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt as stop:
        raise ImportError from stop


def resumable() -> None:
    """Stop as training does."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; resume with x") from stop


def ignored() -> None:
    """Run under nohup."""
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("exits", 130, "hwr-x: stopped; no file is left half written\n"),
        ("fails", 143, "hwr-x: stopped; no file is left half written\n"),
        ("resumable", 143, "hwr-x: stopped; resume with x\n"),
        ("ignored", None, ""),
    ],
)
def test_stop_is_one_sentence(
    function: str,
    code: int | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.SIG_IGN if function == "ignored" else signal.default_int_handler
        before = signal.signal(number, handler)
        request.addfinalizer(partial(signal.signal, number, before))
    with pytest.raises(SystemExit) as end:
        commands.run_command("hwr-x", __name__, function)
    commands.signals.clear()
    assert end.value.code == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("PYTHONIOENCODING=ascii hwr-data verify é", 2, "no data folder"),
        ("hwr-data verify set", 1, ""),
        ("mkdir x; cd x; rmdir ../x; hwr-data verify set", 2, "working directory was removed"),
        ("hwr-data verify set > /dev/full", 2, "No space left on device: standard output"),
        ("hwr-data draw a --writers 1 > /dev/full", 2, "space left on device: standard output"),
    ],
)
def test_output(tmp_path: Path, command: str, code: int, words: str) -> None:
    """An output that is full, closed or lacks a letter, and file names that change colors."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "\x1b[31mred.png").touch()
    done = subprocess.run(
        f"PATH={TRAIN.parent}:$PATH; {command}",
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == code
    assert words in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) <= 1
