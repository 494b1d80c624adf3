"""What is measured, the same for networks and forest; areas and calibration are torchmetrics'."""

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCalibrationError,
)

from hwr.alphabet import Alphabet


class Accuracies(Metric):
    """Accuracies by name, updated with scores (N, C) and labels (N,).

    `acc`; and where they mean something: `acc_nocase`, with case folded; `acc_bymerge`, with the
    letters' cases joined that EMNIST ByMerge joins; `acc_lookalike`, with characters that look
    alike taken for one; `acc_digits`, `acc_upper`, `acc_lower`, among the
    pictures of these classes, NaN where there is none; `top3`, the true class among the first
    three. All are counted at once: singly they would take a tenth of the fit of a small network.

    Args:
        alphabet: The C classes.
    """

    full_state_update = False
    right: Tensor
    total: Tensor
    fold: Tensor
    mask: Tensor

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        classes = len(alphabet)
        folds = {
            "acc": np.arange(classes),
            "acc_nocase": alphabet.fold(),
            "acc_bymerge": alphabet.bymerge(),
            "acc_lookalike": alphabet.lookalike(),
        }
        folds = {
            name: fold
            for name, fold in folds.items()
            if name == "acc" or len(np.unique(fold)) < classes
        }
        groups = {f"acc_{name}": mask for name, mask in alphabet.groups().items()}
        self.names = (*folds, *groups, *(("top3",) if classes > 3 else ()))
        mask = np.array(list(groups.values()), bool).reshape(-1, classes)
        for buffer, array in {"fold": np.stack(list(folds.values())), "mask": mask}.items():
            self.register_buffer(buffer, torch.from_numpy(array), persistent=False)
        for state in ("right", "total"):
            start = torch.zeros(len(self.names), dtype=torch.long)
            self.add_state(state, start, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in scores, shape (N, C), and labels, shape (N,)."""
        found = preds.argmax(1)
        chosen = self.mask[:, target]
        right = [
            (self.fold[:, found] == self.fold[:, target]).sum(1),
            (chosen & (found == target)).sum(1),
        ]
        every = torch.tensor(len(target), device=target.device)
        total = [every.expand(len(self.fold)), chosen.sum(1)]
        if self.names[-1] == "top3":
            right.append((preds.topk(3).indices == target[:, None]).sum()[None])
            total.append(every[None])
        self.right, self.total = self.right + torch.cat(right), self.total + torch.cat(total)

    def compute(self) -> dict[str, Tensor]:
        """The accuracies, scalars, by name in alphabetical order."""
        return dict(sorted(zip(self.names, self.right / self.total, strict=True)))


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
        **known(Accuracies(alphabet)(log_probability, label)),
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
