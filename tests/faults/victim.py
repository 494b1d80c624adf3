"""A command in a process of its own that says which phase it is in, and that can be hit there.

A server that has imported what is slow, and done nothing else, forks the process: in a fork of the
tests' own process, torch would wait for threads that only the tests have.
"""

import contextlib
import encodings.utf_8_sig  # noqa: F401  somebody who isn't root may not read them later
import importlib.readers  # noqa: F401
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from hwr import (
    commands,
    data,
    dataset,
    download,
    export,
    fetch,
    forest,
    forestfile,
    onnxfile,
    recorder,
    report,
)
from hwr import train as training
from hwr.stopping import Terminated

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
    (data, "_digest", "preparation"),
    (data, "_cached", "preparation"),
    (data, "whole", "cache"),
    (training, "build", "building"),
    (recorder.Recorder, "on_train_epoch_start", "training"),
    (recorder.WholeCheckpointIO, "save_checkpoint", "checkpoint"),
    (training, "_finish", "test"),
    (forest, "RandomForestClassifier", "fitting"),
    (forest, "_figures", "test"),
    (forestfile, "save", "model"),
    (report, "write", "report"),
    (dataset, "draw", "drawing"),
    (download, "_continue", "downloading"),
    (fetch, "_write", "writing"),
    (export, "load", "loading"),
    (export, "whole", "exporting"),
)
"""Where a phase begins."""


@dataclass
class Ended:
    """What is left of a process.

    Attributes:
        code: Its exit code; minus the signal that killed it.
        said: What it wrote to standard output and error.
        phase: The last that it was in.
        marks: All of them, and the seconds after which each began.
    """

    code: int
    said: str
    phase: str
    marks: list[tuple[str, float]]


@dataclass
class Victim:
    """A command that runs.

    Attributes:
        process: What it runs in.
        output: Where its output goes.
        told: Where it tells its phases.
        started: When.
    """

    process: ForkServerProcess
    output: Path
    told: Connection
    started: float

    def wait(self, aim: "Aim | None" = None) -> Ended:
        """Until it has ended; it is hit on the way."""
        marks: list[tuple[str, float]] = []
        with self.told, os.fdopen(self.told.fileno(), closefd=False) as lines:
            for line in lines:
                marks.append((line.strip(), time.perf_counter() - self.started))
                if aim and [name for name, _ in marks].count(aim.phase) == aim.time_of + 1:
                    time.sleep(aim.after)
                    assert self.process.pid
                    with contextlib.suppress(ProcessLookupError):  # it has just ended
                        aim.by(self.process.pid)
                    aim = None
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        said = self.output.read_text(errors="replace")
        return Ended(code, said, marks[-1][0] if marks else "start", marks)


@dataclass
class Aim:
    """When a process is hit.

    Attributes:
        by: What is done to it, given its number.
        phase: In which.
        time_of: It is hit when the phase begins for the time after so many.
        after: Seconds after the phase began.
    """

    by: Callable[[int], Any]
    phase: str
    time_of: int = 0
    after: float = 0.0


def knows(digests: dict[str, str], cache: Path | None = None) -> None:
    """Before hwr-data fetch: the data set that it knows is another, of these pictures."""
    fetch.manifest = lambda: digests
    os.environ |= {"no_proxy": "*"} | ({"HWR_CACHE": str(cache)} if cache else {})


def limited(most: int) -> None:
    """Before a command that can write no file beyond so many bytes, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def hurried() -> None:
    """Before a command that would wait a minute for an ONNX file."""
    onnxfile.MOST_SECONDS = 2


def finds(programs: Path) -> None:
    """Before a command: programs are looked for in this folder first."""
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"


def one_by_one(*befores: Callable[[], Any]) -> None:
    """Before a command: several things."""
    for before in befores:
        before()


def start(
    folder: Path,
    command: str,
    arguments: Sequence[str],
    before: Callable[[], Any] | None = None,
) -> Victim:
    """Start a command in a folder.

    Args:
        folder: Where it runs; its output goes to a file beside it.
        command: One of `COMMANDS`.
        arguments: Its arguments.
        before: Called in the process, before the command; a module's function or a partial one.
    """
    output = folder.with_suffix(".txt")
    told, tell = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=_be, args=(folder, output, tell, command, arguments, before))
    with tell:
        process.start()
    return Victim(process, output, told, time.perf_counter())


def run(
    folder: Path,
    command: str,
    arguments: Sequence[str],
    aim: Aim | None = None,
    before: Callable[[], Any] | None = None,
) -> Ended:
    """Run a command in a folder to its end."""
    return start(folder, command, arguments, before).wait(aim)


def _be(
    folder: Path,
    output: Path,
    tell: Connection,
    command: str,
    arguments: Sequence[str],
    before: Callable[[], Any] | None,
) -> None:
    """Become the command; never returns."""
    code = 1
    try:
        told = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(told, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.default_int_handler)
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        _mark(tell.fileno())
        os.chdir(folder)
        sys.argv = [command, *arguments]
        if before:
            before()
        try:
            COMMANDS[command]()
            code = 0
        except SystemExit as end:  # a stop that comes just here finds the command ended
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt as stop:  # a command lets none through, but it may have ended
        names = [frame.name for frame in traceback.extract_tb(stop.__traceback__)]
        ended = "stoppable" in names or names[-1] == "_be"
        code = 0 if ended and not isinstance(stop, Terminated) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            for one in (signal.SIGINT, signal.SIGTERM):  # it has ended, and can't be stopped now
                signal.signal(one, signal.SIG_IGN)
            if code == 0:
                os.write(tell.fileno(), b"end\n")
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _mark(write: int) -> None:
    """Let every phase tell when it begins."""
    for owner, name, phase in PHASES:
        setattr(owner, name, _telling(getattr(owner, name), phase, write))


def _telling(function: Callable[..., Any], phase: str, write: int) -> Callable[..., Any]:
    def told(*arguments: Any, **named: Any) -> Any:
        with contextlib.suppress(OSError):
            os.write(write, f"{phase}\n".encode())
        return function(*arguments, **named)

    return told


def moments(marks: Sequence[tuple[str, float]]) -> Iterator[tuple[str, int, float]]:
    """Each time a phase began: which, the how many-th, and how long it took."""
    seen: dict[str, int] = {}
    for (name, began), (_, ended) in pairwise(marks):
        yield name, seen.setdefault(name, 0), ended - began
        seen[name] += 1
