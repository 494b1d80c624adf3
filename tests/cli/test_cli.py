"""Test the commands as a user types them: one sentence, the exit code, nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from english import draw
from programs import FOREST, TINY_FOREST, TINY_MLP, TRAIN, run, sentence

from hwr.cli import stopping
from hwr.cli.stopping import stoppable


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
        ("-m sweep=tpe experiment=notebook_cnn", "would choose by the test images"),
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
        ("--exp x", "pickle"),
    ],
)
def test_mistakes(
    tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
) -> None:
    monkeypatch.setenv("HWR_DATA", str(drawn))
    sentence(run(tmp_path, TRAIN, *arguments.split()), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("--cfg job", 0),
        ("seeed=1", 2),
        ("split.test_size=1.5", 2),
        ("trainer.max_epochs=many", 2),
        ("split.val_is_test=true", 2),
        ("data.root=absent", 2),
        ("ckpt_path=absent", 2),
        ("-m seed=0,-1", 2),
        ("-m sweep=tpe split.val_size=0", 2),
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


def test_full_errors_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for arguments in (["seeed=1"], ["split.test_size=1.5"], ["-m", "seed=0,-1"]):
        done = run(tmp_path, TRAIN, *arguments)
        assert done.returncode == 2
        assert "Traceback" in done.stderr


def test_hydra_files_of_a_run(tmp_path: Path) -> None:
    """Hydra's files stand in .hydra/, those of a resume beside them; a finished run keeps its."""
    done = run(tmp_path, FOREST, *TINY_FOREST, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (tmp_path / "run/.hydra").iterdir()}
    assert files == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    sentence(run(tmp_path, FOREST, *TINY_FOREST, "hydra.run.dir=run", "seed=1"), "holds a run")
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert before == after
    (tmp_path / "run/metrics.json").unlink()
    done = run(tmp_path, FOREST, *TINY_FOREST, "hydra.run.dir=run", "seed=1")
    assert done.returncode == 0, done.stderr
    assert [hydra_seed(tmp_path / "run", name) for name in ("", "resume-1")] == [0, 1]


def hydra_seed(folder: Path, name: str) -> int:
    settings = yaml.safe_load((folder / ".hydra" / name / "config.yaml").read_text())
    return int(settings["seed"])


def test_a_finished_run_can_be_resumed(tmp_path: Path) -> None:
    words = [*TINY_MLP, "hydra.run.dir=run"]
    assert run(tmp_path, TRAIN, *words).returncode == 0
    sentence(run(tmp_path, TRAIN, *words), "or resume it with ckpt_path=")
    more = ["ckpt_path=run/checkpoints/last.ckpt", "trainer.max_epochs=2"]
    done = run(tmp_path, TRAIN, *words, *more)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["epochs"] == 2
    assert hydra_seed(tmp_path / "run", "resume-1") == 0


def test_broken_image_leaves_nothing(tmp_path: Path) -> None:
    root = draw(tmp_path / "data")
    (root / "Img/img001-001.png").write_text("no image")
    (tmp_path / "work").mkdir()
    for program, folder in ((TRAIN, "run"), (FOREST, "a/b/run")):
        done = run(tmp_path / "work", program, f"data.root={root}", f"hydra.run.dir={folder}")
        sentence(done, "img001-001.png")
        assert list((tmp_path / "work").iterdir()) == []
    (tmp_path / "work/b").mkdir()
    sentence(run(tmp_path / "work", FOREST, f"data.root={root}", "hydra.run.dir=b/run"), "001.png")
    assert list((tmp_path / "work").rglob("*")) == [tmp_path / "work/b"]


