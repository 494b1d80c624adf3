"""Disks that are full, folders that are read-only or vanish: one sentence, and old files stay."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from test_kill import FOREST, TRAIN, cache_is_whole, figures, known, listing, same_run
from victim import Aim, Ended, knows, limited, one_by_one, run

from hwr import checkpoint

NOBODY = 65534
NOTES = ("hwr: going on without a cache", "hwr-evaluate: this network was trained on pictures of")


def one_sentence(ended: Ended, program: str) -> str:
    """The only line of a command that failed for a user's reason."""
    assert ended.code == 2, ended.said
    *notes, said = ended.said.splitlines()
    assert said.startswith(f"{program}: "), ended.said
    assert all(note.startswith(NOTES) for note in notes), ended.said
    return said


def failed_jobs(ended: Ended) -> list[str]:
    """The sentences of a sweep's failed jobs; another says which they are."""
    *jobs, last = [line for line in ended.said.splitlines() if line.startswith("hwr-train: ")]
    assert all(line.startswith("hwr-train: job ") for line in jobs), ended.said
    counts = re.findall(r"(\d+) jobs? (?:failed|did not finish):", last)
    assert sum(map(int, counts)) >= len(jobs), ended.said  # one may have ended, and be gone
    assert "Traceback" not in ended.said
    return jobs


@dataclass
class Case:
    """A command that writes, in a folder of its own.

    Attributes:
        command: Its program, and what it does.
        drawn: The pictures that it reads.
        network: A run that it reads.
        folder: What it may write into.
        out: Where the result goes, within it.
    """

    command: str
    drawn: Path
    network: Path
    folder: Path
    out: Path

    @property
    def program(self) -> str:
        return self.command.partition(" ")[0]

    def run(
        self, *more: str, aim: Aim | None = None, before: Callable[[], Any] | None = None
    ) -> Ended:
        where = [f"data.root={self.drawn}", f"data.cache={self.folder}/cache"]
        words = {
            "hwr-train": [*TRAIN, *where, f"hydra.run.dir={self.out}"],
            "hwr-train -m": ["-m", "seed=0,1", *TRAIN, *where, f"hydra.sweep.dir={self.out}"],
            "hwr-forest": [*FOREST, *where, f"hydra.run.dir={self.out}"],
            "hwr-evaluate": [f"ckpt={self.network}", *where, f"hydra.run.dir={self.out}"],
            "hwr-data draw": ["draw", str(self.out), "--writers", "2"],
            "hwr-data fetch": ["fetch", str(self.out), "--from", str(self.drawn)],
            "hwr-data show": ["show", str(self.drawn), "--out", str(self.out)],
            "hwr-export": [str(self.network), "--out", f"{self.out}/model.onnx"],
        }[self.command]
        first = partial(knows, known(self.drawn))
        both = partial(one_by_one, first, before) if before else first
        return run(self.folder, self.program, [*words, *more], aim, both)

    def check_after(self, found: Ended, whole: "Case") -> None:
        """It ended well, or told so without leaving anything half written."""
        if self.command == "hwr-train -m" and found.code == 1:
            failed_jobs(found)
        elif found.code:
            one_sentence(found, self.program)
        cache_is_whole(self.folder / "cache")
        for file in self.folder.rglob("*.ckpt"):
            checkpoint.read(file)
        assert not list(self.folder.rglob("*.part"))
        if self.command in ("hwr-data draw", "hwr-data fetch", "hwr-export"):
            assert listing(self.out) in ({}, listing(whole.out))
        for name, result in self.results().items():
            assert result == whole.results()[name]
        if not found.code:
            assert self.results() == whole.results()
            for one, other in zip(self.runs(), whole.runs(), strict=True):
                same_run(one, other)

    def runs(self) -> list[Path]:
        """The run folders of networks that have ended."""
        found = sorted(file.parent for file in self.out.rglob("metrics.json"))
        return found if self.program == "hwr-train" else []

    def results(self) -> dict[str, Any]:
        """What came out, by the file that says so."""
        found = {
            str(file.relative_to(self.out)): figures(file.parent)
            for file in self.out.rglob("metrics.json")
        }
        if (file := self.out / "evaluation.json").exists():
            found[file.name] = json.loads(file.read_text())["loss"]
        if self.program in ("hwr-data", "hwr-export"):
            found |= listing(self.out)
        return found

    def go_on(self, whole: "Case") -> None:
        """With room again, the same line ends as if nothing had been."""
        last = self.out / "checkpoints/last.ckpt"
        again = self.run(*([f"ckpt={last}"] if last.exists() else []))
        assert again.code == 0, again.said
        assert self.results() == whole.results()


COMMANDS = ("hwr-train", "hwr-train -m", "hwr-forest", "hwr-evaluate")
COMMANDS += ("hwr-data draw", "hwr-data fetch", "hwr-data show", "hwr-export")


