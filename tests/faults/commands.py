"""Run commands in processes of their own, which a test can limit, stop or kill.

A fork server imports the slow libraries once, so a command starts in a tenth of a second.
"""

import contextlib
import faulthandler
import importlib
import itertools
import json
import multiprocessing
import os
import pkgutil
import resource
import shlex
import signal
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import hwr

SEED = int(os.environ.get("HWR_FAULTS_SEED", "0"))
WHOLE = os.environ.get("HWR_FAULTS") == "whole"
ROOT = Path(__file__).parents[2]
PROGRAMS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
TIMEOUT = 200
"""Seconds after which a command hangs: it ends with exit code 1 and a traceback."""
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([one.name for one in pkgutil.walk_packages(hwr.__path__, "hwr.")])

SMALL = ["data=folder", "data.height=60", "data.width=80", "data.batch_size=8"]
TRAIN = [*SMALL, "model=mlp", "model.hidden=8", "trainer.max_epochs=4", "monitor=val/loss"]
TRAIN += ["split.val_size=0.34", f"callbacks={'default' if WHOLE else 'light'}"]
DATA = ["data.root={data}", "data.cache={cache}"]
COMMANDS = {
    "hwr-train": [*TRAIN, *DATA, "hydra.run.dir={out}"],
    "hwr-train -m": [*TRAIN, *DATA, "hydra.sweep.dir={out}", "seed=0,1"],
    "hwr-forest": [*SMALL[:3], *DATA, "n_estimators=20", "hydra.run.dir={out}"],
    "hwr-evaluate": ["data=folder", *DATA, "ckpt_path={run}", "hydra.run.dir={out}"],
    "hwr-data draw": ["{out}", "--writers", "1"],
    "hwr-data show": ["{data}", "--out", "{out}"],
    "hwr-predict": ["{run}", "{data}/Img"],
    "hwr-export": ["{run}", "--out", "{out}/model.onnx"],
}
"""Arguments of the commands that are killed, and that meet full disks."""
NUMBERS = itertools.count()
Before = Callable[[], Any]
"""Called in a command's process before the command: a function of a module, or a partial."""


@dataclass
class Result:
    """How a command ended: exit code, or minus the signal that killed it; all that it wrote."""

    code: int
    output: str
    seconds: float

    def expect_one_line(self, codes: Sequence[int] = (2,)) -> str:
        """Expect one of the exit codes and one sentence without a traceback; return it."""
        assert self.code in codes, self.output
        assert "Traceback" not in self.output, self.output
        *others, last = self.output.splitlines()
        assert last.startswith("hwr-"), self.output
        assert self.code != 2 or all(x.startswith(("hwr", "usage:", " ")) for x in others)
        return last


class Running:
    """A command that runs in a folder, which is made; its output goes to a file beside it."""

    def __init__(self, folder: Path, line: str | Sequence[str], *before: Before) -> None:
        words = shlex.split(line) if isinstance(line, str) else list(map(str, line))
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder.with_name(f"{folder.name}.{next(NUMBERS)}.txt")
        self.process = SERVER.Process(target=_run, args=(folder, self.output, words, before))
        self.process.start()
        while not self.output.exists():  # the server imports before its first fork
            time.sleep(0.001)
        self.started = time.perf_counter()

    def kill(self, by: signal.Signals) -> None:
        """Send a signal, if the command still runs."""
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, by)

    def wait(self) -> Result:
        """Wait until the command ends."""
        self.process.join()
        assert self.process.exitcode is not None
        seconds = time.perf_counter() - self.started
        return Result(self.process.exitcode, self.output.read_text(errors="replace"), seconds)


def run(folder: Path, line: str | Sequence[str], *before: Before) -> Result:
    """Run a command in a folder until it ends."""
    return Running(folder, line, *before).wait()


def _run(folder: Path, output: Path, words: list[str], before: Sequence[Before]) -> None:
    """Run a command in this process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a command that has ended can't be stopped
        signal.signal(number, lambda *_: None)
    written = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.argv = words
    for function in before:
        function()
    module, _, name = PROGRAMS[words[0]].partition(":")
    getattr(importlib.import_module(module), name)()


def limit_files(size: int) -> None:
    """Let no file grow beyond so many bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def limit_memory(mebibytes: int = 600) -> None:
    """Let the process take no more than so much memory on top of what it has."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = (int(status["VmData"].split()[0]) // 1024 + mebibytes) * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


@dataclass
class Job:
    """One of `COMMANDS`, which reads a dataset and a finished run, and writes into a folder."""

    name: str
    data: Path
    run: Path
    folder: Path

    @property
    def out(self) -> Path:
        """Return the folder of the results."""
        return self.folder / "out"

    def start(self, *more: str, before: Sequence[Before] = ()) -> Running:
        """Start the command."""
        places = {"data": self.data, "run": self.run, "out": self.out}
        places["cache"] = self.folder / "cache"
        words = [word.format(**places) for word in COMMANDS[self.name]]
        return Running(self.folder, [*self.name.split(), *words, *more], *before)

    def again(self) -> Result:
        """Run the same line again, from the last checkpoint if there is one."""
        last = self.out / "checkpoints/last.ckpt"
        return self.start(*([f"ckpt_path={last}"] if last.exists() else [])).wait()

    def results(self) -> dict[str, Any]:
        """Return metrics, predictions and weights of finished runs, or the bytes of other files."""
        files = {str(x.relative_to(self.out)): x for x in self.out.rglob("*") if x.is_file()}
        if self.name.startswith(("hwr-data", "hwr-export")):
            return {name: x.read_bytes() for name, x in files.items() if x.suffix != ".part"}
        results: dict[str, Any] = {}
        for name in files:
            if Path(name).name in ("metrics.json", "evaluation.json"):
                folder = files[name].parent
                metrics = json.loads(files[name].read_text()).items()
                results |= {f"{name} {key}": repr(x) for key, x in metrics if "/" in key}
                results[f"{name} predictions"] = (folder / "predictions.csv").read_bytes()
                for file in folder.glob("checkpoints/*.ckpt"):
                    results |= {f"{name} {file.name} {k}": x for k, x in weights(file).items()}
        return results

    def check(self, undisturbed: "Job", killed: bool = False) -> None:
        """Expect files that are complete or absent, whatever happened to the command."""
        for file in self.out.rglob("*.ckpt"):
            weights(file)
        for file in self.out.rglob("*.skops"):
            hwr.load(file)
        assert killed or not list(self.folder.rglob("*.part"))
        results, expected = self.results(), undisturbed.results()
        assert results.items() <= expected.items()
        if self.name == "hwr-data draw":
            assert results in ({}, expected)  # the folder appears complete or not at all


def weights(file: Path) -> dict[str, bytes]:
    """Return the weights of a checkpoint, which must be finite."""
    tensors = torch.load(file, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


class Spoil(Callback):
    """Make all weights NaN before a step of the training, counted from 1, in one process."""

    def __init__(self, step: int, rank: int = 0) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Spoil the step, if this is the one."""
        if (trainer.global_step + 1, trainer.global_rank) == (self.step, self.rank):
            for weight in pl_module.parameters():
                weight.data.fill_(torch.nan)
