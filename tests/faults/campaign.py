"""Count the trials of the fault campaign, and print in one table how many were lost.

`make test-faults` runs all of it, `make test` a small part. HWR_FAULTS_SEED draws other moments,
images and tables.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

SEED = int(os.environ.get("HWR_FAULTS_SEED", "0"))
ALL = os.environ.get("HWR_FAULTS") == "whole"
TABLE: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
"""Trials, survived and lost by fault."""


class Campaign:
    """Count trials.

    Attributes:
        random: Draws what a trial does.
    """

    def __init__(self, name: str) -> None:
        self.random = np.random.default_rng([SEED, *name.encode()])

    def trials(self, count: int, few: int) -> range:
        """Return the numbers of the trials: `count`, or `few` of them by default."""
        return range(count if ALL else few)

    def some(self, items: Any, few: int) -> list[Any]:
        """Return all items, or `few` of them by default."""
        chosen = sorted(self.random.choice(len(items), len(items) if ALL else few, replace=False))
        return [items[int(number)] for number in chosen]

    @contextmanager
    def trial(self, fault: str) -> Iterator[None]:
        """Count a trial; it is lost if an assertion in it fails."""
        row = TABLE[fault]
        row[0] += 1
        try:
            yield
        except BaseException:
            row[2] += 1
            raise
        row[1] += 1


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """The campaign, with a generator of the test's own."""
    return Campaign(request.node.name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the rows of a worker of pytest-xdist on."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = dict(TABLE)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up the rows of all workers."""
    for fault, counts in getattr(node, "workeroutput", {}).get("faults", {}).items():
        TABLE[fault] = [sum(pair) for pair in zip(TABLE[fault], counts, strict=True)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if not TABLE:
        return
    total = [sum(column) for column in zip(*TABLE.values(), strict=True)]
    width = max(map(len, TABLE))
    terminalreporter.section(f"fault campaign, seed {SEED}")
    for fault, row in [("fault", ["trials", "survived", "lost"]), *sorted(TABLE.items())]:
        terminalreporter.write_line(f"{fault:{width}}" + "".join(f"{cell:>10}" for cell in row))
    terminalreporter.write_line(f"{'all':{width}}" + "".join(f"{cell:>10}" for cell in total))
