"""Run several processes at once: on one cold cache, and in one run folder."""

import time
from dataclasses import replace
from pathlib import Path

from commands import WHOLE
from conftest import Campaign, Undisturbed


def test_processes_on_a_cold_cache(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """All end with equal results, and leave one complete cache."""
    complete, _ = undisturbed("hwr-train")
    (made,) = (complete.folder / "cache").iterdir()
    for number in campaign.trials(2):
        cache = tmp_path / f"cache{number}"
        jobs = [
            replace(complete, folder=tmp_path / f"{number}-{k}") for k in range(6 if WHOLE else 2)
        ]
        running = [job.start(f"data.cache={cache}") for job in jobs]
        for job, one in zip(jobs, running, strict=True):
            ended = one.wait()
            with campaign.trial("several processes on a cold cache"):
                assert ended.code == 0, ended.output
                assert job.results() == complete.results()
        assert [file.read_bytes() for file in cache.iterdir()] == [made.read_bytes()]


def test_two_processes_in_one_folder(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """One of them runs as if the other weren't there, which is rejected in one sentence."""
    complete, before = undisturbed("hwr-train")
    for number in campaign.trials(6, 2):
        job = replace(complete, folder=tmp_path / str(number))
        with campaign.trial("two processes in one folder"):
            one = job.start()
            time.sleep(before.seconds * campaign.random.random() if number else 0)
            other = replace(complete, folder=job.folder).start()
            good, rejected = sorted([one.wait(), other.wait()], key=lambda end: end.code)
            assert good.code == 0, good.output
            line = rejected.expect_one_line()
            assert "another process writes into" in line or "holds a run already" in line
            assert job.results() == complete.results()
