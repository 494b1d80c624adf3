"""Test a model: after its training, and with hwr-evaluate on another dataset."""

import json
import math
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from hwr.config.compose import plain
from hwr.data import CharacterDataModule, CharacterDataset, load_dataset
from hwr.data.splits import select_writers
from hwr.errors import DataError, RunError, sanitize
from hwr.files import atomic_write, expand_user
from hwr.inference import checkpoint, writer_context
from hwr.inference.loading import load, model_file
from hwr.inference.recognizer import Recognizer
from hwr.reporting import metrics
from hwr.reporting.loggers import logged_metrics
from hwr.runs import run_folder

OURS = ("hwr.data.FolderDataset", "hwr.data.SyntheticDataset", "hwr.data.EmnistDataset")
"""Datasets that bring images to those that a model was trained on."""


def test(
    trainer: Trainer, model: LightningModule, data: Any
) -> tuple[dict[str, Any], list[run_folder.Prediction], NDArray[np.int64] | None]:
    """Test a fitted model.

    Args:
        trainer: Of one process.
        model: The LightningModule.
        data: The data module.

    Returns:
        The metrics, the rows of `predictions.csv`, and the writer of each test image, shape (N,);
        None where writers are unknown.

    Raises:
        RunError: The test loss is NaN or infinite.
    """
    loader, limit = data.test_dataloader(), trainer.limit_test_batches
    count = min(len(loader), limit) if isinstance(limit, int) else int(limit * len(loader))
    logged: dict[str, float] = {}
    if count and is_overridden("test_step", model):
        trainer.test(model, datamodule=data, verbose=False)
        logged = logged_metrics(trainer)
    if not math.isfinite(logged.get("test/loss", 0.0)):
        raise RunError(
            f"test/loss is {logged['test/loss']}: the weights have grown too large; "
            "a lower optimizer.lr may help"
        )
    batches = list(islice(loader, count))
    log_probability, label = predict(trainer, model, batches, len(data.charset))
    values = metrics.evaluate(log_probability, label, data.charset) if len(label) else {}
    files, writers = [str(number) for number in range(len(label))], None
    if isinstance(data, CharacterDataModule):
        rows = data.parts.test[: len(label)]
        files = [data.dataset.files[row] for row in rows]
        writers = None if data.dataset.writers is None else data.dataset.writers[rows]
    network: Any = getattr(model, "model", None)
    if writers is not None and len(label) and hasattr(network, "relate"):
        images = torch.cat([batch[0] for batch in batches])
        embedded = writer_context.embed(network.cpu().float().eval(), images)
        values |= writer_context.metrics(network, embedded, label.numpy(), writers, data.charset)
    result: dict[str, Any] = {f"test/{name}": value for name, value in values.items()}
    partial = bool(trainer.fast_dev_run) or count < len(loader)  # type: ignore[attr-defined]
    predictions = run_folder.prediction_rows(files, label.numpy(), log_probability, data.charset)
    return {**result, **logged, "partial": partial}, predictions, writers


def predict(
    trainer: Trainer, model: LightningModule, batches: list[Any], classes: int
) -> tuple[Tensor, Tensor]:
    """Predict batches of images and labels.

    Returns:
        Log-probabilities (N, C) and labels (N,); N is 0 where the model gives no logits.
    """
    # Lightning's own predict_step calls forward on the batch.
    inputs = batches if is_overridden("predict_step", model) else [batch[0] for batch in batches]
    loader: Any = DataLoader(inputs, batch_size=None)  # type: ignore[arg-type]
    outputs: Any = trainer.predict(model, loader) if inputs else []
    shapes = [getattr(output, "shape", None) for output in outputs]
    label = [batch[1] for batch in batches]
    if not label or shapes != [(len(part), classes) for part in label]:
        return torch.empty(0, classes), torch.empty(0, dtype=torch.long)
    return functional.log_softmax(torch.cat(outputs).float().cpu(), dim=1), torch.cat(label)


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
    dataset = _dataset(config, recognizer)
    charset, writers = recognizer.charset, dataset.writers
    label = charset.encode(dataset.charset.names)[dataset.labels.numpy()]
    rows = np.arange(len(label))
    if config.writers is not None:
        rows = select_writers(config.writers, writers, "writers")
    label, groups = label[rows], rows if writers is None else writers[rows]
    with run_folder.lock_run(folder, config):
        images = dataset.images[rows] / 255
        scores, with_context = _scores(config, recognizer, images, label, groups)
        low, high = metrics.bootstrap((scores.argmax(1).numpy() == label).astype(float), groups)
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
            **with_context,
            "config": run_folder.settings(config),
        }
        files = [dataset.files[row] for row in rows]
        predictions = run_folder.prediction_rows(files, label, scores, charset)
        run_folder.write_predictions(folder, predictions)
        with atomic_write(folder / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    who = f" of writers {config.writers}" if config.writers else ""
    who += " with writer context" if config.context else ""
    print(
        f"accuracy {result['acc']:.4f} ({low:.4f} - {high:.4f}) of {len(rows):,} images{who} "
        f"in data={dataset.name}\n{sanitize(str(folder))}"
    )
    return result


def _dataset(config: DictConfig, recognizer: Recognizer) -> CharacterDataset:
    """Load the dataset, its images prepared as for inference."""
    height, width = recognizer.size
    wanted: dict[str, Any] = {"height": height, "width": width, "channels": recognizer.channels}
    wanted["preprocessing"] = recognizer.preprocessor.name
    node = plain(config.data)
    node |= {key: wanted[key] for key in wanted.keys() & node.keys()}
    statistics = recognizer.preprocessor.statistics
    if statistics and node["_target_"] in OURS:
        node["statistics"] = asdict(statistics)
    dataset = load_dataset(node)
    shape, expected = tuple(dataset.images.shape[1:]), (recognizer.channels, height, width)
    if shape != expected:
        raise DataError(
            f"images of data={dataset.name} have shape {shape}, but the model takes {expected} "
            "(channels, height, width)"
        )
    if config.context and not hasattr(recognizer.model, "relate"):
        kind = type(recognizer.model).__name__
        raise DataError(f"context=writer needs a checkpoint of model=glyphnet, not of {kind}")
    if config.context and dataset.writers is None:
        raise DataError("context=writer needs to know who wrote each image; this dataset doesn't")
    if recognizer.about.get("data_fingerprint") == dataset.fingerprint:
        print(
            "hwr-evaluate: this model was trained on images of this very dataset "
            f"(split={sanitize(str(recognizer.about.get('split')))}); "
            "its metrics on those images are not those of a test",
            file=sys.stderr,
        )
    return dataset


def _scores(
    config: DictConfig,
    recognizer: Recognizer,
    image: Tensor,
    label: NDArray[np.int64],
    writers: NDArray[np.int64],
) -> tuple[Tensor, dict[str, float]]:
    """Compute log-probabilities (N, C), and the metrics with writer context if it is asked for."""
    model = recognizer.model
    if not config.context:
        return functional.log_softmax(checkpoint.logits(model, image), dim=1), {}
    embedded = writer_context.embed(model, image)
    scores = functional.log_softmax(writer_context.relate(model, embedded, writers), dim=1)
    return scores, writer_context.metrics(model, embedded, label, writers, recognizer.charset)