@pytest.fixture
def case(drawn: Path, network: Path, tmp_path: Path) -> Callable[..., Case]:
    """Makes cases, each in a folder of its own."""

    def make(command: str, folder: str, out: str = "out") -> Case:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        return Case(command, drawn, network, place, place / out)

    return make


def undisturbed_case(make: Callable[..., Case], command: str) -> Case:
    whole = make(command, "whole")
    ended = whole.run()
    assert ended.code == 0, ended.said
    return whole


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_grow_too_large(
    campaign: Campaign, case: Callable[..., Case], command: str
) -> None:
    """Writing ends at a byte drawn at random, in whichever file grows beyond it first."""
    whole = undisturbed_case(case, command)
    largest = max(file.stat().st_size for file in whole.folder.rglob("*") if file.is_file())
    for number in campaign.trials(15, 2 if command != "hwr-export" else 1):
        one = case(command, str(number))
        least = 8192 if command == "hwr-data show" else 500  # room for the output
        most = max(least, int(largest ** campaign.random.uniform(0.3, 1)))
        found = one.run(before=partial(limited, most))
        with campaign.trial(f"{command} on a full disk"):
            one.check_after(found, whole)
            if found.code:
                one.go_on(whole)
        shutil.rmtree(one.folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts an empty disk of so many bytes."""
    disks: list[Path] = []

    def mount(size: int) -> Path:
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], capture_output=True
        )
        if made.returncode:
            pytest.skip("a small disk can only be mounted as root")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_small_disks(
    campaign: Campaign,
    case: Callable[..., Case],
    small_disk: Callable[[int], Path],
    command: str,
) -> None:
    """The disk is full when all that is written together outgrows it."""
    whole = undisturbed_case(case, command)
    total = sum(file.stat().st_size for file in whole.folder.rglob("*") if file.is_file())
    for _ in campaign.trials(15, 1):
        disk = small_disk(max(8192, int(total * campaign.random.uniform(0, 1.1))))
        one = case(command, disk.name)
        found = one.run()
        with campaign.trial(f"{command} on a small disk"):
            one.check_after(found, whole)
            if found.code:
                subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
                one.go_on(whole)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission(
    campaign: Campaign, case: Callable[..., Case], tmp_path: Path, command: str
) -> None:
    """Neither for the folder of a run, nor for the one above it."""
    if os.getuid():
        pytest.skip("only root can become somebody else")
    for number, below in enumerate(("closed/out", "closed/deeper/still")):
        one = case(command, str(number), below)
        for place in (tmp_path, one.drawn, one.network):
            for parent in place.parents:
                if parent.stat().st_uid == 0 and len(parent.parts) > 2:
                    parent.chmod(0o755)
        tmp_path.chmod(0o755)
        closed = one.folder / "closed"
        closed.mkdir()
        closed.chmod(0o555)
        with campaign.trial(f"{command} without permission"):
            said = one_sentence(one.run(before=partial(os.setuid, NOBODY)), one.program)
            assert "ermission denied" in said
            assert str(closed) in said
            assert not list(closed.iterdir())


@pytest.mark.parametrize(
    ("command", "phases"),
    [
        ("hwr-train", ("training", "checkpoint", "test", "report")),
        ("hwr-train -m", ("training", "checkpoint", "test", "report")),
        ("hwr-forest", ("preparation", "model", "test", "report")),
        ("hwr-data draw", ("drawing",)),
        ("hwr-data fetch", ("writing",)),
    ],
)
def test_folder_that_vanishes(
    campaign: Campaign, case: Callable[..., Case], command: str, phases: tuple[str, ...]
) -> None:
    """Somebody removes the folder that a command writes into, and the one above it."""
    whole = case(command, "whole")
    ended = whole.run()
    assert ended.code == 0, ended.said
    for number in campaign.trials(6 * len(phases), min(3, len(phases))):
        one = case(command, str(number), "above/out")
        above = one.out.parent
        phase = phases[number % len(phases)]
        times = [name for name, _ in ended.marks].count(phase)
        time_of = int(campaign.random.integers(times))
        aim = Aim(lambda _, above=above: shutil.rmtree(above, ignore_errors=True), phase, time_of)  # type: ignore[misc]
        above.mkdir()
        found = one.run(aim=aim)
        with campaign.trial(f"folder removed under {command}"):
            if command.startswith("hwr-train"):  # what is left would be half a run
                assert found.code, found.said
                assert not (one.out / "metrics.json").exists()
            if command == "hwr-train -m" and found.code == 1:
                assert all(str(above) in said for said in failed_jobs(found))
            elif found.code:
                assert str(above) in one_sentence(found, one.program)
        shutil.rmtree(one.folder)
