"""The events of a run that TensorBoard shows; the models know nothing of it."""

import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from hwr.alphabet import Alphabet

THRESHOLDS = 101
"""Points of a curve of precision against recall."""


def open_events(folder: Path) -> SummaryWriter:
    """A writer of a fresh event file; those of an earlier start in the folder are removed.

    A resumed run writes its earlier epochs again, so that no curve is doubled or broken.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(folder), flush_secs=10)


def write_scalars(writer: SummaryWriter, figures: Mapping[str, float], epoch: int) -> None:
    """One point of each curve."""
    for tag, value in figures.items():
        writer.add_scalar(tag, value, epoch)


def write_layout(writer: SummaryWriter, alphabet: Alphabet) -> None:
    """Charts that show training against validation, for the page Custom Scalars."""
    names = {"loss": "loss", "acc": "accuracy", "acc_nocase": "accuracy, case folded"}
    names |= {f"acc_{group}": f"accuracy of {group}" for group in alphabet.groups()}
    names["top3"] = "among the first three"
    charts = {title: ["Multiline", [f"^(train|val)/{name}$"]] for name, title in names.items()}
    writer.add_custom_scalars({"training against validation": charts})


def write_image(writer: SummaryWriter, tag: str, png: bytes, step: int) -> None:
    """A picture, given as the content of a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    add(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add(writer: SummaryWriter, summary: Summary, step: int) -> None:
    """Any event that the writer has no method for."""
    writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]


def write_graph(writer: SummaryWriter, model: nn.Module, image: Tensor) -> None:
    """The operations of a network on images (N, 1, H, W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tracing says of itself
        writer.add_graph(model, image)


def write_weights(writer: SummaryWriter, model: nn.Module, step: int) -> None:
    """Histograms of all weights, and of their last gradients."""
    for name, weight in model.named_parameters():
        writer.add_histogram(f"weights/{name}", weight.detach().float(), step)
        if weight.grad is not None and bool(torch.isfinite(weight.grad).all()):
            writer.add_histogram(f"gradients/{name}", weight.grad.float(), step)


def write_pr_curves(
    writer: SummaryWriter,
    probability: NDArray[np.float32],
    label: NDArray[np.int64],
    alphabet: Alphabet,
    step: int,
) -> None:
    """Precision against recall over all classes, and of each class that looks like another.

    `micro` counts all pictures and classes together, `macro` is the mean over the classes (of
    precision: over those of which anything is read at that threshold).

    Args:
        writer: Where to.
        probability: Shape (N, C).
        label: Shape (N,).
        alphabet: The C classes.
        step: The epoch.
    """
    counts = _counts(probability, label)
    present = np.unique(label)
    hits, read = counts[0, present], (counts[0] + counts[1])[present]
    own = np.bincount(label, minlength=len(alphabet))[present, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(read > 0, hits / read, np.nan)
    mean = np.nanmean(np.where(read.any(axis=0), precision, 0.0), axis=0)
    _write_pr(writer, "pr_all/macro", counts.sum(axis=1), mean, (hits / own).mean(axis=0), step)
    for tag, chosen in [("pr_all/micro", counts.sum(axis=1))] + [
        (f"pr_lookalike/{alphabet.names[index]}", counts[:, index])
        for index in lookalikes(alphabet)
        if index in present
    ]:
        hit, false, _, missed = chosen
        precise = hit / np.maximum(hit + false, 1e-7)
        _write_pr(writer, tag, chosen, precise, hit / np.maximum(hit + missed, 1e-7), step)


def lookalikes(alphabet: Alphabet) -> list[int]:
    """The classes that another looks like."""
    group = alphabet.lookalike()
    sizes = np.bincount(group)
    return np.flatnonzero(sizes[group] > 1).tolist()


def _counts(probability: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.int64]:
    """True and false positives, true and false negatives of each class at each threshold.

    Shape (4, C, THRESHOLDS).
    """
    pictures, classes = probability.shape
    level = np.minimum((probability * (THRESHOLDS - 1)).astype(int), THRESHOLDS - 1)
    own = np.zeros((pictures, classes), dtype=bool)
    own[np.arange(pictures), label] = True
    place = level + np.arange(classes) * THRESHOLDS
    length = classes * THRESHOLDS
    at = [np.bincount(place[chosen], minlength=length) for chosen in (own, ~own)]
    hits, false = (
        found.reshape(classes, THRESHOLDS)[:, ::-1].cumsum(axis=1)[:, ::-1] for found in at
    )
    return np.stack([hits, false, false[:, :1] - false, hits[:, :1] - hits])


def _write_pr(
    writer: SummaryWriter,
    tag: str,
    counts: NDArray[np.int64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    step: int,
) -> None:
    hit, false, spared, missed = counts
    writer.add_pr_curve_raw(
        tag, hit, false, spared, missed, precision, recall, step, num_thresholds=THRESHOLDS
    )
