"""Run several processes at once: on one cold cache, and in one run folder."""

from pathlib import Path

import pytest
from campaign import ALL, Campaign
from conftest import Undisturbed
from jobs import PHASES, sentence
from processes import Aim, Ended, run, start


def test_processes_on_a_broken_cache(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """All end with equal results, beside what killed processes have left half written."""
    whole, _ = undisturbed("hwr-train")
    (made,) = (whole.place / "cache").glob("*.npz")
    content = made.read_bytes()
    for number in campaign.trials(6, 1):
        cache = tmp_path / str(number) / "cache"
        cache.mkdir(parents=True)
        (cache / f".{made.name}.00000000.part").write_bytes(content[:1000])
        (cache / made.name).write_bytes(content[: campaign.random.integers(5000)])
        jobs = [whole.at(cache.parent / str(name)) for name in range(8 if ALL else 3)]
        words = f"data.cache={cache}"
        running = [start(job.place, job.program, [*job.arguments(), words]) for job in jobs]
        for job, process in zip(jobs, running, strict=True):
            ended = process.wait()
            with campaign.trial("several processes at once on a broken cache"):
                assert ended.code == 0, ended.output
                job.check(whole)
                assert job.results() == whole.results()
        assert [file.name for file in cache.glob("*.npz")] == [made.name]
        assert (cache / made.name).read_bytes() == content


@pytest.mark.parametrize("phase", PHASES["hwr-train"] if ALL else ["start", "training"])
def test_two_processes_in_one_folder(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path, phase: str
) -> None:
    """One of them runs as if it were alone, the other is rejected in one sentence."""
    whole, _ = undisturbed("hwr-train")
    job, other = whole.at(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    ended: list[Ended] = []

    def start_other(_: int = 0) -> None:
        ended.append(run(other, job.program, job.arguments()))

    with campaign.trial("two processes in one folder"):
        running = start(job.place, job.program, job.arguments())
        if phase == "start":
            start_other()
        ended.append(running.wait(None if phase == "start" else Aim(start_other, phase)))
        good, rejected = sorted(ended, key=lambda one: one.code)
        assert good.code == 0, good.output
        line = sentence(rejected, job.program)
        assert "another process writes into" in line or "holds a run already" in line
        job.check(whole)
        assert job.results() == whole.results()
        assert (job.out / ".hydra/config.yaml").exists()
