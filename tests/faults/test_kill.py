"""Kill and stop commands at any moment: files are complete or absent, and runs resume exactly."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands import COMMANDS, WHOLE
from conftest import Campaign, Undisturbed

CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
COUNTS = {"hwr-train": 7, "hwr-forest": 4, "hwr-train -m": 2, "hwr-export": 2}
"""How often a command is hit by each signal; others 3 times."""


@pytest.mark.parametrize("name", COMMANDS if WHOLE else list(COMMANDS)[:-1])  # export is slow
def test_commands_that_are_hit(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path, name: str
) -> None:
    """The same line again ends as if nothing had happened."""
    complete, before = undisturbed(name)
    for by in campaign.some(list(CODES), 3 if name == "hwr-train" else 1) * len(
        campaign.trials(COUNTS.get(name, 3))
    ):
        job = replace(complete, folder=tmp_path / "job")
        for _ in range(50):
            running = job.start()
            time.sleep(before.seconds * campaign.random.random())
            running.kill(by)
            if (ended := running.wait()).code:
                break
            shutil.rmtree(job.folder)  # the command ended before
        with campaign.trial(f"{name} hit by {by.name}"):
            assert ended.code == CODES[by], ended.output
            if by != signal.SIGKILL:
                assert ": stopped" in ended.expect_one_line([CODES[by]])
            job.check(complete, killed=by == signal.SIGKILL)
            if name == "hwr-predict" or job.results() != complete.results():
                again = job.again()
                assert again.code == 0, again.output
                assert job.results() == complete.results()
                assert name != "hwr-predict" or again.output == before.output
        shutil.rmtree(job.folder)


@pytest.mark.parametrize("program", ["hwr-train", "hwr-predict"])
def test_stops_during_imports(
    campaign: Campaign, trained: Path, tmp_path: Path, program: str
) -> None:
    """Libraries make other errors of a stop while they are imported."""
    words = {"hwr-train": ["data=synthetic"], "hwr-predict": [trained, "-"]}[program]
    for number in campaign.trials(5):
        by = (signal.SIGINT, signal.SIGTERM)[number % 2]
        process = subprocess.Popen(
            [Path(sys.executable).with_name(program), *words],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        status = Path(f"/proc/{process.pid}/status")
        while not handled(status) & 1 << signal.SIGTERM - 1:
            time.sleep(0.001)
        time.sleep(2 * campaign.random.random())
        process.send_signal(by)
        output = process.communicate()[1]
        with campaign.trial(f"{program} stopped while it imports"):
            assert process.returncode == CODES[by], output
            assert output.splitlines()[-1].startswith(f"{program}: stopped"), output
            assert "Traceback" not in output


def handled(status: Path) -> int:
    """Return the signals that a process handles, as bits."""
    (line,) = (x for x in status.read_text().splitlines() if x.startswith("SigCgt"))
    return int(line.split()[1], 16)
