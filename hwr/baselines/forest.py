"""Train scikit-learn's random forest on the splits, and with the metrics, of the networks."""

import time
import warnings
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
from hwr.errors import RunError
from hwr.inference import forestfile
from hwr.reporting import columns, figures, metrics, results
from hwr.runs import run_folder


def forest(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Fit a forest, test it, and write its run folder.

    Args:
        config: The settings, as `hwr.compose(config_name="forest")` gives them.
        folder: The run folder; it may exist, but must not hold a run.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: The dataset is missing, broken, or cannot be split as asked.
        RunError: The folder holds a run, or the clock is wrong.
    """
    if (year := time.localtime(time.time()).tm_year) < 1980:
        raise RunError(
            f"this machine's clock says {year}; set it: skops writes no date before 1980"
        )
    dataset, splitter = load_dataset(config.data), load_split(config.split)
    charset, label = dataset.charset, dataset.labels.numpy()
    parts = splitter.split(label, dataset.writers, charset.names)
    described = run_folder.describe(dataset, splitter, parts)
    with run_folder.lock_run(folder, config):
        pixels = np.divide(dataset.images.numpy(), 255, dtype=np.float32).reshape(len(label), -1)
        started = time.perf_counter()
        trees, oob = fit_forest(config, pixels[parts.train], label[parts.train])
        values: dict[str, Any] = {
            "model": "forest",
            **described,
            "parameters": sum(tree.tree_.node_count for tree in trees.estimators_),
            "epochs": 1,
            "reported_epoch": 1,
            "fit_seconds": time.perf_counter() - started,
        }
        about = {"hwr_version": version("hwr"), **described, "seed": config.seed}
        card = {
            "charset": list(charset.names),
            **{k: getattr(dataset, k) for k in ("height", "width", "channels", "preprocessing")},
            "image_statistics": dataset.statistics(parts.train),
            "about": {**about, "config": run_folder.settings(config)},
        }
        forestfile.save(trees, card, folder / "forest.skops")
        voted, classes = oob.any(axis=1), (trees.classes_, len(charset))
        scores = {"oob": (_log_probability(oob[voted], *classes), label[parts.train][voted])}
        for stage, rows in vars(parts).items():
            if len(rows):
                votes = trees.predict_proba(pixels[rows])
                scores[stage] = _log_probability(votes, *classes), label[rows]
        for stage, (score, own) in scores.items():
            evaluated = metrics.evaluate(score, torch.from_numpy(own), charset)
            values |= {f"{stage}/{name}": value for name, value in evaluated.items()}
        score, own = scores["test"]
        images = dataset.images[parts.test].numpy()
        result = figures.TestResult(images, own, score.exp().numpy(), charset)
        _write_plots(folder, config, values, result)
        files = [dataset.files[row] for row in parts.test]
        predictions = run_folder.prediction_rows(files, own, score, charset)
        writers = None if dataset.writers is None else dataset.writers[parts.test]
        return run_folder.finish(folder, config, values, predictions, writers)


def fit_forest(
    config: DictConfig, pixels: NDArray[np.float32], label: NDArray[np.int64]
) -> tuple[RandomForestClassifier, NDArray[np.float64]]:
    """Fit a forest.

    Args:
        config: Its settings.
        pixels: Shape (N, P), finite.
        label: Shape (N,).

    Returns:
        The forest, and for each image the share of votes of the trees that were not fitted to it
        (out of bag; L. Breiman, 2001), shape (N, K); zeros where every tree was fitted to it.
    """
    trees = RandomForestClassifier(
        config.n_estimators, random_state=config.seed, n_jobs=config.n_jobs, oob_score=True
    )
    with config_context(assume_finite=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        trees.fit(pixels, label)
    oob = trees.oob_decision_function_
    del trees.oob_decision_function_, trees.oob_score_  # not needed in the file
    trees.set_params(n_jobs=1)  # threads would add up the votes in a random order
    return trees, oob


def _log_probability(votes: NDArray[np.float64], classes: NDArray[np.int64], count: int) -> Tensor:
    """Take the log of votes (N, K) for K of C classes, shape (N, C); 0 counts as Keras' 1e-7."""
    share = np.zeros((len(votes), count))
    share[:, classes] = votes
    return torch.from_numpy(np.log(np.clip(share, 1e-7, 1))).float()


def _write_plots(
    folder: Path,
    config: DictConfig,
    values: dict[str, Any],
    result: figures.TestResult,
) -> None:
    """Write metrics, plots and hyper-parameters for TensorBoard, and plots as files."""
    settings = run_folder.settings(config)
    with SummaryWriter(str(folder)) as writer:
        results.write_settings(writer, settings)
        for tag, value in values.items():
            if "/" in tag:
                writer.add_scalar(tag, value, 1)
        if config.plots:
            plots = results.draw(result, "random forest")
            results.save(plots, folder)
            for tag, plot in plots.items():
                writer.add_image(tag, plot, 1, dataformats="HWC")
            results.write_test(writer, result, result.probability, 1)
        writer.flush()
        # "." is the folder of the run itself; without a name there would be one more run for these.
        writer.add_hparams(*columns.hparams(settings, values), run_name=".", global_step=1)
