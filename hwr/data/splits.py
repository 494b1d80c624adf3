"""Split a dataset into training, validation and test images."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from hwr.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices of the three parts, each of shape (N,); training and test share none.

    Attributes:
        train: Training images.
        val: Validation images: cut from the training images, the test images themselves, or none.
        test: Test images.
    """

    train: Indices
    val: Indices
    test: Indices


@dataclass(frozen=True)
class BaseSplit(ABC):
    """Settings that every split has; subclasses choose the test images.

    Attributes:
        seed: The same seed gives the same split.
        val_size: Share of the training images (of the training writers, where these are split)
            that is held out for validation; 0: none.
        val_is_test: Validate on the test images, as the notebook did. Nothing may be chosen by it.
        writers: Numbers and ranges of writers, such as `1-44` or `3,7`, whose images take part;
            None: all.
    """

    seed: int = 0
    val_size: float = 0.1
    val_is_test: bool = False
    writers: str | None = None
    name: ClassVar[str]
    by_writer: ClassVar[bool] = False

    def split(self, labels: Indices, writers: Indices | None, names: tuple[str, ...]) -> Split:
        """Split a dataset.

        Args:
            labels: Class index of each image, shape (N,).
            writers: Writer of each image, shape (N,); None where they are unknown.
            names: Class names.

        Raises:
            DataError: There is one class only, a class has too few images, there are too few
                writers or none are known, or a class is not among the training images.
        """
        if writers is None and (self.by_writer or self.writers):
            raise DataError(
                f"split={self.name} needs to know who wrote each image, from a column of the table "
                "or file names imgCCC-WWW.png; use split=stratified without split.writers"
            )
        if len(names) < 2:
            raise DataError(f"the dataset has one class only, {names[0]!r}; training needs two")
        writers = np.zeros_like(labels) if writers is None else writers
        rows = np.arange(len(labels))
        if self.writers:
            rows = select_writers(self.writers, writers, "split.writers")
            labels, writers = labels[rows], writers[rows]
        train, test = self._hold_out_test(labels, writers, names)
        val = test if self.val_is_test else train[:0]
        if self.val_size and not self.val_is_test:
            if self.by_writer:
                distinct = np.random.default_rng(self.seed).permutation(np.unique(writers[train]))
                count = max(1, round(self.val_size * len(distinct)))
                held_out = np.isin(writers[train], distinct[:count])
                train, val = train[~held_out], train[held_out]
            else:
                share = self.val_size
                train, val = _stratified(train, labels, share, self.seed, "split.val_size", names)
        if not len(train):
            raise DataError(f"split={self.name} holds out all writers; none is left to train on")
        if len(absent := np.setdiff1d(labels[np.concatenate([val, test])], labels[train])):
            raise DataError(
                f"no training image shows {', '.join(repr(names[k]) for k in absent[:5])}, but "
                f"others of split={self.name} do; choose another split.fold or split.seed, or "
                "split=stratified"
            )
        return Split(rows[train], rows[val], rows[test])

    @abstractmethod
    def _hold_out_test(
        self, labels: Indices, writers: Indices, names: tuple[str, ...]
    ) -> tuple[Indices, Indices]:
        """Return the rows of the training and of the test part."""


@dataclass(frozen=True)
class StratifiedSplit(BaseSplit):
    """Test a random share of every class.

    Gives the rows of the notebook's
    `train_test_split(stratify=y, test_size=0.25, random_state=seed)`.

    Attributes:
        test_size: The share.
    """

    test_size: float = 0.25
    name: ClassVar[str] = "stratified"

    def _hold_out_test(
        self, labels: Indices, writers: Indices, names: tuple[str, ...]
    ) -> tuple[Indices, Indices]:
        rows = np.arange(len(labels))
        return _stratified(rows, labels, self.test_size, self.seed, "split.test_size", names)


