"""What is measured, the same for networks and forest; the arithmetic is torchmetrics'."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

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


class GroupAccuracy(Metric):
    """Accuracy among the pictures of some classes; NaN where there is no such picture.

    Args:
        mask: Which classes, shape (C,).
    """

    mask: Tensor
    right: Tensor
    total: Tensor

    def __init__(self, mask: NDArray[np.bool_], **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("mask", torch.from_numpy(mask), persistent=False)
        for name in ("right", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in scores, shape (N, C), and labels, shape (N,)."""
        chosen = self.mask[target]
        self.right = self.right + (chosen & (preds.argmax(-1) == target)).sum()
        self.total = self.total + chosen.sum()

    def compute(self) -> Tensor:
        """The accuracy, a scalar."""
        return self.right / self.total


def accuracies(alphabet: Alphabet) -> MetricCollection:
    """Accuracies by name, updated with scores (N, C) and labels (N,).

    `acc`; and where they mean something: `acc_nocase`, with case folded; `acc_bymerge`, with the
    letters' cases joined that EMNIST ByMerge joins; `acc_lookalike`, with characters that look
    alike taken for one; `acc_digits`, `acc_upper`, `acc_lower`, among the
    pictures of these classes; `top3`, the true class among the first three.
    """
    classes = len(alphabet)
    found: dict[str, Metric | MetricCollection] = {
        "acc": MulticlassAccuracy(classes, average="micro", validate_args=False)
    }
    folds = {
        "nocase": alphabet.fold(),
        "bymerge": alphabet.bymerge(),
        "lookalike": alphabet.lookalike(),
    }
    for name, fold in folds.items():
        if len(np.unique(fold)) < classes:
            found[f"acc_{name}"] = FoldedAccuracy(fold, validate_args=False)
    for name, mask in alphabet.groups().items():
        found[f"acc_{name}"] = GroupAccuracy(mask)
    if classes > 3:
        found["top3"] = MulticlassAccuracy(classes, top_k=3, average="micro", validate_args=False)
    return MetricCollection(found, compute_groups=False)


def known(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The accuracies without those of groups of classes that don't occur."""
    return {name: value for name, value in found.items() if not value.isnan()}


def evaluate(log_probability: Tensor, label: Tensor, alphabet: Alphabet) -> dict[str, float]:
    """All figures of a finished split.

    Args:
        log_probability: Shape (N, C).
        label: Shape (N,).
        alphabet: The C classes.

    Returns:
        `loss` (mean negative log-likelihood, in nats), the accuracies, `ece` (expected calibration
        error over 15 bins of equal width), and the macro means over the classes that occur of
        `auroc` (one against the rest) and `ap` (average precision).
        The accuracy of a group of classes that does not occur is left out.
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
        **known(accuracies(alphabet)(log_probability, label)),
        "ece": MulticlassCalibrationError(classes, n_bins=15)(probability, label),
        "auroc": auroc.mean(),
        "ap": precision.mean(),
    }
    return {name: float(value) for name, value in figures.items()}


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
