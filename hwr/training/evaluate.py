"""hwr-evaluate: test a checkpoint on a dataset that it was not trained on."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional

from hwr.config.compose import plain
from hwr.data import CharacterDataset, load_dataset
from hwr.data.splits import rows_of_writers
from hwr.errors import DataError, printable
from hwr.files import atomic_write, expand_user
from hwr.inference import checkpoint, writer_context
from hwr.inference.loading import load, model_file
from hwr.inference.recognizer import Recognizer
from hwr.reporting import metrics
from hwr.runs import run_folder


def evaluate(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Test a checkpoint on all images of a dataset.

    Writes `evaluation.json` and `predictions.csv` into the folder.

    Args:
        config: The settings, composed from conf/evaluate.yaml.
        folder: Where the files are written.

    Returns:
        The content of `evaluation.json`: the metrics of `metrics.evaluate`, and `acc_low` and
        `acc_high`, a 95 % interval of the accuracy from 2,000 bootstraps over the writers (over
        the images where these are unknown). With `context=writer`, all images of a writer are
        predicted with writer context, and the metrics of `writer_context.metrics` are added.

    Raises:
        DataError: The dataset is missing or broken, has classes that the model doesn't know, no
            image of the writers asked for, or no writers for a context.
        RunError: There is no checkpoint, it needs a package that isn't trusted, or the folder
            holds a run.
    """
    path = model_file(expand_user(config.ckpt_path))
    checkpoint.read(path)  # rejects forests and ONNX files
    recognizer = load(path, trust=list(config.trust))
    model, charset = recognizer.model, recognizer.charset
    dataset = _dataset(config, recognizer)
    label = charset.encode(dataset.charset.names)[dataset.labels.numpy()]
    rows = np.arange(len(label))
    if config.writers is not None:
        rows = rows_of_writers(config.writers, dataset.writers, "writers")
    if recognizer.about.get("data_fingerprint") == dataset.fingerprint:
        print(
            "hwr-evaluate: this model was trained on images of this very dataset "
            f"(split={printable(str(recognizer.about.get('split')))}); "
            "its metrics on those images are not those of a test",
            file=sys.stderr,
        )
    writers = _writers(model, dataset.writers)[rows] if config.context else None
    with run_folder.started(folder, config):
        image, label = dataset.images[rows] / 255, label[rows]
        more: dict[str, float] = {}
        if writers is None:
            scores = checkpoint.logits(model, image)
        else:
            embedded = writer_context.embed(model, image)
            scores = writer_context.relate(model, embedded, writers)
            more = writer_context.metrics(model, embedded, label, writers, charset)
        scores = functional.log_softmax(scores, dim=1)
        correct = (scores.argmax(1).numpy() == label).astype(float)
        groups = np.arange(len(rows)) if dataset.writers is None else dataset.writers[rows]
        low, high = metrics.bootstrap(correct, groups)
        result: dict[str, Any] = {
            "ckpt_path": str(path),
            "data": dataset.name,
            "data_fingerprint": dataset.fingerprint,
            "writers": config.writers,
            "context": config.context,
            "images": len(rows),
            **metrics.evaluate(scores, torch.from_numpy(label), charset),
            "acc_low": low,
            "acc_high": high,
            **more,
            "config": run_folder.settings(config),
        }
        files = [dataset.files[row] for row in rows]
        run_folder.write_predictions(folder, run_folder.rows_of(files, label, scores, charset))
        with atomic_write(folder / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    who = f" of writers {config.writers}" if config.writers else ""
    who += " with writer context" if config.context else ""
    print(
        f"accuracy {result['acc']:.4f} ({low:.4f} - {high:.4f}) of {len(rows):,} images{who} "
        f"in data={dataset.name}\n{printable(str(folder))}"
    )
    return result


def _dataset(config: DictConfig, recognizer: Recognizer) -> CharacterDataset:
    """Load the dataset, its images prepared as those that the model was trained on.

    Raises:
        DataError: The dataset has no settings for that, and images of another shape.
    """
    height, width = recognizer.size
    wanted = {"height": height, "width": width, "channels": recognizer.channels}
    settings = plain(config.data)
    for name, value in {**wanted, "preprocessing": recognizer.preprocessor.name}.items():
        if name in settings:
            settings[name] = value
    dataset = load_dataset(settings)
    shape = tuple(dataset.images.shape[1:])
    if shape != (recognizer.channels, height, width):
        raise DataError(
            f"images of data={dataset.name} have shape {shape}, but the model takes "
            f"{(recognizer.channels, height, width)} (channels, height, width)"
        )
    return dataset


def _writers(model: nn.Module, writers: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the writer of each image, if both model and dataset allow writer context."""
    if not hasattr(model, "relate"):
        kind = type(model).__name__
        raise DataError(f"context=writer needs a checkpoint of model=glyphnet, not of {kind}")
    if writers is None:
        raise DataError("context=writer needs to know who wrote each image; this dataset doesn't")
    return writers
