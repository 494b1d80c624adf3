"""Fixtures: a cache of the tests' own, a small data set on disk, the real one where it is found."""

import os
from pathlib import Path

import pytest
from english import draw


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["HWR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def english(tmp_path: Path) -> Path:
    """A data set on disk that the test may break."""
    return draw(tmp_path / "english")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests that change nothing in it."""
    return draw(tmp_path_factory.mktemp("drawn") / "english")


@pytest.fixture(scope="session")
def real() -> Path:
    """The real data set."""
    root = Path(os.environ.get("HWR_DATA", "data/english"))
    if not (root / "english.csv").is_file():
        pytest.skip(f"the real data set is not in {root} (HWR_DATA, else data/english)")
    return root
