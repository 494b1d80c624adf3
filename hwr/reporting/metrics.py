"""Metrics, the same for networks and forest; all but the accuracies are torchmetrics' own."""

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCalibrationError,
)

from hwr.charset import Charset


class CrossEntropy(Metric):
    """Mean negative log-likelihood in nats, updated with logits (N, C) and labels (N,)."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch."""
        self.total = self.total + functional.cross_entropy(preds, target, reduction="sum")
        self.count = self.count + len(target)

    def compute(self) -> Tensor:
        """Return the mean over all samples."""
        return self.total / self.count


class MergedAccuracy(Metric):
    """Accuracy where some classes count as one, updated with logits (N, C) and labels (N,).

    Args:
        merged: For each class the class that it counts as, shape (C,).
        among: Only samples of these classes count, shape (C,); None: all.
    """

    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, merged: NDArray[np.int64], among: NDArray[np.bool_] | None = None) -> None:
        super().__init__()
        # Plain tensors: as buffers they would be averaged with the weights.
        self.merged = torch.from_numpy(merged)
        self.among = torch.ones(len(merged), dtype=torch.bool)
        if among is not None:
            self.among = torch.from_numpy(among)
        for state in ("correct", "total"):
            self.add_state(state, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch."""
        merged, among = self.merged.to(target.device), self.among.to(target.device)
        counted = among[target]
        correct = merged[preds.argmax(1)] == merged[target]
        self.correct = self.correct + (correct & counted).sum()
        self.total = self.total + counted.sum()

    def compute(self) -> Tensor:
        """Return the accuracy; NaN where no sample counts."""
        return self.correct / self.total


def collection(charset: Charset) -> MetricCollection:
    """Build the metrics of an epoch, updated with logits (N, C) and labels (N,).

    `loss`, `acc`, and where the charset gives them a meaning: `acc_nocase` (case-insensitive),
    `acc_bymerge` (the cases merged that EMNIST ByMerge merges), `acc_lookalike` (confusable
    characters count as one), `acc_digits`, `acc_upper`, `acc_lower` (among samples of these
    classes), `top3` (the label is among the three most probable classes).
    """
    classes = len(charset)
    merged = {
        "acc_nocase": charset.fold(),
        "acc_bymerge": charset.bymerge(),
        "acc_lookalike": charset.lookalike(),
    }
    metrics: dict[str, Metric] = {
        "loss": CrossEntropy(),
        "acc": MulticlassAccuracy(classes, average="micro"),
    }
    for name, classes_of in merged.items():
        if len(np.unique(classes_of)) < classes:
            metrics[name] = MergedAccuracy(classes_of)
    for name, mask in charset.groups().items():
        metrics[f"acc_{name}"] = MergedAccuracy(np.arange(classes), mask)
    if classes > 3:
        metrics["top3"] = MulticlassAccuracy(classes, top_k=3, average="micro")
    # Groups would take metrics for the same whose first counts are equal by chance.
    return MetricCollection(metrics, compute_groups=False)  # type: ignore[arg-type]


def known(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the accuracies of groups of classes of which there was no sample."""
    return {
        name: value
        for name, value in values.items()
        if not (value.isnan() and "acc_" in name)  # a loss may be NaN, and is to be seen
    }


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
    classes = len(charset)
    probability = log_probability.exp()
    present = torch.unique(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that don't occur are left out below
        auroc = MulticlassAUROC(classes, average=None)(probability, label)[present]
        precision = MulticlassAveragePrecision(classes, average=None)(probability, label)[present]
    values = {
        **known(collection(charset)(log_probability, label)),
        "ece": MulticlassCalibrationError(classes, n_bins=15)(probability, label),
        "auroc": auroc.mean(),
        "ap": precision.mean(),
    }
    return {name: float(value) for name, value in values.items()}


def areas(
    probability: NDArray[np.float32], label: NDArray[np.int64], classes: Iterable[int]
) -> dict[int, float]:
    """Area under the ROC curve of some classes against all others, where both occur.

    Args:
        probability: Shape (N, C).
        label: Shape (N,).
        classes: Which.
    """
    own = {index: label == index for index in classes}
    return {
        index: float(roc_auc_score(mask, probability[:, index]))
        for index, mask in own.items()
        if mask.any() and not mask.all()
    }


def bootstrap(
    right: NDArray[np.float64], group: NDArray[np.int64], draws: int = 2000
) -> tuple[float, float]:
    """A 95 % interval of an accuracy, by drawing whole groups anew (B. Efron, 1979).

    Args:
        right: 1 where a picture was read rightly, else 0, shape (N,).
        group: What is drawn as one: the writer of each picture, shape (N,).
        draws: How often.
    """
    _, index = np.unique(group, return_inverse=True)
    hits, sizes = np.bincount(index, right), np.bincount(index)
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(sizes), (draws, len(sizes)))
    low, high = np.quantile(hits[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high)


def confusion(log_probability: Tensor, label: Tensor) -> NDArray[np.int64]:
    """Pictures of each true class (row) read as each class (column), shape (C, C)."""
    guess, classes = log_probability.argmax(1), range(log_probability.shape[1])
    return np.asarray(confusion_matrix(label, guess, labels=classes))
