"""Lends the fault campaign to its tests, with a run that nothing disturbed."""

from pathlib import Path

import pytest
from campaign import (
    campaign,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from test_kill import arguments
from victim import Ended, run

__all__ = [
    "campaign",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]


@pytest.fixture(scope="session")
def undisturbed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Its folder, in which `run` is the run folder, and how it ended."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = run(folder, "hwr-train", arguments(drawn, folder))
    assert ended.code == 0, ended.said
    return folder, ended


@pytest.fixture(scope="session")
def network(undisturbed: tuple[Path, Ended]) -> Path:
    """A finished run."""
    return undisturbed[0] / "run"
