"""The fault campaign: every trial is counted, and what was lost in it is said in one table.

`make test-faults` runs it whole, `make test` a smaller form. HWR_FAULTS_SEED draws other moments,
pictures and tables.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

SEED = int(os.environ.get("HWR_FAULTS_SEED", "0"))
WHOLE = os.environ.get("HWR_FAULTS") == "whole"


@dataclass
class Fault:
    """A row of the table."""

    trials: int = 0
    survived: int = 0
    lost: int = 0


TABLE: dict[str, Fault] = {}


class Campaign:
    """Counts trials.

    Attributes:
        random: Draws what a trial does.
    """

    def __init__(self, name: str) -> None:
        self.random = np.random.default_rng([SEED, *name.encode()])

    def trials(self, whole: int, small: int) -> range:
        """How often something is tried."""
        return range(whole if WHOLE else small)

    @contextmanager
    def trial(self, fault: str) -> Iterator[None]:
        """One trial; what it asserts and fails to is lost."""
        row = TABLE.setdefault(fault, Fault())
        row.trials += 1
        try:
            yield
        except BaseException:
            row.lost += 1
            raise
        row.survived += 1


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """The campaign, with a generator of the test's own."""
    return Campaign(request.node.name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes hands its rows on."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = {name: vars(row) for name, row in TABLE.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up the rows of several processes."""
    for fault, counts in getattr(node, "workeroutput", {}).get("faults", {}).items():
        row = TABLE.setdefault(fault, Fault())
        for name, count in counts.items():
            setattr(row, name, getattr(row, name) + count)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if not TABLE:
        return
    width = max(map(len, TABLE))
    write = terminalreporter.write_line
    terminalreporter.section(f"fault campaign, seed {SEED}")
    write(f"{'fault':{width}}  trials  survived  lost")
    for fault, row in sorted(TABLE.items()):
        write(f"{fault:{width}}  {row.trials:6}  {row.survived:8}  {row.lost:4}")
    total = [sum(getattr(row, name) for row in TABLE.values()) for name in vars(Fault())]
    write(f"{'all':{width}}  {total[0]:6}  {total[1]:8}  {total[2]:4}")
