"""Count the trials of the fault campaign, print how many were lost, and share finished runs.

`make test-faults` runs the whole campaign, `make test` a short form of it. HWR_FAULTS_SEED draws
other moments, images and tables.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SEED, WHOLE, Job, Result

Undisturbed = Callable[[str], tuple[Job, Result]]


class Campaign:
    """Count the trials of a test for the table; `random` draws what they do."""

    def __init__(self, name: str, record: Callable[[str, Any], None]) -> None:
        self.random = np.random.default_rng([SEED, *name.encode()])
        self._record = record

    def trials(self, count: int, short: int = 1) -> range:
        """Return the numbers of the trials: `count`, or `short` of them in the short form."""
        return range(count if WHOLE else short)

    def some(self, items: Sequence[Any], short: int) -> list[Any]:
        """Return all items, or `short` random ones in the short form."""
        chosen = self.random.choice(len(items), len(items) if WHOLE else short, replace=False)
        return [items[k] for k in sorted(chosen)]

    @contextmanager
    def trial(self, fault: str) -> Iterator[None]:
        """Count a trial; it is lost if an assertion in it fails."""
        outcome = "lost"
        try:
            yield
            outcome = "fine"
        finally:
            self._record(fault, outcome)


@pytest.fixture
def campaign(
    request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]
) -> Campaign:
    """The campaign, with random numbers of the test's own."""
    return Campaign(request.node.name, record_property)


@pytest.fixture(scope="session")
def undisturbed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Run a command once in a session; return the job and its result."""
    finished: dict[str, tuple[Job, Result]] = {}

    def run(name: str) -> tuple[Job, Result]:
        if name not in finished:
            reads = ("hwr-evaluate", "hwr-export", "hwr-predict")
            network = run("hwr-train")[0].out if name in reads else drawn
            job = Job(name, drawn, network, tmp_path_factory.mktemp(name.replace(" ", "")))
            result = job.start().wait()
            assert result.code == 0, result.output
            finished[name] = job, result
        return finished[name]

    return run


@pytest.fixture(scope="session")
def trained(undisturbed: Undisturbed) -> Path:
    """The folder of a finished run."""
    return undisturbed("hwr-train")[0].out


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    properties = [pair for one in reports if one.when == "call" for pair in one.user_properties]
    counts = Counter(pair for pair in properties if pair[1] in ("fine", "lost"))
    rows = [(name, counts[name, "fine"], counts[name, "lost"]) for name in {n for n, _ in counts}]
    if not rows:
        return
    rows = [*sorted(rows), ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))]
    terminalreporter.section(f"fault campaign, seed {SEED}")
    terminalreporter.write_line(f"{'kind':48}{'tried':>8}{'fine':>8}{'lost':>8}")
    for name, fine, lost in rows:
        terminalreporter.write_line(f"{name:48}{fine + lost:8}{fine:8}{lost:8}")
