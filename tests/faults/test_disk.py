"""Disks that are full, folders that are read-only or vanish: one sentence, and old files stay."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from campaign import Campaign
from test_kill import FOREST, TRAIN, cache_is_whole, figures, listing
from victim import Aim, Ended, limited, run

from hwr import checkpoint

NOBODY = 65534


def one_sentence(ended: Ended, program: str) -> str:
    """The only line of a command that failed for a user's reason."""
    assert ended.code == 2, ended.said
    *notes, said = ended.said.splitlines()
    assert said.startswith(f"{program}: "), ended.said
    assert all(note.startswith("hwr: going on without a cache") for note in notes), ended.said
    return said


def words(drawn: Path, folder: Path, out: Path, *more: str) -> dict[str, list[str]]:
    """The arguments of each command that writes."""
    where = [f"data.root={drawn}", f"data.cache={folder}/cache", f"hydra.run.dir={out}"]
    return {
        "hwr-train": [*TRAIN, *where, *more],
        "hwr-forest": [*FOREST, *where, *more],
        "hwr-data": ["draw", str(out), "--writers", "2"],
    }


@pytest.mark.parametrize("command", ["hwr-train", "hwr-forest", "hwr-data"])
def test_files_that_grow_too_large(
    campaign: Campaign, drawn: Path, tmp_path: Path, command: str
) -> None:
    """Writing ends at a byte drawn at random, in whichever file grows beyond it first."""
    whole = tmp_path / "whole"
    whole.mkdir()
    arguments = words(drawn, whole, whole / "out")[command]
    ended = run(whole, command, arguments)
    assert ended.code == 0, ended.said
    largest = max(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    for number in campaign.trials(15, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        most = max(500, int(largest ** campaign.random.uniform(0.3, 1)))  # room for the output
        arguments = words(drawn, folder, folder / "out")[command]
        found = run(folder, command, arguments, before=partial(limited, most))
        with campaign.trial(f"{command} on a full disk"):
            check_after(found, command, folder, whole)
            if found.code:
                go_on(command, arguments, folder, whole)
        shutil.rmtree(folder)


def check_after(found: Ended, command: str, folder: Path, whole: Path) -> None:
    """It ended well, or in one sentence without leaving anything half written."""
    if found.code:
        one_sentence(found, command)
    cache_is_whole(folder / "cache")
    for file in folder.rglob("*.ckpt"):
        checkpoint.read(file)
    assert not list(folder.rglob("*.part"))
    if command == "hwr-data":
        assert listing(folder / "out") in ({}, listing(whole / "out"))


def go_on(command: str, arguments: list[str], folder: Path, whole: Path) -> None:
    """With room again, the same line ends as if nothing had been."""
    last = folder / "out/checkpoints/last.ckpt"
    again = run(folder, command, [*arguments, *([f"ckpt={last}"] if last.exists() else [])])
    assert again.code == 0, again.said
    if command == "hwr-data":
        assert listing(folder / "out") == listing(whole / "out")
    else:
        assert figures(folder / "out") == figures(whole / "out")


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


@pytest.mark.parametrize("command", ["hwr-train", "hwr-forest", "hwr-data"])
def test_small_disks(
    campaign: Campaign,
    drawn: Path,
    tmp_path: Path,
    small_disk: Callable[[int], Path],
    command: str,
) -> None:
    """The disk is full when all that is written together outgrows it."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole, command, words(drawn, whole, whole / "out")[command]).code == 0
    total = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    for _ in campaign.trials(15, 1):
        disk = small_disk(max(8192, int(total * campaign.random.uniform(0, 1.1))))
        folder = tmp_path / disk.name
        arguments = words(drawn, folder, folder / "out")[command]
        found = run(tmp_path, command, arguments)
        with campaign.trial(f"{command} on a small disk"):
            check_after(found, command, folder, whole)
            if found.code:
                subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
                go_on(command, arguments, folder, whole)


@pytest.mark.parametrize("command", ["hwr-train", "hwr-forest", "hwr-data"])
def test_no_permission(campaign: Campaign, drawn: Path, tmp_path: Path, command: str) -> None:
    """Neither for the folder of a run, nor for the one above it."""
    if os.getuid():
        pytest.skip("only root can become somebody else")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and len(parent.parts) > 2:
            parent.chmod(0o755)
    drawn.parent.chmod(0o755)
    for number, below in enumerate(("out", "out/deeper/still")):
        folder = tmp_path / str(number)
        (folder / "out").mkdir(parents=True)
        (folder / "out").chmod(0o555)
        place = folder / below if command != "hwr-data" else folder / "out/there"
        arguments = words(drawn, folder, place)[command]
        with campaign.trial(f"{command} without permission"):
            found = run(tmp_path, command, arguments, before=partial(os.setuid, NOBODY))
            said = one_sentence(found, command)
            assert "ermission denied" in said
            assert str(folder / "out") in said
            assert not list((folder / "out").iterdir())


def test_folder_that_vanishes(campaign: Campaign, drawn: Path, tmp_path: Path) -> None:
    """Somebody removes the run folder while the run trains, tests or reports."""
    for number in campaign.trials(24, 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = folder / "out"
        phase = ("training", "checkpoint", "test", "report")[number % 4]
        aim = Aim(lambda _, out=out: shutil.rmtree(out, ignore_errors=True), phase)  # type: ignore[misc]
        found = run(folder, "hwr-train", words(drawn, folder, out)["hwr-train"], aim)
        with campaign.trial("run folder removed under the run"):
            if found.code:
                assert str(out) in one_sentence(found, "hwr-train")
        shutil.rmtree(folder)