@dataclass(frozen=True)
class KFoldSplit(BaseSplit):
    """Test one of several stratified folds.

    Attributes:
        folds: How many there are.
        fold: Which one is tested, from 0.
    """

    folds: int = 5
    fold: int = 0
    name: ClassVar[str] = "kfold"

    def _hold_out_test(
        self, labels: Indices, writers: Indices, names: tuple[str, ...]
    ) -> tuple[Indices, Indices]:
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        try:
            train, test = list(folds.split(labels, labels))[self.fold]
        except ValueError as error:
            most = int(np.bincount(labels).argmax())
            raise DataError(
                f"split.folds={self.folds} needs as many images of a class; the largest, "
                f"{names[most]!r}, has {np.count_nonzero(labels == most)}"
            ) from error
        return train, test


@dataclass(frozen=True)
class WriterSplit(BaseSplit):
    """Test one of several writer-disjoint folds.

    Attributes:
        folds: How many there are.
        fold: Which one is tested, from 0.
    """

    folds: int = 5
    fold: int = 0
    name: ClassVar[str] = "writer"
    by_writer: ClassVar[bool] = True

    def _hold_out_test(
        self, labels: Indices, writers: Indices, names: tuple[str, ...]
    ) -> tuple[Indices, Indices]:
        distinct = np.unique(writers)
        if len(distinct) < self.folds:
            raise DataError(
                f"split.folds={self.folds} needs as many writers; the dataset has {len(distinct)}"
            )
        # scikit-learn's GroupKFold would shuffle by another generator, and so give other folds.
        shuffled = np.random.default_rng(self.seed).permutation(distinct)
        held_out = np.isin(writers, np.array_split(shuffled, self.folds)[self.fold])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@dataclass(frozen=True)
class HeldOutWritersSplit(BaseSplit):
    """Test the images of held-out writers.

    Attributes:
        test_writers: Their numbers and ranges, such as `45-55` or `3,7`.
    """

    val_size: float = 0.0
    test_writers: str = "45-55"
    name: ClassVar[str] = "lockbox"
    by_writer: ClassVar[bool] = True

    def _hold_out_test(
        self, labels: Indices, writers: Indices, names: tuple[str, ...]
    ) -> tuple[Indices, Indices]:
        test = select_writers(self.test_writers, writers, "split.test_writers")
        return np.setdiff1d(np.arange(len(labels)), test), test


def select_writers(ranges: str, writers: Indices | None, key: str) -> Indices:
    """Return the rows of some writers.

    Args:
        ranges: Numbers and ranges, such as `1-44` or `3,7`.
        writers: Writer of each row, shape (N,); None where they are unknown.
        key: The setting that names them.

    Raises:
        DataError: The writers are unknown, or no image is by these.
    """
    if writers is None:
        raise DataError(f"{key}= needs to know who wrote each image, and this dataset doesn't")
    chosen = np.zeros(len(writers), bool)
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        chosen |= (int(first) <= writers) & (writers <= int(last or first))
    if not chosen.any():
        raise DataError(f"no image is by {key}={ranges}")
    return np.flatnonzero(chosen)


def _stratified(
    rows: Indices, labels: Indices, share: float, seed: int, key: str, names: tuple[str, ...]
) -> tuple[Indices, Indices]:
    """Return the rows without and with a random share of every class."""
    try:
        kept, cut = train_test_split(
            rows, test_size=share, stratify=labels[rows], random_state=seed
        )
    except ValueError as error:
        counts, size = np.bincount(labels[rows]), math.ceil(share * len(rows))
        words = f"{key}={share} splits {len(rows)} images into {len(rows) - size} and {size}"
        if single := [repr(names[k]) for k in np.flatnonzero(counts == 1)]:
            more = f" and {len(single) - 5} more classes" if len(single) > 5 else ""
            words += f", but has only one image of {', '.join(single[:5])}{more}; add images"
        else:
            words += f", but either part needs one of each of {np.count_nonzero(counts)} classes; "
            words += "choose another share, or add images"
        raise DataError(words + ", or set it to 0" * (key == "split.val_size")) from error
    return kept, cut
