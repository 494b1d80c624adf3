"""hwr-forest: the scikit-learn baseline on the same split, with the same figures and tags."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from hwr import forestfile, images, metrics, report, run, tensorboard
from hwr.alphabet import Alphabet
from hwr.data import Characters, load
from hwr.report import Finished
from hwr.schema import ForestConfig
from hwr.split import Split, split


def forest(config: ForestConfig, folder: Path) -> dict[str, Any]:
    """Fit a forest, test it, and write its run folder.

    Args:
        config: The settings.
        folder: The run folder; it may exist, but must not hold a run.

    Returns:
        What stands in `metrics.json`.

    Raises:
        DataError: The data set is missing, broken, or cannot be split as asked.
        RunError: The folder holds a run.
    """
    characters = load(config.data)
    parts = split(config.split, characters.label, characters.writer, characters.alphabet.names)
    with run.started(folder, config):
        return _grown(config, folder, characters, parts)


def _grown(
    config: ForestConfig, folder: Path, characters: Characters, parts: Split
) -> dict[str, Any]:
    flat = images.scale(characters.image).reshape(len(characters.label), -1)
    started = time.perf_counter()
    trees = fitted(config, flat[parts.train], characters.label[parts.train])
    fit_seconds = time.perf_counter() - started
    card = {
        **run.card(config, characters, parts),
        "alphabet": list(characters.alphabet.names),
        "size": [config.data.height, config.data.width],
        "preprocessing": config.data.preprocessing,
    }
    forestfile.save(trees, card, folder / "forest.skops")
    figures: dict[str, Any] = {"model": "forest"}
    for part in ("train", "val", "test"):
        rows = getattr(parts, part)
        if len(rows):
            scores = _log_probability(trees, flat[rows], len(characters.alphabet))
            figures |= _figures(part, scores, characters.label[rows], characters.alphabet)
    classes, train = len(characters.alphabet), parts.train
    unseen, label = _out_of_bag(trees, flat[train], characters.label[train], classes)
    if len(label):
        figures |= _figures("oob", unseen, label, characters.alphabet)
    figures |= {
        "parameters": sum(tree.tree_.node_count for tree in trees.estimators_),
        "epochs": 1,
        "reported_epoch": 1,
        "fit_seconds": fit_seconds,
    }
    _report(config, folder, characters, parts, figures, scores, trees)
    predictions = run.rows_of(characters, parts.test, scores)
    return run.finish(folder, config, characters, parts, figures, predictions)


def fitted(
    config: ForestConfig, flat: NDArray[np.float32], label: NDArray[np.int64]
) -> RandomForestClassifier:
    """A forest of pixels (N, P), none of them infinite or NaN, and labels (N,)."""
    trees = RandomForestClassifier(
        config.n_estimators, random_state=config.seed, n_jobs=config.n_jobs
    )
    with config_context(assume_finite=True):  # the same trees, fewer checks for each
        trees.fit(flat, label)
    trees.set_params(n_jobs=1)  # in reading, threads would add up the trees in a random order
    return trees


def _figures(
    part: str, scores: Tensor, label: NDArray[np.int64], alphabet: Alphabet
) -> dict[str, float]:
    """The figures of a part by tag, from log-probabilities (N, C) and labels (N,)."""
    found = metrics.evaluate(scores, torch.from_numpy(label), alphabet)
    return {f"{part}/{name}": value for name, value in found.items()}


def _report(
    config: ForestConfig,
    folder: Path,
    characters: Characters,
    parts: Split,
    figures: dict[str, Any],
    scores: Tensor,
    trees: RandomForestClassifier,
) -> None:
    """Tell of the run; votes stand for features, the importance of pixels for first weights."""
    writer = tensorboard.open_events(folder)
    curves = {tag: value for tag, value in figures.items() if tag.startswith(("train/", "val/"))}
    tensorboard.write_scalars(writer, curves, 1)
    votes = scores.exp().numpy()
    importance = trees.feature_importances_.reshape(1, *characters.image.shape[1:])
    done = Finished(config, folder, characters, parts, figures, scores, [], votes, importance)
    report.write(writer, done)
    writer.close()


def _log_probability(
    trees: RandomForestClassifier, flat: NDArray[np.float32], classes: int
) -> Tensor:
    """Log of the share of trees' votes, shape (N, C); a share of 0 counts as Keras' 1e-7."""
    share = np.zeros((len(flat), classes))
    share[:, trees.classes_] = trees.predict_proba(flat)
    return _log(share)


def _out_of_bag(
    trees: RandomForestClassifier, flat: NDArray[np.float32], label: NDArray[np.int64], classes: int
) -> tuple[Tensor, NDArray[np.int64]]:
    """Scores of training pictures by the trees that have not seen them (L. Breiman, 2001).

    Pictures that every tree has seen are left out.

    Returns:
        Log-probabilities, shape (N, C), and labels, shape (N,).
    """
    votes = np.zeros((len(flat), classes))
    for tree, seen in zip(trees.estimators_, trees.estimators_samples_, strict=True):
        unseen = np.ones(len(flat), dtype=bool)
        unseen[seen] = False
        if unseen.any():
            votes[np.ix_(unseen, trees.classes_)] += tree.predict_proba(flat[unseen])
    total = votes.sum(axis=1)
    judged = total > 0
    return _log(votes[judged] / total[judged, None]), label[judged]


def _log(share: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.log(np.clip(share, 1e-7, 1))).float()
