"""Full and read-only disks: one sentence, and nothing half written."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from commands import COMMANDS, WHOLE, Job, Result, limit_files
from conftest import Campaign, Undisturbed

WRITERS = [name for name in COMMANDS if name != "hwr-predict"]
Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount an empty disk with options, such as its size."""
    disks: list[Path] = []

    def new(disk: Path, options: str) -> None:
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk]).returncode:
            pytest.skip("only root can mount a disk")
        disks.append(disk)

    yield new
    for disk in disks:
        subprocess.run(["umount", "-l", disk], check=True)


def check(job: Job, complete: Job, ended: Result) -> None:
    """Expect a good end, or one sentence and nothing half written."""
    if ended.code:
        ended.expect_one_line([1] if job.name == "hwr-train -m" else [2])
    job.check(complete)
    assert ended.code or job.results() == complete.results()


@pytest.mark.parametrize("name", WRITERS if WHOLE else ["hwr-train", "hwr-data draw"])
def test_full_disks(
    campaign: Campaign, undisturbed: Undisturbed, mount: Mount, tmp_path: Path, name: str
) -> None:
    """A file grows too large, or all files together; with more room, the same line works."""
    complete, _ = undisturbed(name)
    sizes = [file.stat().st_size for file in complete.folder.rglob("*") if file.is_file()]
    for number in campaign.trials(2):
        job = replace(complete, folder=tmp_path / f"file{number}")
        limit = partial(limit_files, max(8192, int(max(sizes) ** campaign.random.uniform(0.3, 1))))
        with campaign.trial(f"{name} with files that may not grow"):
            ended = job.start(before=[limit]).wait()
            check(job, complete, ended)
            if ended.code:
                assert (again := job.again()).code == 0, again.output
                assert job.results() == complete.results()
        shutil.rmtree(job.folder)
    for number in campaign.trials(2):
        job = replace(complete, folder=tmp_path / f"disk{number}")
        mount(job.folder, f"size={max(8192, int(sum(sizes) * campaign.random.random()))}")
        with campaign.trial(f"{name} on a small disk"):
            ended = job.start().wait()
            check(job, complete, ended)
            if ended.code:
                subprocess.run(["mount", "-o", "remount,size=100m", job.folder], check=True)
                assert (again := job.again()).code == 0, again.output
                assert job.results() == complete.results()


@pytest.mark.parametrize("name", WRITERS)
def test_read_only_folders(
    campaign: Campaign, undisturbed: Undisturbed, mount: Mount, tmp_path: Path, name: str
) -> None:
    complete, _ = undisturbed(name)
    job = replace(complete, folder=tmp_path / "disk")
    mount(job.folder, "ro")
    with campaign.trial(f"{name} in a read-only folder"):
        line = job.start().wait().expect_one_line()
        assert f"Read-only file system: {job.folder}" in line
