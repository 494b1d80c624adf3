"""hwr-board: TensorBoard in a real browser, on new runs of three models."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwr.baselines.forest import forest
from hwr.cli.board import count_runs
from hwr.config.compose import compose
from hwr.errors import RunError
from hwr.training.train import train

BOARD = Path(sys.executable).with_name("hwr-board")
SMALL = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card, for the projector
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every model in one folder."""
    root = tmp_path_factory.mktemp("board") / "sweep"
    for model in ("mlp", "cnn"):
        settings = [f"model={model}", "trainer.max_epochs=2", "split.val_size=0.34"]
        train(compose([*SMALL, *settings]), root / model)
    forest(compose([*SMALL, "n_estimators=10"], "forest"), root / "forest")
    return root


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """hwr-board in a process of its own."""
    return subprocess.Popen(
        [BOARD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def address(board: subprocess.Popen[str]) -> str:
    """Where it says that it is."""
    assert board.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", board.stdout.readline())
    assert found, board.stderr.read() if board.stderr else ""
    return found[0]


@pytest.fixture(scope="module")
def board(sweep: Path) -> Iterator[str]:
    """The address of hwr-board on the sweep."""
    process = start(sweep)
    try:
        yield address(process)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said == "hwr-board: stopped\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or another that HWR_CHROMIUM names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("HWR_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no browser: there is no chromium on the PATH, and HWR_CHROMIUM is not set")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser: Any, board: str) -> Iterator[Callable[[str], Any]]:
    """Opens a page of TensorBoard in a window of a usual size; no script may fail on it."""
    window = browser.new_page(viewport={"width": 1440, "height": 1000})
    window.set_default_timeout(20_000)
    wrong: list[str] = []
    window.on("pageerror", lambda error: wrong.append(str(error)))
    shown: list[str] = []

    def show(name: str) -> Any:
        window.goto(f"{board}#{name}")
        shown.append(name)
        return window

    yield show
    if folder := os.environ.get("HWR_SCREENSHOTS"):
        window.wait_for_timeout(1500)
        window.screenshot(path=f"{folder}/{shown[0]}.png")
    window.close()
    assert wrong == []


def sees(page: Any, *words: str) -> None:
    """Each text is there to be seen."""
    for word in words:
        page.get_by_text(word, exact=True).locator("visible=true").first.wait_for()


def test_time_series(show: Callable[[str], Any]) -> None:
    page = show("timeseries")
    sees(page, "mlp", "cnn", "forest")
    page.locator("tb-filter-input input").last.fill("val/acc$")
    sees(page, "val/acc", "Smoothed")


def test_scalars(show: Callable[[str], Any]) -> None:
    page = show("scalars")
    page.locator("input:visible").first.wait_for()
    page.get_by_label("Filter tags (regular expressions supported)").first.fill("val/acc")
    sees(page, "tag: val/acc_nocase", "tag: val/acc_digits")


def test_custom_scalars(show: Callable[[str], Any]) -> None:
    page = show("custom_scalars")
    sees(page, "training and validation", "acc_nocase", "acc_digits")


def test_images(show: Callable[[str], Any]) -> None:
    page = show("images")
    sees(page, "tag: test/confusion", "tag: test/mistakes")
    picture = page.locator("img[src*='individualImage']").first
    picture.wait_for()
    page.wait_for_function("image => image.naturalWidth > 300", arg=picture.element_handle())


def test_text(show: Callable[[str], Any]) -> None:
    page = show("text")
    sees(
        page, "tag: run/settings/text_summary", "tag: run/environment/text_summary", "scikit-learn"
    )


def test_pr_curves(show: Callable[[str], Any]) -> None:
    sees(show("pr_curves"), "tag: pr/all", "tag: pr_confusable/0")


def test_hparams(show: Callable[[str], Any]) -> None:
    page = show("hparams")
    sees(page, "Trial ID", "hp/val_acc", "0.0005", "-")
    sees(page, "mlp", "cnn", "forest")
    assert page.get_by_text("-1.0000").count() == 0
    page.get_by_text("Parallel Coordinates View").click()
    page.locator("svg text").filter(has_text="hp/test_acc").first.wait_for()
    lines = page.locator("tf-hparams-parallel-coords-plot g.foreground path")
    lines.first.wait_for()
    assert lines.count() == 3


def test_projector(show: Callable[[str], Any], board: str) -> None:
    page = show("projector")
    inner = page.frame_locator("iframe").frame_locator("iframe")
    points = inner.locator(".numDataPoints").filter(has_text="62")
    points.wait_for()
    inner.locator("canvas").first.wait_for()
    asked = {"run": "forest", "name": "test_images:00001"}
    labels = page.request.get(f"{board}data/plugin/projector/metadata", params=asked).text()
    assert labels.startswith("true\tpredicted\toutcome\n")


def test_mistakes(tmp_path: Path) -> None:
    for arguments, words in (
        ([tmp_path / "absent"], "no folder"),
        ([tmp_path], "no run with TensorBoard events"),
        ([tmp_path, "--port", "x"], "--port"),
    ):
        done = subprocess.run(
            [BOARD, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_runs_are_counted_while_they_train(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        count_runs(tmp_path)
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "events.out.tfevents.1.x").touch()
    assert count_runs(tmp_path) == 2


def test_stopped_at_once(sweep: Path) -> None:
    """Ctrl-C while TensorBoard is still coming up."""
    process = start(sweep)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    assert process.returncode in (0, 130, -signal.SIGINT)
