"""The run folder, the same for networks and forest: config, figures, predictions.

`metrics.json` is written last: a folder that holds one is a finished run.
"""

import csv
import dataclasses
import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from hwr import modelcard
from hwr.config import plain as plain
from hwr.data import Characters
from hwr.errors import RunError, printable
from hwr.files import alone, whole
from hwr.frame import Frame
from hwr.metrics import bootstrap
from hwr.schema import GlyphNetConfig, RunConfig
from hwr.split import Indices, Split

FIGURES = ("confusion.png", "mistakes.png", "reliability.png", "curves.png")
STALE = ("metrics.json", "failed.json", "projector_config.pbtxt", *FIGURES)
"""What tells of the end of a run, and no longer does when it is resumed."""
Prediction = tuple[str, str, str, float]
"""File, label, predicted character, probability of it."""


@contextmanager
def started(folder: Path, config: Any, resumed: Path | None = None) -> Iterator[None]:
    """Claim a folder for a run until the block ends, and write its config.

    Raises:
        RunError: The folder holds a run already, other than the one that is resumed, or another
            process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    another = RunError(f"another process writes into {folder}; choose another hydra.run.dir")
    with alone(folder, another):
        last = folder / "checkpoints/last.ckpt"
        ends = (folder / "metrics.json", folder / "evaluation.json", last)
        goes_on = resumed and resumed.resolve().is_relative_to(folder.resolve())
        if not goes_on and any(file.exists() for file in ends):
            trains = last.exists() and hasattr(config, "trainer")
            way = f", or go on with it by ckpt={last}" if trains else ""
            raise RunError(f"{folder} holds a run already; choose another hydra.run.dir{way}")
        for name in STALE:
            (folder / name).unlink(missing_ok=True)
        write_config(folder, config)
        yield


def write_config(folder: Path, config: Any) -> None:
    """Write the composed settings as `config.yaml`."""
    with whole(folder / "config.yaml") as beside:
        text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
        beside.write_text(text, encoding="utf-8")


def still_there(folder: Path) -> None:
    """Raise if somebody has removed the run folder: what is written now would be half a run.

    Raises:
        RunError: It is gone, or no longer this run's.
    """
    if not (folder / "config.yaml").is_file():
        raise RunError(f"{folder} was removed while the run wrote into it; start it again")


def card(config: RunConfig, characters: Characters, split: Split) -> dict[str, Any]:
    """What a model's file says of its training, plain values: `about` and `frame`."""
    finds_ink = isinstance(getattr(config, "model", None), GlyphNetConfig)
    frame = Frame.of(characters.image[split.train], characters.aspect, centre=not finds_ink)
    about = {
        "hwr_version": version("hwr"),
        "data": config.data.name,
        "data_fingerprint": characters.fingerprint,
        "split": config.split.name,
        "val_is_test": config.split.val_is_test,
        "train_pictures": len(split.train),
        "seed": config.seed,
        **began_with(config),
    }
    return {"about": about, "frame": dataclasses.asdict(frame) if frame else None}


def began_with(config: RunConfig) -> dict[str, str]:
    """Whose weights a network began with, if it did."""
    if getattr(getattr(config, "model", None), "body", "own") != "lcnet":
        return {}
    return {"began_with": "PP-OCRv6_rec_small (Baidu, Apache License 2.0)"}


def finish(
    folder: Path,
    config: RunConfig,
    characters: Characters,
    split: Split,
    figures: dict[str, Any],
    predictions: Iterable[Prediction],
) -> dict[str, Any]:
    """Write `predictions.csv`, `README.md` and `metrics.json`, and say what came out.

    Args:
        folder: The run folder.
        config: The settings of the run.
        characters: The data set.
        split: How it was cut.
        figures: What was measured, and `model`, `parameters`, `epochs`, `fit_seconds`.
        predictions: One for each test picture.

    Returns:
        What stands in `metrics.json`.

    Raises:
        RunError: The folder was removed under the run.
    """
    still_there(folder)
    metrics = {
        **figures,
        **began_with(config),
        "seed": config.seed,
        "data": config.data.name,
        "classes": len(characters.alphabet),
        "split": config.split.name,
        "val_is_test": config.split.val_is_test,
        "train_pictures": len(split.train),
        "val_pictures": len(split.val),
        "test_pictures": len(split.test),
        "data_fingerprint": characters.fingerprint,
        "git_commit": git_commit(),
        "hwr_version": version("hwr"),
        # How a run is shown tells no runs apart.
        "config": {name: value for name, value in plain(config).items() if name != "report"},
    }
    predictions = list(predictions)
    write_predictions(folder, predictions)
    right = np.array([label == guess for _, label, guess, _ in predictions], dtype=float)
    pictures = np.arange(len(split.test))
    groups = pictures if characters.writer is None else characters.writer[split.test]
    modelcard.write(folder, metrics, bootstrap(right, groups), predictions)
    with whole(folder / "metrics.json") as beside:
        beside.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(summary(metrics, folder))
    return metrics


def write_predictions(folder: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.csv`."""
    with (
        whole(folder / "predictions.csv") as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "label", "prediction", "probability"))
        table.writerows((*row[:3], f"{row[3]:.8f}") for row in predictions)


def rows_of(characters: Characters, rows: Indices, log_probability: Tensor) -> Iterable[Prediction]:
    """The rows of `predictions.csv` for these pictures, from scores of shape (N, C)."""
    names = characters.alphabet.names
    probability, predicted = log_probability.exp().max(dim=1)
    read = zip(rows, predicted.tolist(), probability.tolist(), strict=True)
    for row, guess, share in read:
        yield characters.files[row], names[characters.label[row]], names[guess], share


def summary(metrics: dict[str, Any], folder: Path) -> str:
    """The run in two lines for the terminal."""
    more = {"acc_nocase": "case folded", "top3": "top 3"}
    listed = "".join(
        f", {words} {metrics[f'test/{name}']:.4f}"
        for name, words in more.items()
        if f"test/{name}" in metrics
    )
    return (
        f"test accuracy {metrics['test/acc']:.4f} of {metrics['test_pictures']} pictures{listed}; "
        f"fitted in {metrics['fit_seconds']:.1f} s\n{printable(str(folder))}"
    )


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, None for an installed wheel.

    `-dirty` is appended where tracked files differ from it.
    """
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    command.append("--exclude=*")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
