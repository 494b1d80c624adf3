"""Killed at any moment: files are whole or absent, and a run goes on as if nothing had been."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_fetch
import torch
from campaign import Campaign
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from victim import Aim, Ended, knows, moments, run

from hwr import checkpoint, forestfile

PHASES = ("preparation", "cache", "training", "checkpoint", "test", "report")
SMALL = ["data.height=60", "data.width=80", "data.batch_size=8", "split.val_size=0.34"]
TRAIN = ["data=folder", "model=mlp", "trainer.max_epochs=4", "monitor=val/loss", *SMALL]


def arguments(drawn: Path, folder: Path, *more: str) -> list[str]:
    where = [f"data.root={drawn}", f"data.cache={folder}/cache", f"hydra.run.dir={folder}/run"]
    return [*TRAIN, *where, *more]


def figures(folder: Path) -> dict[str, Any]:
    """What came out of a run, without what differs each time."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if "/" in name and "oob" not in name}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    told = [tag for tag in events.Tags()["scalars"] if "second" not in tag]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in told}


def weights(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = checkpoint.read(file)["state_dict"]
    return found


def same_run(one: Path, other: Path) -> None:
    """Two run folders tell the same in all digits."""
    assert figures(one) == figures(other)
    assert curves(one) == curves(other)
    for name in ("last", "best"):
        mine, its = (weights(folder / f"checkpoints/{name}.ckpt") for folder in (one, other))
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[key], its[key]) for key in mine)
    for name in ("predictions.csv", "README.md", "config.yaml"):
        assert (one / name).exists() == (other / name).exists()
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def cache_is_whole(cache: Path) -> None:
    for file in cache.glob("*.npz"):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
        assert np.load(file)["image"].dtype == np.uint8


def go_on(drawn: Path, folder: Path) -> Ended:
    """The same line again, from the last checkpoint if there is one."""
    last = folder / "run/checkpoints/last.ckpt"
    more = [f"ckpt={last}"] if last.exists() else []
    return run(folder, "hwr-train", arguments(drawn, folder, *more))


def hit(
    campaign: Campaign,
    ended: Ended,
    folder: Path,
    command: str,
    words: list[str],
    phase: str,
    by: signal.Signals = signal.SIGKILL,
    before: Callable[[], Any] | None = None,
) -> Ended | None:
    """Run a command that was seen to end once, and hit it in a phase; None: it came too late."""
    chances = [(number, length) for name, number, length in moments(ended.marks) if name == phase]
    assert chances, f"no phase {phase} in {ended.marks}"
    number, length = chances[campaign.random.integers(len(chances))]
    after = length * campaign.random.random()
    folder.mkdir()
    aim = Aim(lambda process: os.kill(process, by), phase, number, after)
    found = run(folder, command, words, aim, before)
    return None if found.phase == "end" else found


def stopped(found: Ended, program: str, undisturbed: Ended) -> str:
    """The sentence that a command ends with; it may have said what it was to say before."""
    *before, said = found.said.splitlines()
    assert said.startswith(f"{program}: stopped")
    assert len(before) <= len(undisturbed.said.splitlines()), found.said
    assert "Traceback" not in found.said
    return said


def test_train(
    campaign: Campaign, drawn: Path, undisturbed: tuple[Path, Ended], tmp_path: Path
) -> None:
    """Killed in every phase; one that moves on before it is hit counts for the phase it died in."""
    whole, ended = undisturbed
    hits = dict.fromkeys(PHASES, 0)
    wanted = len(campaign.trials(17, 1))
    for number in range(10 * wanted * len(PHASES)):
        folder = tmp_path / str(number)
        phase = min(PHASES, key=lambda name: hits[name])
        found = hit(campaign, ended, folder, "hwr-train", arguments(drawn, folder), phase)
        if found is not None and found.phase in hits:
            assert found.code == -signal.SIGKILL, found.said
            hits[found.phase] += 1
            with campaign.trial(f"hwr-train killed in {found.phase}"):
                cache_is_whole(folder / "cache")
                for file in (folder / "run").rglob("*.ckpt"):
                    checkpoint.read(file)
                again = go_on(drawn, folder)
                assert again.code == 0, again.said
                same_run(folder / "run", whole / "run")
        shutil.rmtree(folder)
        if min(hits.values()) >= wanted:
            break
    assert min(hits.values()) >= wanted, hits


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_stopped(
    campaign: Campaign,
    drawn: Path,
    undisturbed: tuple[Path, Ended],
    tmp_path: Path,
    by: signal.Signals,
    code: int,
) -> None:
    """One sentence that says how to go on, and nothing half written is left."""
    whole, ended = undisturbed
    hits, wanted = 0, len(campaign.trials(12, 2))
    for number in range(10 * wanted):
        folder = tmp_path / str(number)
        phase = PHASES[hits % len(PHASES)] if hits > 1 else "training"
        found = hit(campaign, ended, folder, "hwr-train", arguments(drawn, folder), phase, by)
        if found is not None:
            hits += 1
            with campaign.trial(f"hwr-train stopped by {by.name}"):
                assert found.code == code, found.said
                said = stopped(found, "hwr-train", ended)
                assert not list(folder.rglob("*.part"))
                if (last := folder / "run/checkpoints/last.ckpt").exists():
                    assert found.phase not in ("training", "checkpoint") or f"ckpt={last}" in said
                again = go_on(drawn, folder)
                assert again.code == 0, again.said
                same_run(folder / "run", whole / "run")
        shutil.rmtree(folder)
        if hits == wanted:
            break
    assert hits == wanted, f"{hits} hits"


