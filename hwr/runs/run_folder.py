"""The run folder, the same for networks and forest: metrics, predictions, model card.

`metrics.json` is written last: a folder that holds one is a finished run.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from hwr.charset import Charset
from hwr.config.compose import plain
from hwr.errors import RunError, sanitize
from hwr.files import atomic_write, file_lock
from hwr.reporting import modelcard
from hwr.reporting.metrics import bootstrap
from hwr.runs.records import check_free

PLOTS = ("confusion.png", "mistakes.png", "reliability.png", "curves.png")
STALE = ("metrics.json", "failed.json", *PLOTS)
"""Files that tell of the end of a run, and no longer do when it is resumed."""
Prediction = tuple[str, str, str, float]
"""File, label, predicted character, probability of it."""


@contextmanager
def lock_run(folder: Path, config: DictConfig) -> Iterator[None]:
    """Lock a folder for a run until the block ends.

    Args:
        folder: The run folder.
        config: The settings.

    Raises:
        RunError: The folder holds a run already, other than the one that is resumed, or another
            process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    another = RunError(f"another process writes into {folder}; choose another hydra.run.dir")
    with file_lock(folder, another):
        check_free(folder, config)
        for name in STALE:
            (folder / name).unlink(missing_ok=True)
        yield


def describe(dataset: Any, splitter: Any, parts: Any) -> dict[str, Any]:
    """Describe data and split, the same for every model.

    Args:
        dataset: The CharacterDataset.
        splitter: The split of `hwr.data`.
        parts: What it gave: rows for training, validation and test.
    """
    return {
        "data": dataset.name,
        "classes": len(dataset.charset),
        "split": splitter.name,
        "val_is_test": splitter.val_is_test,
        "train_images": len(parts.train),
        "val_images": len(parts.val),
        "test_images": len(parts.test),
        "data_fingerprint": dataset.fingerprint,
    }


def settings(config: DictConfig) -> dict[str, Any]:
    """Return the resolved settings that tell runs apart."""
    left_out = ("callbacks", "logger", "output_dir")
    return {str(key): plain(config[key]) for key in config if key not in left_out}


def finish(
    folder: Path,
    config: DictConfig,
    metrics: dict[str, Any],
    predictions: Sequence[Prediction],
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Write `predictions.csv`, `README.md` and `metrics.json`, and print a summary.

    Args:
        folder: The run folder.
        config: The settings of the run.
        metrics: Metrics of the run, the values of `describe`, and `model`, `parameters`,
            `epochs`, `reported_epoch`, `fit_seconds`.
        predictions: One for each test image.
        groups: The writer of each test image, shape (N,), for the interval; None if unknown.

    Returns:
        The content of `metrics.json`.
    """
    metrics = {
        "partial": False,
        **metrics,
        "seed": config.seed,
        "git_commit": git_commit(),
        "hwr_version": version("hwr"),
        "config": settings(config),
    }
    write_predictions(folder, predictions)
    if predictions and "test/acc" in metrics:
        correct = np.array([label == guess for _, label, guess, _ in predictions], dtype=float)
        interval = bootstrap(correct, np.arange(len(correct)) if groups is None else groups)
        modelcard.write(folder, metrics, interval, predictions)
    with atomic_write(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    names = {
        "test/acc": "test accuracy",
        "test/acc_nocase": "case-insensitive",
        "test/top3": "top 3",
    }
    shown = [f"{name} {metrics[key]:.4f}" for key, name in names.items() if key in metrics]
    shown += [f"{metrics['test_images']:,} test images{' (partial)' * metrics['partial']}"]
    print(f"{', '.join(shown)}; fitted in {metrics['fit_seconds']:.1f} s\n{sanitize(str(folder))}")
    return metrics


def write_predictions(folder: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.csv`."""
    table = pd.DataFrame(predictions, columns=["file", "label", "prediction", "probability"])
    with atomic_write(folder / "predictions.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.8f", lineterminator="\n")


def prediction_rows(
    files: Sequence[str], label: NDArray[np.int64], log_probability: Tensor, charset: Charset
) -> list[Prediction]:
    """Build the rows of `predictions.csv`.

    Args:
        files: Names of N images.
        label: Shape (N,).
        log_probability: Shape (N, C).
        charset: The C classes.
    """
    probability, predicted = log_probability.exp().max(dim=1)
    names = np.array(charset.names)
    labels, predictions = names[label].tolist(), names[predicted.numpy()].tolist()
    return list(zip(files, labels, predictions, probability.tolist(), strict=True))


def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None for a wheel.

    `-dirty` is appended if tracked files differ from it.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists() or not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
