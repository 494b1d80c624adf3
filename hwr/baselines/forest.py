"""hwr-forest: the random forest of scikit-learn, on the same splits and with the same metrics."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from hwr.data import load_dataset, load_split
from hwr.inference import forestfile
from hwr.reporting import columns, figures, metrics, results
from hwr.runs import run_folder

CARD = ("height", "width", "channels", "preprocessing")


def forest(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Fit a forest, test it, and write its run folder.

    Args:
        config: The settings, as `hwr.compose(config_name="forest")` gives them.
        folder: The run folder; it may exist, but must not hold a run.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: The dataset is missing, broken, or cannot be split as asked.
        RunError: The folder holds a run.
    """
    config = config.copy()
    config.output_dir = str(folder)
    dataset, splitter = load_dataset(config.data), load_split(config.split)
    charset, label = dataset.charset, dataset.labels.numpy()
    parts = splitter.split(label, dataset.writers, charset.names)
    described = run_folder.describe(dataset, splitter, parts)
    with run_folder.started(folder, config):
        pixels = np.divide(dataset.images.numpy(), 255, dtype=np.float32).reshape(len(label), -1)
        started = time.perf_counter()
        trees = fit_forest(config, pixels[parts.train], label[parts.train])
        values: dict[str, Any] = {
            "model": "forest",
            **described,
            "parameters": sum(tree.tree_.node_count for tree in trees.estimators_),
            "epochs": 1,
            "reported_epoch": 1,
            "fit_seconds": time.perf_counter() - started,
        }
        card = {
            "charset": list(charset.names),
            **{name: getattr(dataset, name) for name in CARD},
            "frame": run_folder.frame_of(dataset, parts.train, finds_ink=False),
            "about": {
                **{"hwr_version": version("hwr"), **described, "seed": config.seed},
                "config": run_folder.settings(config),
            },
        }
        forestfile.save(trees, card, folder / "forest.skops")
        scores = {
            stage: (_log_probability(trees, pixels[rows], len(charset)), label[rows])
            for stage, rows in vars(parts).items()
        }
        scores["oob"] = _out_of_bag(trees, pixels[parts.train], label[parts.train], len(charset))
        for stage, (score, own) in scores.items():
            if len(own):
                evaluated = metrics.evaluate(score, torch.from_numpy(own), charset)
                values |= {f"{stage}/{name}": value for name, value in evaluated.items()}
        score, own = scores["test"]
        images = dataset.images[parts.test].numpy()
        result = figures.TestResult(images, own, score.exp().numpy(), charset)
        with SummaryWriter(str(folder)) as writer:
            _write_events(writer, config, values, result)
        predictions = run_folder.rows_of(
            [dataset.files[row] for row in parts.test], own, score, charset
        )
        groups = None if dataset.writers is None else dataset.writers[parts.test]
        return run_folder.finish(folder, config, values, predictions, groups)


def fit_forest(
    config: DictConfig, pixels: NDArray[np.float32], label: NDArray[np.int64]
) -> RandomForestClassifier:
    """Fit a forest.

    Args:
        config: Its settings.
        pixels: Shape (N, P), finite.
        label: Shape (N,).
    """
    trees = RandomForestClassifier(
        config.n_estimators, random_state=config.seed, n_jobs=config.n_jobs
    )
    with config_context(assume_finite=True):  # the same trees, fewer checks for each
        trees.fit(pixels, label)
    trees.set_params(n_jobs=1)  # threads would add up the votes in a random order
    return trees


def _write_events(
    writer: SummaryWriter,
    config: DictConfig,
    values: dict[str, Any],
    result: figures.TestResult,
) -> None:
    """Write metrics, plots and hyper-parameters for TensorBoard, and plots as files."""
    results.write_settings(writer, run_folder.settings(config))
    for tag, value in values.items():
        if "/" in tag:
            writer.add_scalar(tag, value, 1)
    if config.plots:
        plots = results.draw(result, "random forest")
        results.save(plots, Path(config.output_dir))
        for tag, plot in plots.items():
            writer.add_image(tag, plot, 1, dataformats="HWC")
        results.write_test(writer, result, result.probability, 1)
    writer.flush()
    # "." is the folder of the run itself; without a name there would be one more run for these.
    writer.add_hparams(*columns.hparams(config, values), run_name=".", global_step=1)


def _log_probability(
    trees: RandomForestClassifier, pixels: NDArray[np.float32], classes: int
) -> Tensor:
    """Compute the log of the share of trees' votes, shape (N, C)."""
    share = np.zeros((len(pixels), classes))
    if len(pixels):
        share[:, trees.classes_] = trees.predict_proba(pixels)
    return _log(share)


def _out_of_bag(
    trees: RandomForestClassifier,
    pixels: NDArray[np.float32],
    label: NDArray[np.int64],
    classes: int,
) -> tuple[Tensor, NDArray[np.int64]]:
    """Predict training images by the trees that were not fitted to them (L. Breiman, 2001).

    Images that every tree was fitted to are left out.

    Returns:
        Log-probabilities, shape (N, C), and labels, shape (N,).
    """
    votes = np.zeros((len(pixels), classes))
    for tree, fitted in zip(trees.estimators_, trees.estimators_samples_, strict=True):
        unseen = np.setdiff1d(np.arange(len(pixels)), fitted)
        if len(unseen):
            votes[np.ix_(unseen, trees.classes_)] += tree.predict_proba(pixels[unseen])
    total = votes.sum(axis=1)
    judged = total > 0
    return _log(votes[judged] / total[judged, None]), label[judged]


def _log(share: NDArray[np.float64]) -> Tensor:
    """Take the log of a share; 0 counts as Keras' 1e-7."""
    return torch.from_numpy(np.log(np.clip(share, 1e-7, 1))).float()