def listing(folder: Path) -> dict[str, bytes]:
    """Every file that is no event or run's own record of times, by its path."""
    timed = ("tfevents", "metrics.json", "README.md", ".hydra", "config.yaml", ".skops")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(word in str(file) for word in timed)
    }


FOREST = ["data=folder", "n_estimators=20", "split.val_size=0", "data.height=60", "data.width=80"]


CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


def known(drawn: Path) -> dict[str, str]:
    """The checksums by which hwr-data fetch knows the pictures."""
    files = drawn.glob("Img/*.png")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def address(drawn: Path, tmp_path: Path) -> Iterator[str]:
    """Where an archive of the pictures can be fetched, slowly."""
    pictures = {file.name: file.read_bytes() for file in drawn.glob("Img/*.png")}
    content = test_fetch.tgz(tmp_path / "served.tgz", test_fetch.chars74k(pictures)).read_bytes()
    with test_fetch.Server(content) as server:
        server.script = ["slow"]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.url
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("command", "phases", "whole"),
    [
        ("hwr-forest", ("preparation", "cache", "model", "test", "report"), 15),
        ("hwr-data draw", ("drawing",), 10),
        ("hwr-data fetch", ("writing",), 10),
        ("hwr-data fetch by address", ("downloading", "writing"), 15),
        ("hwr-export", ("loading", "exporting"), 10),
    ],
)
@pytest.mark.parametrize("by", CODES)
def test_other_commands(
    campaign: Campaign,
    drawn: Path,
    network: Path,
    address: str,
    tmp_path: Path,
    command: str,
    phases: tuple[str, ...],
    whole: int,
    by: signal.Signals,
) -> None:
    """What they write is there whole, or not at all; the same line again writes it."""
    name = command.partition(" ")[0]
    if name == "hwr-export" and by != signal.SIGKILL and not campaign.trials(1, 0):
        pytest.skip("exporting takes long; the whole campaign has it")
    out = tmp_path / "home/out"
    words = {
        "hwr-forest": [*FOREST, f"data.root={drawn}", f"data.cache={tmp_path}/cache"],
        "hwr-data draw": ["draw", str(out), "--writers", "2"],
        "hwr-data fetch": ["fetch", str(out), "--from", str(drawn)],
        "hwr-data fetch by address": ["fetch", str(out), "--from", address],
        "hwr-export": [str(network), "--out", str(out / "model.onnx")],
    }[command]
    if name == "hwr-forest":
        words.append(f"hydra.run.dir={out}")
    before = partial(knows, known(drawn), tmp_path / "cache")

    def clear() -> None:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    clear()
    ended = run(tmp_path, name, words, before=before)
    assert ended.code == 0, ended.said
    expected = listing(out)
    assert expected
    hits, wanted = 0, len(campaign.trials(whole, 1))
    for number in range(10 * wanted):
        clear()
        place = tmp_path / str(number)
        phase = phases[hits % len(phases)]
        found = hit(campaign, ended, place, name, words, phase, by, before)
        if found is None:
            continue
        with campaign.trial(f"{command} hit by {by.name}"):
            assert found.code == CODES[by], found.said
            if name == "hwr-forest":
                cache_is_whole(tmp_path / "cache")
                for file in out.glob("*.skops"):
                    forestfile.load_forest(file)
            else:  # all or nothing
                assert listing(out) in ({}, expected)
            if by != signal.SIGKILL:
                stopped(found, name, ended)
                assert not list(out.parent.rglob("*.part"))
            if not listing(out) or name == "hwr-forest":
                again = run(tmp_path, name, words, before=before)
                assert again.code == 0, again.said
            assert listing(out) == expected
        hits += 1
        if hits == wanted:
            break
    assert hits == wanted, f"{hits} hits"