def test_a_folder_may_look_like_an_interpolation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWR_DATA", str(draw(tmp_path / "a${b")))
    done = run(tmp_path, FOREST, "n_estimators=2", "plots=false", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run/metrics.json").read_text())["config"]
    assert config["data"]["root"] == str(tmp_path / "a${b")


def test_sweep(tmp_path: Path) -> None:
    """A job that fails is marked, the others go on; started again, only what isn't done runs."""
    sweep = ["-m", *TINY_MLP, "trainer.max_epochs=2", "seed=0,1", "hydra.sweep.dir=sweep"]
    done = run(tmp_path, TRAIN, *sweep, "split.test_size=0.25,0.01")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 3, done.stderr
    assert "hwr-train: job 1: split.test_size=0.01 of 248 images" in done.stderr
    assert "jobs 1, 3 failed or did not finish; the same line with" in done.stderr
    folder = tmp_path / "sweep"
    assert [(folder / name / "metrics.json").exists() for name in "0123"] == [True, False] * 2
    failed = json.loads((folder / "1/failed.json").read_text())
    assert failed["error"].startswith("split.test_size=0.01 of 248 images")
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
    sentence(other, "sweep/1 holds a run with split.test_size=0.3, not 0.4; choose another")


def test_a_stop_in_a_command(tmp_path: Path) -> None:
    """A stop at any time, imports included, is one sentence; a run without results goes."""
    for number, wait in enumerate((0.0, 1.0, 3.0)):
        place = f"hydra.run.dir={number}/${{now:%f}}"
        words = [*TINY_MLP, "trainer.max_epochs=100000", place]
        with subprocess.Popen(
            [TRAIN, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as process:
            while not list(tmp_path.glob(f"{number}/*")):
                time.sleep(0.01)
            time.sleep(wait)
            stop = (signal.SIGINT, signal.SIGTERM)[number % 2]
            process.send_signal(stop)
            said = process.communicate()[1]
        assert process.returncode == 128 + stop
        assert said.splitlines()[-1].startswith("hwr-train: stopped")
        assert "Traceback" not in said
        for folder in tmp_path.glob(f"{number}/*"):
            assert len(list(folder.iterdir())) > 1


def test_a_stopped_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    words = ["-m", *TINY_MLP, "trainer.max_epochs=100000", "seed=0,1", "hydra.sweep.dir=s"]
    with subprocess.Popen(
        [TRAIN, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "s/0/checkpoints/last.ckpt").exists():
            time.sleep(0.01)
        process.terminate()
        said = process.communicate()[1]
    assert process.returncode == 143
    assert said.startswith("hwr-train: stopped after ")
    assert said.endswith("; the same line with hydra.sweep.dir=s goes on\n")
    assert not (tmp_path / "s/1").exists()


def exits() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        sys.exit(1)  # as Lightning does


def fails() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt as stop:
        raise ImportError from stop  # as compiled modules do


def resumable() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt as stop:
        raise type(stop)("stopped; resume with x") from stop


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        (exits, 130, "hwr-x: stopped; no file is left half written\n"),
        (fails, 143, "hwr-x: stopped; no file is left half written\n"),
        (resumable, 143, "hwr-x: stopped; resume with x\n"),
        (lambda: sys.exit(2), 2, ""),
    ],
)
def test_a_stop_is_one_sentence(
    work: Callable[[], None],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background: ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as end:
        stoppable("hwr-x", work)
    stopping.received.clear()
    assert end.value.code == code
    assert capsys.readouterr().err == said
    assert handlers == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]


def test_a_stop_that_is_ignored_stays_ignored(request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as by nohup
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    stoppable("hwr-x", lambda: os.kill(os.getpid(), signal.SIGINT))
    assert not stopping.received


def test_odd_streams(tmp_path: Path) -> None:
    """An output that can't say é, a closed error output, a folder that changes colors."""
    where = "$'hydra.run.dir=\\'h-é\\e[31m\\''"
    done = subprocess.run(
        f"PYTHONIOENCODING=ascii {FOREST} {' '.join(TINY_FOREST)} {where} 2>&-",
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
    for command, code, words in (
        (f"{program} verify set", 1, ""),
        (f"{program} verify set > /dev/full", 2, "No space left on device: standard output"),
        (f"{program} draw a --writers 1 > /dev/full", 2, "space left on device: standard output"),
    ):
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        assert done.returncode == code
        assert words in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) <= 1
