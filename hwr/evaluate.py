"""hwr-evaluate: how well a checkpoint reads a data set that it was not trained on."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hwr import checkpoint, data, images, metrics, run, together
from hwr.errors import DataError, printable
from hwr.files import expanded, whole
from hwr.loading import load, logits
from hwr.networks.base import Network
from hwr.networks.glyphnet import GlyphNetwork
from hwr.schema import EvaluateConfig
from hwr.split import Indices, rows_by


def evaluate(config: EvaluateConfig, folder: Path) -> dict[str, Any]:
    """Read all pictures of a data set with a checkpoint, and write what came out.

    `config.yaml`, `predictions.csv` and `evaluation.json` go into the folder.

    Args:
        config: The settings.
        folder: Where the files go.

    Returns:
        What stands in `evaluation.json`: the figures of `metrics.evaluate`, and `acc_low` and
        `acc_high`, a 95 % interval of the accuracy from 2,000 bootstraps over the writers (over
        the pictures where these are unknown). With `context=writer` all of a writer's pictures are
        read together, and the figures of `together.figures` are added.

    Raises:
        DataError: The data set is missing or broken, has classes that the network doesn't know,
            or nothing of the writers asked for, or doesn't allow for a context.
        RunError: There is no checkpoint, or the folder holds a run.
    """
    path = checkpoint.find(expanded(config.ckpt))
    checkpoint.read(path)  # forests and ONNX files are refused
    recognizer = load(path)
    model, alphabet = recognizer.model, recognizer.alphabet
    height, width = recognizer.size
    as_trained: dict[str, Any] = {"height": height, "width": width}
    as_trained["preprocessing"] = recognizer.preprocessing
    characters = data.load(dataclasses.replace(config.data, **as_trained))
    names = characters.alphabet.names
    label = alphabet.encode(names)[characters.label]
    rows = np.arange(len(label))
    if config.writers is not None:
        rows = rows_by(config.writers, characters.writer, "writers")
    if recognizer.about.get("data_fingerprint") == characters.fingerprint:
        print(
            "hwr-evaluate: this network was trained on pictures of this very set "
            f"(split={printable(str(recognizer.about.get('split')))}); "
            "what it says of those is no test",
            file=sys.stderr,
        )
    in_context = _in_context(model, characters) if config.context else None
    with run.started(folder, config):
        image = torch.from_numpy(images.scale(characters.image[rows])).unsqueeze(1)
        more: dict[str, float] = {}
        if in_context is None:
            said = logits(model, image)
        else:
            network, writer = in_context
            seen = together.look(network, image)
            said = together.relate(network, seen, writer[rows])
            more = together.figures(network, seen, label[rows], writer[rows], alphabet)
        scores = functional.log_softmax(said, dim=1)
        right = (scores.argmax(1).numpy() == label[rows]).astype(float)
        groups = np.arange(len(rows)) if characters.writer is None else characters.writer[rows]
        low, high = metrics.bootstrap(right, groups)
        figures: dict[str, Any] = {
            "ckpt": str(path),
            "data": config.data.name,
            "data_fingerprint": characters.fingerprint,
            "writers": config.writers,
            "context": config.context,
            "pictures": len(rows),
            **metrics.evaluate(scores, torch.from_numpy(label[rows]), alphabet),
            "acc_low": low,
            "acc_high": high,
            **more,
            "config": run.plain(config),
        }
        read = dataclasses.replace(characters, label=label, alphabet=alphabet)
        run.write_predictions(folder, run.rows_of(read, rows, scores))
        with whole(folder / "evaluation.json") as beside:
            beside.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        who = f" of writers {config.writers}" if config.writers else ""
        who += ", each writer's read together," if config.context else ""
        print(
            f"accuracy {figures['acc']:.4f} ({low:.4f} - {high:.4f}) of {len(rows):,} "
            f"pictures{who} in data={config.data.name}\n{printable(str(folder))}"
        )
        return figures


def _in_context(model: Network, characters: data.Characters) -> tuple[GlyphNetwork, Indices]:
    """The network, and who wrote each picture, if both allow to read with the writer in view."""
    if not isinstance(model, GlyphNetwork):
        kind = type(model).__name__
        raise DataError(f"context=writer needs a checkpoint of model=glyphnet, not of {kind}")
    if characters.writer is None:
        raise DataError("context=writer needs to know who wrote, and this data set doesn't")
    return model, characters.writer
