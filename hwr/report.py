"""What is told of a finished run, networks and forest alike, in TensorBoard and as files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.plugins.text.summary_v2 import text_pb
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from hwr import figures, hparams, metrics, projector, run, sheets, tensorboard, texts
from hwr.data import Characters
from hwr.files import whole
from hwr.schema import RunConfig
from hwr.split import Split


@dataclass(frozen=True)
class Finished:
    """A run that has been fitted and tested.

    Attributes:
        config: Its settings.
        folder: Its folder.
        characters: The data set.
        parts: How it was cut.
        figures: What was measured, as in `metrics.json`.
        scores: Log-probabilities of the test pictures, shape (N, C).
        history: Figures of each epoch.
        features: What the last layer sees of the test pictures, shape (N, D).
        first: Weights of the first layer, or a forest's importance of pixels, as pictures,
            shape (K, h, w).
    """

    config: RunConfig
    folder: Path
    characters: Characters
    parts: Split
    figures: Mapping[str, Any]
    scores: Tensor
    history: Sequence[Mapping[str, float]]
    features: NDArray[np.float32]
    first: NDArray[np.float32]


def write(writer: SummaryWriter, done: Finished) -> None:
    """Write all parts that the settings ask for."""
    report, step = done.config.report, done.figures["epochs"]
    label = done.characters.label[done.parts.test]
    probability = np.nan_to_num(
        done.scores.float().exp().numpy()
    )  # a fit that went astray is told too
    alphabet = done.characters.alphabet
    scalars = {
        name: value for name, value in done.figures.items() if name.startswith(("test/", "oob/"))
    }
    tensorboard.write_scalars(writer, scalars, step)
    if report.hparams:
        row, outcomes = hparams.settings(done.config, done.figures), hparams.outcomes(done.figures)
        for summary in hparams.summaries(row, outcomes):
            tensorboard.add(writer, summary, step)
        tensorboard.write_scalars(writer, outcomes, step)
    if report.text:
        _write_texts(writer, done, label, probability.argmax(axis=1), step)
    if report.images or report.files:
        _write_images(writer, done, label, probability, step)
    if report.pr_curves:
        tensorboard.write_pr_curves(writer, probability, label, alphabet, step)
        areas = metrics.areas(probability, label, tensorboard.lookalikes(alphabet))
        tags = {row: f"test_lookalike/auroc_{alphabet.names[row]}" for row in areas}
        named = {tags[row]: area for row, area in areas.items()}
        tensorboard.write_scalars(writer, named, step)
    if report.projector:
        image = done.characters.image[done.parts.test]
        guess = probability.argmax(axis=1)
        projector.write(done.folder, done.features, image, label, guess, alphabet)


def _write_texts(
    writer: SummaryWriter,
    done: Finished,
    label: NDArray[np.int64],
    guess: NDArray[np.int64],
    step: int,
) -> None:
    alphabet = done.characters.alphabet
    pages = {
        "run/settings": texts.settings(run.plain(done.config)),
        "run/command": texts.command(),
        "run/environment": texts.environment(run.git_commit()),
        "run/data": texts.data(done.config.data, done.characters, done.parts),
        "test/confused": texts.confused(label, guess, alphabet),
        "test/report": texts.report(label, guess, alphabet),
    }
    for tag, page in pages.items():
        tensorboard.add(writer, text_pb(tag, page), step)


def _write_images(
    writer: SummaryWriter,
    done: Finished,
    label: NDArray[np.int64],
    probability: NDArray[np.float32],
    step: int,
) -> None:
    """Draw once what both TensorBoard and the run folder get."""
    image, alphabet = done.characters.image[done.parts.test], done.characters.alphabet
    guess, model = probability.argmax(axis=1), done.figures["model"]
    right, total = int((guess == label).sum()), len(label)
    title = f"{model}: {right:,} of {total:,} test pictures read rightly ({right / total:.1%})"
    counts = metrics.confusion(done.scores, torch.from_numpy(label))
    drawn = {
        "test/confusion": figures.png(figures.confusion(counts, alphabet, title)),
        "test/mistakes": sheets.mistakes(image, label, probability, alphabet),
        "test/reliability": figures.png(figures.reliability(probability, label, title)),
    }
    if done.history:
        reported = done.figures["reported_epoch"]
        figure = figures.curves(done.history, done.figures, reported, title)
        drawn["test/curves"] = figures.png(figure)
    if done.config.report.files:
        for tag, png in drawn.items():
            name = {"test/curves": "curves.png"}.get(tag, f"{tag.removeprefix('test/')}.png")
            with whole(done.folder / name) as beside:
                beside.write_bytes(png)
    if done.config.report.images:
        drawn["test/best_and_worst"] = sheets.extremes(image, label, probability, alphabet)
        draw = sheets.importance if model == "forest" else sheets.filters
        drawn["weights/first_layer"] = draw(done.first)
        for tag, png in drawn.items():
            tensorboard.write_image(writer, tag, png, step)
