"""Fixtures: a cache of the tests' own, a small dataset on disk, the real one where it is found."""

import os
import signal
from pathlib import Path

import pytest
from english import draw

CNN = ["data.batch_size=62", "experiment=notebook_cnn", "model.width_mult=0.25"]
GLYPHNET = ["experiment=best", "model.width_mult=0.25", "augment.synthetic_writers=2"]
GLYPHNET += ["trainer.max_epochs=1", "callbacks=light"]

# A shell starts what runs in the background without Ctrl-C, which the commands' tests send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["HWR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def english(tmp_path: Path) -> Path:
    """A dataset on disk that the test may break."""
    return draw(tmp_path / "english")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests that change nothing in it."""
    return draw(tmp_path_factory.mktemp("drawn") / "english")


@pytest.fixture(scope="session")
def cnn_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four epochs with a small CNN, for tests that change nothing in it."""
    return trained(tmp_path_factory.mktemp("cnn") / "run", *CNN, "trainer.max_epochs=4")


@pytest.fixture(scope="session")
def glyphnet_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a GlyphNet, writers held out, gradients clipped to nothing, bf16-mixed."""
    settings = ["split=writer", "split.folds=2", "+trainer.gradient_clip_val=1e-9"]
    return trained(tmp_path_factory.mktemp("glyphnet") / "run", *GLYPHNET, *settings)


def trained(folder: Path, *settings: str) -> Path:
    from hwr.config.compose import compose
    from hwr.training.train import train

    train(compose(["data=synthetic", "data.writers=4", *settings]), folder)
    return folder


@pytest.fixture(scope="session")
def real() -> Path:
    """The real dataset."""
    root = Path(os.environ.get("HWR_DATA", "data/english"))
    if not (root / "english.csv").is_file():
        pytest.skip(f"the real dataset is not in {root} (HWR_DATA, else data/english)")
    return root
