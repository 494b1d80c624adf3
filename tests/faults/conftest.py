"""Share the fault campaign, and undisturbed runs of all commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from campaign import (
    campaign,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from jobs import Job
from processes import Ended

__all__ = [
    "campaign",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]
Undisturbed = Callable[[str], tuple[Job, Ended]]


@pytest.fixture(scope="session")
def undisturbed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Run a command once in a session; return the job, and how it ended."""
    known: dict[str, tuple[Job, Ended]] = {}

    def run(command: str) -> tuple[Job, Ended]:
        if command not in known:
            reads = ("hwr-evaluate", "hwr-export", "hwr-predict")
            network = run("hwr-train")[0].out if command in reads else drawn
            job = Job(command, drawn, network, tmp_path_factory.mktemp(command.replace(" ", "")))
            ended = job.run()
            assert ended.code == 0, ended.output
            known[command] = job, ended
        return known[command]

    return run


@pytest.fixture(scope="session")
def network(undisturbed: Undisturbed) -> Path:
    """A finished run."""
    return undisturbed("hwr-train")[0].out
