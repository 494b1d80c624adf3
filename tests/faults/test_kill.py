"""Kill and stop commands at any moment: files are complete or absent, and runs resume exactly."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import ALL, Campaign
from conftest import Undisturbed
from jobs import COMMANDS, PHASES, curves, hit

CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
COUNTS = {"hwr-train": 34, "hwr-train -m": 10, "hwr-forest": 15, "hwr-evaluate": 8}
"""How often a command is hit by each signal; others 6 times."""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_are_hit(
    campaign: Campaign, undisturbed: Undisturbed, tmp_path: Path, command: str
) -> None:
    """The same line again ends as if nothing had happened."""
    whole, before = undisturbed(command)
    phases = campaign.random.permutation(PHASES[command])
    signals = campaign.some(list(CODES), 3 if command == "hwr-train" else 1)
    wanted = [
        (by, phases[n % len(phases)]) for n in range(COUNTS.get(command, 6)) for by in signals
    ]
    for number, (by, phase) in enumerate(wanted if ALL else wanted[: len(signals)]):
        job, ended = hit(whole, tmp_path / str(number), before, phase, by, campaign.random)
        with campaign.trial(f"{command} hit by {by.name}"):
            assert ended.code == CODES[by], ended.output
            if by != signal.SIGKILL:
                *lines, last = ended.output.splitlines()
                assert last.startswith(f"{job.program}: stopped"), ended.output
                assert "Traceback" not in ended.output
                assert len(lines) <= len(before.output.splitlines())
                if command == "hwr-train -m":
                    assert f"the same line with hydra.sweep.dir={job.out} goes on" in last
                saved = job.out / "checkpoints/last.ckpt"
                if ended.phase in ("training", "checkpoint") and saved.exists():
                    assert f"ckpt_path={saved}" in last
            job.check(whole, killed=by == signal.SIGKILL)
            if command == "hwr-predict" or job.results() != whole.results():
                again = job.resume()
                assert again.code == 0, again.output
                assert job.results() == whole.results()
            for run in {file.parent for file in job.out.rglob("events*")}:
                # Points of the last seconds may be lost: TensorBoard writes every ten.
                assert curves(run).items() <= curves(whole.out / run.relative_to(job.out)).items()
        shutil.rmtree(job.place)


IMPORTING = """
import os, runpy, signal, sys

number, by, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
del sys.argv[:3]
count = 0


def watch(event, _):
    global count
    if event == "import" and getattr(signal.getsignal(signal.SIGTERM), "__name__", "") == "_stop":
        count += 1
        if count == number:
            os.kill(os.getpid(), by)


signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(watch)
runpy.run_path(program, run_name="__main__")
"""
"""Stops a command at an import, counted from where it can be stopped."""
IMPORTERS = ["hwr-train", "hwr-predict", "hwr-forest", "hwr-evaluate", "hwr-data"]


@pytest.mark.parametrize("program", IMPORTERS if ALL else IMPORTERS[:2])
def test_stops_at_imports(
    campaign: Campaign, drawn: Path, network: Path, tmp_path: Path, program: str
) -> None:
    """Compiled modules make other errors of a stop; the command ends with one sentence still."""
    data = [f"data.root={drawn}", f"data.cache={tmp_path}/cache", f"hydra.run.dir={tmp_path}/out"]
    words = {
        "hwr-train": ["trainer.max_epochs=1", *data],
        "hwr-forest": data,
        "hwr-evaluate": [f"ckpt_path={network}", *data],
        "hwr-data": ["show", str(drawn), "--out", str(tmp_path / "out")],
        "hwr-predict": [str(network), str(drawn)],
    }[program]
    hits, count = 0, len(campaign.trials(10, 1))
    while hits < count:
        by = (signal.SIGINT, signal.SIGTERM)[hits % 2]
        number = int(3000 ** campaign.random.random())
        script = Path(sys.executable).with_name(program)
        done = subprocess.run(
            [sys.executable, "-c", IMPORTING, str(number), str(int(by)), script, *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        if done.returncode == 0:  # it imports fewer
            continue
        hits += 1
        with campaign.trial(f"{program} stopped at an import"):
            assert done.returncode == CODES[by], done.stderr
            assert done.stderr.splitlines()[-1].startswith(f"{program}: stopped"), done.stderr
            assert "Traceback" not in done.stderr
            assert not list(tmp_path.rglob("*.part"))
