"""Fixtures: a cache of the tests' own, a small data set on disk, the real one where it is found."""

import os
from pathlib import Path

import pytest

from hwr import synthetic

CLASSES = "019Aa"
WRITERS = 4


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["HWR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def draw(folder: Path, pictures: str = "Img") -> Path:
    """A data set of the Kaggle form: five classes, four writers."""
    rows = ["image,label"]
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    for writer in range(1, WRITERS + 1):
        drawn = synthetic.pictures(writer, 0)
        for label in CLASSES:
            number = synthetic.CHARACTERS.index(label)
            name = f"img{number + 1:03d}-{writer:03d}.png"
            drawn[number].convert("RGB").save(folder / pictures / name, compress_level=1)
            rows.append(f"Img/{name},{label}")
    (folder / "english.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


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
