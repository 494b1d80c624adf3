"""Commands that write files: how they are called, disturbed, started again, and compared."""

import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from campaign import ALL
from processes import Aim, Before, Ended, fetches, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwr.inference import checkpoint, forestfile

SMALL = ["data=folder", "data.height=60", "data.width=80", "data.batch_size=8"]
TRAIN = [*SMALL, "model=mlp", "trainer.max_epochs=4", "monitor=val/loss", "split.val_size=0.34"]
TRAIN.append(f"callbacks={'default' if ALL else 'light'}")
PHASES = {
    "hwr-train": ("preparation", "cache", "training", "checkpoint", "test", "report"),
    "hwr-train -m": ("training", "checkpoint", "test", "report"),
    "hwr-forest": ("preparation", "cache", "fitting", "model", "report"),
    "hwr-evaluate": ("loading", "preparation", "cache", "test"),
    "hwr-data draw": ("drawing",),
    "hwr-data fetch": ("writing",),
    "hwr-data show": ("writing",),
    "hwr-predict": ("loading", "predicting"),
    "hwr-export": ("loading", "exporting"),
}
"""Phases in which the commands can be hit."""
COMMANDS = list(PHASES) if ALL else list(PHASES)[:-1]  # exporting takes longest
WRITERS = [command for command in COMMANDS if command != "hwr-predict"]
NOTES = ("hwr: going on without a cache", "hwr-evaluate: this model was trained on images of")


def sentence(ended: Ended, program: str) -> str:
    """Expect exit code 2, and one line; return it."""
    assert ended.code == 2, ended.output
    *notes, line = ended.output.splitlines()
    assert line.startswith(f"{program}: "), ended.output
    assert all(note.startswith(NOTES) for note in notes), ended.output
    return line


@dataclass
class Job:
    """A command that writes into a folder of its own.

    Attributes:
        command: Its program, and what it does.
        images: The dataset that it reads.
        network: The run that it reads.
        place: Folder that it may write into.
        below: Where the result goes, within `place`.
    """

    command: str
    images: Path
    network: Path
    place: Path
    below: str = "out"

    @property
    def program(self) -> str:
        """Name of the program."""
        return self.command.partition(" ")[0]

    @property
    def out(self) -> Path:
        """Where the result goes."""
        return self.place / self.below

    def at(self, place: Path, below: str = "out") -> "Job":
        """Return the same job in another folder, which is made."""
        place.mkdir(parents=True)
        return replace(self, place=place, below=below)

    def arguments(self) -> list[str]:
        """Return the words of the command line."""
        data = [f"data.root={self.images}", f"data.cache={self.place}/cache"]
        return {
            "hwr-train": [*TRAIN, *data, f"hydra.run.dir={self.out}"],
            "hwr-train -m": ["-m", "seed=0,1", *TRAIN, *data, f"hydra.sweep.dir={self.out}"],
            "hwr-forest": [*SMALL[:3], *data, "n_estimators=20", f"hydra.run.dir={self.out}"],
            "hwr-evaluate": [*data, f"ckpt_path={self.network}", f"hydra.run.dir={self.out}"],
            "hwr-data draw": ["draw", str(self.out), "--writers", "2"],
            "hwr-data fetch": ["fetch", str(self.out), "--from", str(self.images)],
            "hwr-data show": ["show", str(self.images), "--out", str(self.out)],
            "hwr-export": [str(self.network), "--out", f"{self.out}/model.onnx"],
            "hwr-predict": [str(self.network), str(self.images / "Img")],
        }[self.command]

    def run(self, *more: str, aim: Aim | None = None, before: Before | None = None) -> Ended:
        """Run the command to its end."""
        files = self.images.glob("Img/*.png")
        digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        befores = [partial(fetches, digests), *([before] if before else [])]
        return start(self.place, self.program, [*self.arguments(), *more], *befores).wait(aim)

    def resume(self) -> Ended:
        """Run the same line again, from the last checkpoint if there is one."""
        last = self.out / "checkpoints/last.ckpt"
        return self.run(*([f"ckpt_path={last}"] if last.exists() else []))

    def check(self, undisturbed: "Job", killed: bool = False) -> None:
        """Expect files that are complete or absent, whatever happened to the command."""
        for file in (self.place / "cache").glob("*.npz"):
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
            assert np.load(file)["image"].dtype == np.uint8
        for file in self.out.rglob("*.ckpt"):
            assert all(
                value.isfinite().all() for value in checkpoint.read(file)["state_dict"].values()
            )
        for file in self.out.rglob("*.skops"):
            forestfile.load_forest(file)
        if not killed:
            assert not list(self.place.rglob("*.part"))
        results, expected = self.results(), undisturbed.results()
        assert results.items() <= expected.items()
        if self.command in ("hwr-data draw", "hwr-data fetch"):
            assert results in ({}, expected)  # the folder appears complete or not at all

    def results(self) -> dict[str, Any]:
        """Return what came out of finished runs, or all files of other commands."""
        if self.program in ("hwr-data", "hwr-export"):
            files = [x for x in self.out.rglob("*") if x.is_file() and x.suffix != ".part"]
            return {str(file.relative_to(self.out)): file.read_bytes() for file in files}
        return {
            f"{file.parent.name}: {key}": value
            for name in ("metrics.json", "evaluation.json")
            for file in self.out.rglob(name)
            for key, value in _result(file).items()
        }


def curves(run: Path) -> dict[tuple[str, int], float]:
    """Return the points of a run's curves in TensorBoard, by tag and step."""
    events = EventAccumulator(str(run)).Reload()
    tags = [t for t in events.Tags()["scalars"] if t.startswith(("train/", "val/", "test/"))]
    return {(tag, point.step): point.value for tag in tags for point in events.Scalars(tag)}


def _result(file: Path) -> dict[str, Any]:
    """Return metrics, predictions and weights of a run, without times."""
    run, metrics = file.parent, json.loads(file.read_text())
    found: dict[str, Any] = {
        name: repr(value) for name, value in metrics.items() if "/" in name or name == "loss"
    }
    found["predictions"] = (run / "predictions.csv").read_bytes()
    for path in run.glob("checkpoints/*.ckpt"):
        for name, value in checkpoint.read(path)["state_dict"].items():
            found[f"{path.name} {name}"] = value.numpy().tobytes()
    return found


def hit(
    job: Job, place: Path, undisturbed: Ended, phase: str, by: int, random: np.random.Generator
) -> tuple[Job, Ended]:
    """Run a job in another place, and hit it at a random moment of a phase.

    Args:
        job: The job.
        place: The folder.
        undisturbed: How it ended before, with the lengths of its phases.
        phase: The phase.
        by: The signal.
        random: Draws the moment.
    """
    pairs = list(pairwise(undisturbed.marks))
    moments = [end - begin for (name, begin), (_, end) in pairs if name == phase]
    assert moments, f"no phase {phase} in {undisturbed.marks}"
    for _ in range(50):
        other, number = job.at(place), int(random.integers(len(moments)))
        after = moments[number] * random.random()
        ended = other.run(aim=Aim(lambda process: os.kill(process, by), phase, number, after))
        if ended.phase != "end":
            return other, ended
        shutil.rmtree(place)
    raise AssertionError(f"{job.command} always ended before it was hit")