@pytest.mark.parametrize("by", CODES)
def test_sweep(campaign: Campaign, drawn: Path, tmp_path: Path, by: signal.Signals) -> None:
    """A sweep hit in any job goes on by the same line, and ends as if nothing had been."""

    def words(folder: Path) -> list[str]:
        where = [f"data.root={drawn}", f"data.cache={folder}/cache", f"hydra.sweep.dir={folder}/s"]
        return ["-m", "seed=0,1,2", "report=light", *TRAIN, *where]

    whole = tmp_path / "whole"
    whole.mkdir()
    ended = run(whole, "hwr-train", words(whole))
    assert ended.code == 0, ended.said
    phases = ("training", "checkpoint", "test", "report")
    hits, wanted = 0, len(campaign.trials(10, 1))
    for number in range(10 * wanted):
        folder = tmp_path / str(number)
        phase = phases[hits % len(phases)]
        found = hit(campaign, ended, folder, "hwr-train", words(folder), phase, by)
        if found is not None:
            hits += 1
            with campaign.trial(f"sweep hit by {by.name} in a job"):
                assert found.code == CODES[by], found.said
                if by != signal.SIGKILL:
                    assert f"hydra.sweep.dir={folder}/s goes on" in stopped(
                        found, "hwr-train", ended
                    )
                    assert not list(folder.rglob("*.part"))
                again = run(folder, "hwr-train", words(folder))
                assert again.code == 0, again.said
                for job in "012":
                    same_run(folder / "s" / job, whole / "s" / job)
        shutil.rmtree(folder)
        if hits == wanted:
            break
    assert hits == wanted, f"{hits} hits"


IMPORTING = """
import os, runpy, signal, sys

number, by, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
del sys.argv[:3]
seen = 0


def watch(event, _):
    global seen
    if event == "import" and signal.getsignal(signal.SIGTERM) not in DEAF:
        seen += 1
        if seen == number:
            os.kill(os.getpid(), by)


DEAF = (signal.SIG_DFL, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(watch)
runpy.run_path(program, run_name="__main__")
"""
"""Hits a command when it imports a module, the how many-th it is told, once it can be stopped."""


@pytest.mark.parametrize(
    "program",
    [
        f"hwr-{name}"
        for name in ("train", "forest", "evaluate", "data", "predict", "export", "runs")
    ],
)
def test_imports(
    campaign: Campaign, drawn: Path, network: Path, tmp_path: Path, program: str
) -> None:
    """A stop is heeded in any import; compiled modules would make other errors of it."""
    out = tmp_path / "out"
    where = [f"data.root={drawn}", f"data.cache={tmp_path}/cache", f"hydra.run.dir={out}"]
    words = {
        "hwr-train": [*TRAIN, *where],
        "hwr-forest": [*FOREST, *where],
        "hwr-evaluate": [f"ckpt={network}", *where],
        "hwr-data": ["show", str(drawn), "--out", str(out)],
        "hwr-predict": [str(network), str(drawn)],
        "hwr-export": [str(network), "--out", str(out / "model.onnx")],
        "hwr-runs": [str(network), "--plot", str(out / "plot.png")],
    }[program]
    hits, wanted = 0, len(campaign.trials(10, 1))
    for _ in range(20 * wanted):
        by = (signal.SIGINT, signal.SIGTERM)[hits % 2]
        number = int(5000 ** campaign.random.random())
        script = Path(sys.executable).with_name(program)
        done = subprocess.run(
            [sys.executable, "-c", IMPORTING, str(number), str(int(by)), script, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:  # it imports fewer
            continue
        hits += 1
        with campaign.trial(f"{program} stopped while it imports"):
            assert done.returncode == CODES[by], done.stderr
            assert done.stderr.splitlines()[-1].startswith(f"{program}: stopped"), done.stderr
            assert "Traceback" not in done.stderr
            assert not list(tmp_path.rglob("*.part"))
        if hits == wanted:
            break
    assert hits == wanted, f"{hits} hits"
