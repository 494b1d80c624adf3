"""Test hwr-board: TensorBoard in a real browser, on new runs of three models."""

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
from programs import TRAIN, expect_user_error, run

from hwr.baselines.forest import forest
from hwr.cli.board import count_runs
from hwr.config.compose import compose
from hwr.errors import RunError
from hwr.training.train import train

BOARD = TRAIN.with_name("hwr-board")
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


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BOARD, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def board(sweep: Path) -> Iterator[str]:
    """The address of hwr-board on the sweep."""
    process = start(sweep)
    try:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert address
        yield address[0]
    finally:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=20)[1]
    assert (process.returncode, errors) == (0, "hwr-board: stopped\n")


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
def show(browser: Any, board: str) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page and waits for texts; no script may fail on it."""
    window = browser.new_page(viewport={"width": 1440, "height": 1000})
    window.set_default_timeout(20_000)
    errors: list[str] = []
    window.on("pageerror", lambda error: errors.append(str(error)))

    def show(name: str, *texts: str) -> Any:
        window.goto(f"{board}#{name}")
        for text in texts:
            window.get_by_text(text, exact=True).locator("visible=true").first.wait_for()
        return window

    yield show
    window.close()
    assert errors == []


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("timeseries", ["mlp", "cnn", "forest", "Smoothed"]),
        ("custom_scalars", ["training and validation", "acc_nocase", "acc_digits"]),
        ("text", ["tag: run/settings/text_summary", "tag: run/environment/text_summary"]),
        ("pr_curves", ["tag: pr/all"]),
    ],
)
def test_pages(show: Callable[..., Any], name: str, texts: list[str]) -> None:
    show(name, *texts)


def test_scalars(show: Callable[..., Any]) -> None:
    page = show("scalars")
    page.locator("input:visible").first.wait_for()
    page.get_by_label("Filter tags (regular expressions supported)").first.fill("val/acc")
    for text in ("tag: val/acc_nocase", "tag: val/acc_digits"):
        page.get_by_text(text, exact=True).first.wait_for()


def test_images(show: Callable[..., Any]) -> None:
    page = show("images", "tag: test/confusion", "tag: test/mistakes")
    image = page.locator("img[src*='individualImage']").first
    image.wait_for()
    page.wait_for_function("image => image.naturalWidth > 300", arg=image.element_handle())


def test_hparams(show: Callable[..., Any]) -> None:
    page = show("hparams", "Trial ID", "hp/val_acc", "0.0005", "-", "mlp", "cnn", "forest")
    assert page.get_by_text("-1.0000").count() == 0
    page.get_by_text("Parallel Coordinates View").click()
    page.locator("svg text").filter(has_text="hp/test_acc").first.wait_for()
    lines = page.locator("tf-hparams-parallel-coords-plot g.foreground path")
    lines.first.wait_for()
    assert lines.count() == 3


def test_projector(show: Callable[..., Any], board: str) -> None:
    page = show("projector")
    inner = page.frame_locator("iframe").frame_locator("iframe")
    inner.locator(".numDataPoints").filter(has_text="62").wait_for()
    inner.locator("canvas").first.wait_for()
    run = {"run": "forest", "name": "test_images:00001"}
    labels = page.request.get(f"{board}data/plugin/projector/metadata", params=run).text()
    assert labels.startswith("true\tpredicted\toutcome\n")


def test_mistakes(tmp_path: Path) -> None:
    expect_user_error(run(tmp_path, BOARD, "absent"), "no folder")
    expect_user_error(run(tmp_path, BOARD, "."), "no run with TensorBoard events")
    assert run(tmp_path, BOARD, "--port", "x").returncode == 2


def test_runs_are_counted_while_they_train(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        count_runs(tmp_path)
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "events.out.tfevents.1.x").touch()
    assert count_runs(tmp_path) == 2


def test_the_limit_of_open_files() -> None:
    code = (
        "import resource as r; from hwr.cli.board import allow_files;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 900)); allow_files(100);"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (256, 900); allow_files(800);"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (800, 900); allow_files(901)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "may need 901 open files for so many runs, but the system allows 900" in done.stderr


def test_stopped_at_once(sweep: Path) -> None:
    """Ctrl-C while TensorBoard is still coming up."""
    process = start(sweep)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert "Traceback" not in errors
    assert process.returncode in (0, 130, -signal.SIGINT)
