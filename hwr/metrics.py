"""What is measured, the same for networks and forest; the arithmetic is torchmetrics'."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassConfusionMatrix,
)

from hwr.alphabet import Alphabet


class FoldedAccuracy(MulticlassAccuracy):
    """Accuracy after the case of both the predicted and the true class is folded.

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
    """`acc`, `acc_nocase` and `top3`, updated with scores (N, C) and labels (N,)."""
    classes = len(alphabet)
    return MetricCollection(
        {
            "acc": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "acc_nocase": FoldedAccuracy(alphabet.fold(), validate_args=False),
            "top3": MulticlassAccuracy(
                classes, top_k=min(3, classes), average="micro", validate_args=False
            ),
        },
        compute_groups=False,
    )


def evaluate(log_probability: Tensor, label: Tensor, alphabet: Alphabet) -> dict[str, float]:
    """All figures of a finished split.

    Args:
        log_probability: Shape (N, C).
        label: Shape (N,).
        alphabet: The C classes.

    Returns:
        `loss` (mean negative log-likelihood, in nats), `acc`, `acc_nocase`, `top3`, and the macro
        means over classes of `auroc` (one against the rest) and `ap` (average precision).
    """
    classes = len(alphabet)
    probability = log_probability.exp()
    figures = {
        "loss": functional.nll_loss(log_probability, label),
        **accuracies(alphabet)(log_probability, label),
        "auroc": MulticlassAUROC(classes)(probability, label),
        "ap": MulticlassAveragePrecision(classes)(probability, label),
    }
    return {name: float(value) for name, value in figures.items()}


def confusion(log_probability: Tensor, label: Tensor) -> NDArray[np.int64]:
    """Pictures of each true class (row) read as each class (column), shape (C, C)."""
    counts = MulticlassConfusionMatrix(log_probability.shape[1])(log_probability, label)
    return np.asarray(counts)
