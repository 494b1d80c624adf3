"""hwr-forest: the scikit-learn baseline on the same split, with the same figures and tags."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier

from hwr import forestfile, images, metrics, run, tensorboard
from hwr.data import load
from hwr.schema import ForestConfig
from hwr.split import split


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
    run.start(folder, config)
    flat = images.scale(characters.image).reshape(len(characters.label), -1)
    trees = RandomForestClassifier(
        config.n_estimators, random_state=config.seed, n_jobs=config.n_jobs
    )
    started = time.perf_counter()
    trees.fit(flat[parts.train], characters.label[parts.train])
    fit_seconds = time.perf_counter() - started
    trees.set_params(n_jobs=1)  # threads would add up the trees in a random order
    card = {
        **run.card(config, characters, parts),
        "alphabet": list(characters.alphabet.names),
        "size": [config.data.height, config.data.width],
        "preprocessing": config.data.preprocessing,
    }
    forestfile.save(trees, card, folder / "forest.skops")
    figures: dict[str, Any] = {"model": "forest"}
    for part in ("train", "test"):
        rows = getattr(parts, part)
        log_probability = _log_probability(trees, flat[rows], len(characters.alphabet))
        label = torch.from_numpy(characters.label[rows])
        found = metrics.evaluate(log_probability, label, characters.alphabet)
        figures |= {f"{part}/{name}": value for name, value in found.items()}
    figures |= {
        "parameters": sum(tree.tree_.node_count for tree in trees.estimators_),
        "epochs": 1,
        "reported_epoch": 1,
        "fit_seconds": fit_seconds,
    }
    writer = tensorboard.open_events(folder)
    scalars = {name: value for name, value in figures.items() if "/" in name}
    tensorboard.write_scalars(writer, scalars, 1)
    counts = metrics.confusion(log_probability, label)
    tensorboard.write_confusion(writer, counts, characters.alphabet.names, 1)
    writer.close()
    predictions = run.rows_of(characters, parts.test, log_probability)
    return run.finish(folder, config, characters, parts, figures, predictions)


def _log_probability(
    trees: RandomForestClassifier, flat: np.ndarray[Any, Any], classes: int
) -> torch.Tensor:
    """Log of the share of trees' votes, shape (N, C); a share of 0 counts as Keras' 1e-7."""
    share = np.zeros((len(flat), classes))
    share[:, trees.classes_] = trees.predict_proba(flat)
    return torch.from_numpy(np.log(np.clip(share, 1e-7, 1))).float()
