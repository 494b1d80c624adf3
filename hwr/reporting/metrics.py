"""Compute the metrics with torchmetrics, the same for networks and forest."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCalibrationError,
)

from hwr.charset import Charset


class CrossEntropy(MeanMetric):
    """Mean negative log-likelihood in nats, updated with logits (N, C) and labels (N,)."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # a loss that is NaN has to show

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add a batch."""
        super().update(functional.cross_entropy(preds, target, reduction="none"))


class MergedAccuracy(MeanMetric):
    """Accuracy where some classes count as one, updated with logits (N, C) and labels (N,).

    NaN without samples.

    Args:
        merged: For each class the class that it counts as, shape (C,).
        among: Only samples of these classes count, shape (C,); None: all.
    """

    def __init__(self, merged: NDArray[np.int64], among: NDArray[np.bool_] | None = None) -> None:
        super().__init__(nan_strategy="disable")
        # Plain tensors: as buffers they would be averaged with the weights.
        self.merged = torch.from_numpy(merged)
        self.among = torch.from_numpy(np.ones(len(merged), dtype=bool) if among is None else among)

    def update(self, preds: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add a batch."""
        preds, target = preds.argmax(1).cpu(), target.cpu()
        correct = self.merged[preds] == self.merged[target]
        super().update(correct[self.among[target]].float().to(self.device))


def collection(charset: Charset) -> MetricCollection:
    """Build the metrics of an epoch, updated with logits (N, C) and labels (N,).

    `loss`, `acc`, and where the charset gives them a meaning: `acc_nocase` (case-insensitive),
    `acc_bymerge` (the cases merged that EMNIST ByMerge merges), `acc_lookalike` (confusable
    characters count as one), `acc_digits`, `acc_upper`, `acc_lower` (among samples of these
    classes), `top3` (the label is among the three most probable classes).

    Args:
        charset: The C classes.
    """
    classes = len(charset)
    metrics: dict[str, Metric] = {
        "loss": CrossEntropy(),
        "acc": MulticlassAccuracy(classes, average="micro"),
    }
    merged = {
        "acc_nocase": charset.case_insensitive_classes(),
        "acc_bymerge": charset.emnist_bymerge_classes(),
        "acc_lookalike": charset.confusable_classes(),
    }
    for name, merged_classes in merged.items():
        if len(np.unique(merged_classes)) < classes:
            metrics[name] = MergedAccuracy(merged_classes)
    for name, mask in charset.groups().items():
        metrics[f"acc_{name}"] = MergedAccuracy(np.arange(classes), mask)
    if classes > 3:
        metrics["top3"] = MulticlassAccuracy(classes, top_k=3, average="micro")
    # Groups would take metrics for the same whose first counts are equal by chance.
    return MetricCollection(metrics, compute_groups=False)  # type: ignore[arg-type]


def drop_undefined(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the accuracies of groups of classes that have no sample; a NaN loss stays."""
    return {name: v for name, v in values.items() if not ("acc_" in name and v.isnan())}


def evaluate(log_probability: Tensor, label: Tensor, charset: Charset) -> dict[str, float]:
    """Compute all metrics of a finished split.

    Args:
        log_probability: Shape (N, C).
        label: Shape (N,).
        charset: The C classes.

    Returns:
        The metrics of `collection`, `ece` (expected calibration error over 15 bins of equal
        width), and the macro means over the classes that occur of `auroc` (one against the rest)
        and `ap` (average precision).
    """
    classes, probability = len(charset), log_probability.exp()
    values = drop_undefined(collection(charset)(log_probability, label))
    values["ece"] = MulticlassCalibrationError(classes, n_bins=15)(probability, label)
    present = torch.unique(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that don't occur, which are left out
        for name, kind in {"auroc": MulticlassAUROC, "ap": MulticlassAveragePrecision}.items():
            values[name] = kind(classes, average=None)(probability, label)[present].mean()
    return {name: float(value) for name, value in values.items()}


def bootstrap(
    correct: NDArray[np.float64], group: NDArray[np.int64], resamples: int = 2000
) -> tuple[float, float]:
    """Compute a 95 % interval of an accuracy by resampling groups (B. Efron, 1979).

    Args:
        correct: 1 where the prediction is correct, else 0, shape (N,).
        group: The writer of each image, shape (N,): images of a group are resampled as one.
        resamples: Number of resamples.

    Returns:
        Lower and upper end, from 0 to 1.
    """
    _, index = np.unique(group, return_inverse=True)
    hits, sizes = np.bincount(index, correct), np.bincount(index)
    rows = np.random.default_rng(0).integers(0, len(sizes), (resamples, len(sizes)))
    low, high = np.quantile(hits[rows].sum(1) / sizes[rows].sum(1), (0.025, 0.975))
    return float(low), float(high)
