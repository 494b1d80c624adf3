"""What is measured, the same for networks and forest; the arithmetic is torchmetrics'."""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassConfusionMatrix,
)

from hwr.alphabet import Alphabet


class FoldedAccuracy(MulticlassAccuracy):
    """Accuracy after both the predicted and the true class are folded.

    Args:
        fold: For each class the class that stands for it, shape (C,).
    """

    fold: Tensor

    def __init__(self, fold: NDArray[np.int64], **settings: Any) -> None:
        super().__init__(len(fold), average="micro", **settings)
        self.register_buffer("fold", torch.from_numpy(fold), persistent=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in scores, shape (N, C), and labels, shape (N,)."""
        super().update(self.fold[preds.argmax(-1)], self.fold[target])


def accuracies(alphabet: Alphabet) -> MetricCollection:
    """Accuracies by name, updated with scores (N, C) and labels (N,).

    `acc`; and where they mean something: `acc_nocase`, with case folded; `acc_lookalike`, with
    characters that look alike taken for one; `top3`, the true class among the first three.
    """
    classes = len(alphabet)
    found: dict[str, Metric | MetricCollection] = {
        "acc": MulticlassAccuracy(classes, average="micro", validate_args=False)
    }
    for name, fold in (("nocase", alphabet.fold()), ("lookalike", alphabet.lookalike())):
        if len(np.unique(fold)) < classes:
            found[f"acc_{name}"] = FoldedAccuracy(fold, validate_args=False)
    if classes > 3:
        found["top3"] = MulticlassAccuracy(classes, top_k=3, average="micro", validate_args=False)
    return MetricCollection(found, compute_groups=False)


def evaluate(log_probability: Tensor, label: Tensor, alphabet: Alphabet) -> dict[str, float]:
    """All figures of a finished split.

    Args:
        log_probability: Shape (N, C).
        label: Shape (N,).
        alphabet: The C classes.

    Returns:
        `loss` (mean negative log-likelihood, in nats), the accuracies, and the macro means over
        the classes that occur of `auroc` (one against the rest) and `ap` (average precision).
    """
    classes = len(alphabet)
    probability = log_probability.exp()
    present = torch.unique(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that don't occur are left out below
        auroc = MulticlassAUROC(classes, average=None)(probability, label)[present]
        precision = MulticlassAveragePrecision(classes, average=None)(probability, label)[present]
    figures = {
        "loss": functional.nll_loss(log_probability, label),
        **accuracies(alphabet)(log_probability, label),
        "auroc": auroc.mean(),
        "ap": precision.mean(),
    }
    return {name: float(value) for name, value in figures.items()}


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
    counts = MulticlassConfusionMatrix(log_probability.shape[1])(log_probability, label)
    return np.asarray(counts)
