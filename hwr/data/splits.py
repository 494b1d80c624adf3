"""Split a dataset into training, validation and test images."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from hwr.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices of the three parts; training and test share none.

    Attributes:
        train: Shape (N_train,).
        val: Shape (N_val,): cut from the training images, the test images themselves, or empty.
        test: Shape (N_test,).
    """

    train: Indices
    val: Indices
    test: Indices


class _Samples(NamedTuple):
    labels: NDArray[np.int64]
    writers: NDArray[np.int64] | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class BaseSplit(ABC):
    """Settings that every split has.

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

    def split(
        self,
        labels: NDArray[np.int64],
        writers: NDArray[np.int64] | None,
        names: tuple[str, ...],
    ) -> Split:
        """Split a dataset.

        Args:
            labels: Class index of each image, shape (N,).
            writers: Writer of each image, shape (N,); None where they are unknown.
            names: Class names.

        Raises:
            DataError: A class has too few images, there are too few writers or none are known, or
                a class is not among the training images.
        """
        rows = np.arange(len(labels))
        if self.writers is not None:
            rows = rows_of_writers(self.writers, writers, "split.writers")
            labels, writers = labels[rows], None if writers is None else writers[rows]
        samples = _Samples(labels, writers, names)
        train, test = self._hold_out_test(samples)
        val = train[:0]
        if self.val_is_test:
            val = test
        elif self.val_size:
            train, val = self._hold_out_val(train, samples)
        for part, held_out in (("test", test), ("validation", val)):
            if len(absent := np.setdiff1d(labels[held_out], labels[train])):
                listed = ", ".join(repr(names[i]) for i in absent[:5])
                more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
                raise DataError(
                    f"the {part} part has the class {listed}{more}, which no training image shows; "
                    "choose another split.fold or split.seed, or split=stratified"
                )
        return Split(rows[train], rows[val], rows[test])

    @abstractmethod
    def _hold_out_test(self, samples: _Samples) -> tuple[Indices, Indices]:
        """Return the rows of the training and of the test part."""

    def _hold_out_val(self, train: Indices, samples: _Samples) -> tuple[Indices, Indices]:
        """Return the rows of the training part that are left, and those of the validation part."""
        return _stratified(train, samples, self.val_size, self.seed, "val_size")


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

    def _hold_out_test(self, samples: _Samples) -> tuple[Indices, Indices]:
        rows = np.arange(len(samples.labels))
        return _stratified(rows, samples, self.test_size, self.seed, "test_size")


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

    def _hold_out_test(self, samples: _Samples) -> tuple[Indices, Indices]:
        labels = samples.labels
        _at_least(self.folds, labels, samples.names, f"split.folds={self.folds}")
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        train, test = list(folds.split(labels, labels))[self.fold]
        return train, test


@dataclass(frozen=True)
class _ByWriter(BaseSplit):
    """Splits whose validation part is by held-out writers."""

    def _hold_out_val(self, train: Indices, samples: _Samples) -> tuple[Indices, Indices]:
        assert samples.writers is not None
        writers = samples.writers[train]
        people = np.unique(writers)
        count = max(1, round(self.val_size * len(people)))
        if count >= len(people):
            raise DataError(
                f"split.val_size={self.val_size} leaves no writer of {len(people)} to train on"
            )
        chosen = np.random.default_rng(self.seed).permutation(people)[:count]
        held_out = np.isin(writers, chosen)
        return train[~held_out], train[held_out]


@dataclass(frozen=True)
class WriterSplit(_ByWriter):
    """Test one of several writer-disjoint folds.

    Attributes:
        folds: How many there are.
        fold: Which one is tested, from 0.
    """

    folds: int = 5
    fold: int = 0
    name: ClassVar[str] = "writer"

    def _hold_out_test(self, samples: _Samples) -> tuple[Indices, Indices]:
        writers = samples.writers
        if writers is None:
            raise DataError(
                "split=writer needs to know who wrote each image, from a column of the table or "
                "file names imgCCC-WWW.png; use split=stratified or split=kfold"
            )
        people = np.unique(writers)
        if len(people) < self.folds:
            raise DataError(
                f"split.folds={self.folds} needs as many writers, but this dataset has "
                f"{len(people)}"
            )
        shuffled = np.random.default_rng(self.seed).permutation(people)
        held_out = np.isin(writers, np.array_split(shuffled, self.folds)[self.fold])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@dataclass(frozen=True)
class HeldOutWritersSplit(_ByWriter):
    """Test the images of held-out writers.

    Attributes:
        test_writers: Their numbers and ranges, such as `45-55` or `3,7`.
    """

    val_size: float = 0.0
    test_writers: str = "45-55"
    name: ClassVar[str] = "lockbox"

    def _hold_out_test(self, samples: _Samples) -> tuple[Indices, Indices]:
        test = rows_of_writers(self.test_writers, samples.writers, "split.test_writers")
        train = np.setdiff1d(np.arange(len(samples.labels)), test)
        if not len(train):
            raise DataError(f"split.test_writers={self.test_writers} leaves no writer to train on")
        return train, test


def rows_of_writers(ranges: str, writers: NDArray[np.int64] | None, key: str) -> Indices:
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
    wanted = np.zeros(len(writers), bool)
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        low, high = _bound(first), _bound(last or first)
        wanted |= (low <= writers) & (writers <= high)
    rows = np.flatnonzero(wanted)
    if not len(rows):
        raise DataError(f"no image is by {key}={ranges}")
    return rows


def _bound(digits: str) -> int:
    """Return a writer's number, or one that no writer has: theirs have at most 18 digits."""
    return int(digits) if len(digits) <= 18 else 10**18


def _stratified(
    rows: Indices, samples: _Samples, share: float, seed: int, key: str
) -> tuple[Indices, Indices]:
    """Return the rows without and with a random share of every class."""
    labels = samples.labels[rows]
    _at_least(2, labels, samples.names, "a stratified split")
    classes, count = len(np.unique(labels)), int(np.ceil(share * len(rows)))
    if count < classes or len(rows) - count < classes:
        none = ", or none: split.val_size=0" if key == "val_size" else ""
        raise DataError(
            f"split.{key}={share} of {len(rows)} images leaves fewer than one image for each of "
            f"the {classes} classes on one side; choose a share nearer to 0.5{none}"
        )
    kept, cut = train_test_split(rows, test_size=share, stratify=labels, random_state=seed)
    return kept, cut


def _at_least(count: int, labels: NDArray[np.int64], names: tuple[str, ...], why: str) -> None:
    """Reject classes that have fewer images than `count`, but some."""
    found = np.bincount(labels, minlength=len(names))
    few = [f"{names[i]!r} has {found[i]}" for i in np.flatnonzero((found < count) & (found > 0))]
    if few:
        more = f" and {len(few) - 5} more classes" if len(few) > 5 else ""
        raise DataError(
            f"{why} needs {count} images of every class, but {', '.join(few[:5])}{more}"
        )
