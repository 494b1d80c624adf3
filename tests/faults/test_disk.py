"""Full disks and folders without permission: one sentence, and old files stay as they are."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from campaign import ALL, Campaign
from conftest import Undisturbed
from jobs import WRITERS, Job, sentence
from processes import Ended, limit_files

NOBODY = 65534


def sentences(ended: Ended, job: Job) -> str:
    """Expect a sentence, of a sweep several and one that sums up; return the first."""
    if job.command != "hwr-train -m":
        return sentence(ended, job.program)
    lines = [line for line in ended.output.splitlines() if line.startswith("hwr-train: ")]
    assert ended.code == 1
    assert "Traceback" not in ended.output
    assert re.search(r": \d jobs? (failed|did not finish): ", lines[-1]), ended.output
    assert all(str(job.out.parent) in line for line in lines[:-1]), ended.output
    return lines[0]


def check(job: Job, whole: Job, ended: Ended) -> None:
    """Expect a good end, or one sentence and nothing half written."""
    if ended.code:
        sentences(ended, job)
    job.check(whole)
    if not ended.code:
        assert job.results() == whole.results()


def size_of(job: Job) -> list[int]:
    return [file.stat().st_size for file in job.place.rglob("*") if file.is_file()]


@pytest.mark.parametrize("command", WRITERS)
def test_files_that_grow_too_large(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path, command: str
) -> None:
    """Writing fails at a random byte of the first file that grows beyond it."""
    whole, _ = undisturbed(command)
    least = 8192 if command == "hwr-data show" else 500  # room for the output
    for number in campaign.trials(15, 1):
        job = whole.at(tmp_path / str(number))
        most = max(least, int(max(size_of(whole)) ** campaign.random.uniform(0.3, 1)))
        ended = job.run(before=partial(limit_files, most))
        with campaign.trial(f"{command} on a full disk"):
            check(job, whole, ended)
            if ended.code:
                again = job.resume()
                assert again.code == 0, again.output
                assert job.results() == whole.results()
        shutil.rmtree(job.place)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount an empty disk of so many bytes."""
    disks: list[Path] = []

    def mount(size: int) -> Path:
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("a small disk can only be mounted as root")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("command", WRITERS if ALL else ["hwr-train", "hwr-data draw"])
def test_small_disks(
    campaign: Campaign,
    undisturbed: Undisturbed,
    small_disk: Callable[[int], Path],
    command: str,
) -> None:
    """The disk is full when all files together outgrow it."""
    whole, _ = undisturbed(command)
    for _ in campaign.trials(15, 1):
        disk = small_disk(max(8192, int(sum(size_of(whole)) * campaign.random.uniform(0, 1.1))))
        job = whole.at(disk / "place")
        ended = job.run()
        with campaign.trial(f"{command} on a small disk"):
            check(job, whole, ended)
            if ended.code:
                subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
                again = job.resume()
                assert again.code == 0, again.output
                assert job.results() == whole.results()


@pytest.mark.parametrize("command", WRITERS)
def test_no_permission(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path, command: str
) -> None:
    """Neither for the folder of a run, nor for the one above it."""
    if os.getuid():
        pytest.skip("only root can become somebody else")
    whole, _ = undisturbed(command)
    for below in campaign.some(["closed/out", "closed/deeper/still"], 1):
        job = whole.at(tmp_path / below.replace("/", "-"), below)
        for place in (job.place, job.images / "Img", job.network / "checkpoints"):
            for parent in place.parents:
                if parent.stat().st_uid == 0 and len(parent.parts) > 2:
                    parent.chmod(0o755)
        closed = job.place / "closed"
        closed.mkdir()
        closed.chmod(0o555)
        with campaign.trial(f"{command} without permission"):
            line = sentences(job.run(before=partial(os.setuid, NOBODY)), job)
            assert "ermission denied" in line
            assert str(closed) in line
            assert not list(closed.iterdir())
