"""Run a command in a process of its own that reports its phases, and that can be hit in one.

A server that has imported what is slow, and done nothing else, forks the process: in a fork of the
tests' own process, torch would wait for threads that only the tests have.
"""

import contextlib
import encodings.utf_8_sig  # noqa: F401  somebody who isn't root may not read them later
import faulthandler
import importlib.readers  # noqa: F401
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from hwr.baselines import forest
from hwr.callbacks import AtomicCheckpointIO, SeedEachEpoch
from hwr.cli import commands
from hwr.cli import data as dataset
from hwr.cli import predict as reading
from hwr.data import cache, fetch, folder
from hwr.inference import export
from hwr.reporting import dataset as show
from hwr.training import evaluate, train

SECONDS = 200
"""A command that takes longer hangs; it ends with exit code 1, and says where it hung."""
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", *(name for name in sys.modules if name[:4] == "hwr.")])

COMMANDS: dict[str, Callable[[], None]] = {
    "hwr-train": commands.train,
    "hwr-forest": commands.forest,
    "hwr-evaluate": commands.evaluate,
    "hwr-data": commands.dataset,
    "hwr-export": commands.export,
    "hwr-predict": commands.predict,
    "hwr-runs": commands.runs,
    "hwr-board": commands.board,
}
PHASES = (
    (folder, "digest", "preparation"),
    (cache, "atomic_write", "cache"),
    (train.build, "build_model", "building"),
    (SeedEachEpoch, "on_train_epoch_start", "training"),
    (AtomicCheckpointIO, "save_checkpoint", "checkpoint"),
    (evaluate, "test", "test"),
    (train.run, "finish", "report"),
    (forest, "fit_forest", "fitting"),
    (forest.forestfile, "save", "model"),
    (evaluate, "load", "loading"),
    (evaluate.metrics, "bootstrap", "test"),
    (dataset, "draw", "drawing"),
    (fetch, "_copy_images", "writing"),
    (show, "atomic_write", "writing"),
    (export, "load", "loading"),
    (export, "atomic_write", "exporting"),
    (reading, "load", "loading"),
    (reading, "_predict", "predicting"),
)
"""Functions with which a phase begins."""


@dataclass
class Ended:
    """What is left of a process.

    Attributes:
        code: Its exit code; minus the signal that killed it.
        output: What it wrote to standard output and error.
        marks: Each phase that it entered, and after how many seconds.
    """

    code: int
    output: str
    marks: list[tuple[str, float]]

    @property
    def phase(self) -> str:
        """The last phase; `end` if the command ended well."""
        return self.marks[-1][0] if self.marks else "start"


@dataclass
class Aim:
    """When a process is hit.

    Attributes:
        act: Called with the number of the process.
        phase: In which.
        skipped: How often the phase begins before that.
        after: Seconds after the phase began.
    """

    act: Callable[[int], Any]
    phase: str
    skipped: int = 0
    after: float = 0.0


@dataclass
class Running:
    """A command that runs.

    Attributes:
        process: Its process.
        output: File of its output.
        pipe: Where it reports its phases.
        started: When.
    """

    process: ForkServerProcess
    output: Path
    pipe: Connection
    started: float

    def wait(self, aim: Aim | None = None) -> Ended:
        """Wait for its end, and hit it on the way."""
        marks: list[tuple[str, float]] = []
        with self.pipe, os.fdopen(self.pipe.fileno(), closefd=False) as lines:
            for line in lines:
                marks.append((line.strip(), time.perf_counter() - self.started))
                if aim and [name for name, _ in marks].count(aim.phase) == aim.skipped + 1:
                    time.sleep(aim.after)
                    assert self.process.pid
                    with contextlib.suppress(ProcessLookupError):  # it has just ended
                        aim.act(self.process.pid)
                    aim = None
        self.process.join()
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, self.output.read_text(errors="replace"), marks)


Before = Callable[[], Any]
"""Called in the process before the command; a module's function, or a partial one."""


def start(place: Path, command: str, arguments: Sequence[str], *before: Before) -> Running:
    """Start a command in a folder; its output goes to a file beside the folder.

    Args:
        place: The folder.
        command: One of `COMMANDS`.
        arguments: Its arguments.
        before: Functions called in the process before the command.
    """
    output = place.with_suffix(".txt")
    receiver, sender = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=_run, args=(place, output, sender, command, arguments, before))
    with sender:
        process.start()
    return Running(process, output, receiver, time.perf_counter())


def run(place: Path, command: str, arguments: Sequence[str], *before: Before) -> Ended:
    """Run a command in a folder to its end."""
    return start(place, command, arguments, *before).wait()


def fetches(digests: dict[str, str]) -> None:
    """Let hwr-data fetch know another dataset."""
    fetch.manifest = lambda: digests


def limit_files(most: int) -> None:
    """Let no file grow beyond so many bytes, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def limit_onnx() -> None:
    """Do nothing: ONNX files have no time limit."""


def import_from(folder: Path) -> None:
    """Import modules from a folder, too."""
    sys.path.insert(0, str(folder))


def prefer(programs: Path) -> None:
    """Look for programs in a folder first."""
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"


def _run(
    place: Path,
    output: Path,
    marks: Connection,
    command: str,
    arguments: Sequence[str],
    before: Sequence[Before],
) -> None:
    """Run a command in this process, which ends here."""
    code = 1
    try:
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(written, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        for number in (signal.SIGINT, signal.SIGTERM):  # a command that has ended can't be stopped
            signal.signal(number, lambda *_: None)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        for owner, name, phase in PHASES:
            setattr(owner, name, _reporting(getattr(owner, name), phase, marks.fileno()))
        os.chdir(place)
        sys.argv = [command, *arguments]
        for function in before:
            function()
        COMMANDS[command]()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt as stop:  # when the command has just ended, or where none may be
        names = [frame.name for frame in traceback.extract_tb(stop.__traceback__)]
        code = int(names[-2:] != ["run_command", "_stop"])
    except BaseException:
        traceback.print_exc()
    finally:
        if code == 0:
            os.write(marks.fileno(), b"end\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reporting(function: Callable[..., Any], phase: str, pipe: int) -> Callable[..., Any]:
    def reported(*arguments: Any, **named: Any) -> Any:
        with contextlib.suppress(OSError):
            os.write(pipe, f"{phase}\n".encode())
        return function(*arguments, **named)

    return reported
