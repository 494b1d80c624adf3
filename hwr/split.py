"""Which pictures are trained on, validated on and tested on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from hwr.errors import DataError
from hwr.schema import (
    FoldConfig,
    KFoldConfig,
    LockboxConfig,
    SplitConfig,
    StratifiedConfig,
    WriterConfig,
)

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts; training and test share none.

    Attributes:
        train: Shape (N_train,).
        val: Shape (N_val,): cut from the training part, the test part itself, or empty.
        test: Shape (N_test,).
    """

    train: Indices
    val: Indices
    test: Indices


def split(
    config: SplitConfig,
    label: NDArray[np.int64],
    writer: NDArray[np.int64] | None,
    names: tuple[str, ...],
) -> Split:
    """Cut a data set as the settings say; the same seed gives the same cut.

    `stratified` gives the very rows of the notebook's
    `train_test_split(stratify=y, test_size=0.25, random_state=seed)`.

    Args:
        config: One of the splits of conf/split.
        label: Class index of each row, shape (N,).
        writer: Who drew it, shape (N,); None where nobody knows.
        names: Class names.

    Raises:
        DataError: The set has too few pictures of a class, or too few writers, or none; or a
            class is in the test part only.
    """
    if config.writers is None:
        parts = _cut(config, label, writer, names)
    else:
        rows = rows_by(config.writers, writer, "split.writers")
        cut = _cut(config, label[rows], None if writer is None else writer[rows], names)
        parts = Split(rows[cut.train], rows[cut.val], rows[cut.test])
    for part, rows in (("test", parts.test), ("validation", parts.val)):
        if len(unseen := np.setdiff1d(label[rows], label[parts.train])):
            listed = ", ".join(repr(names[i]) for i in unseen[:5])
            more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            raise DataError(
                f"the {part} part has the class {listed}{more}, which no training picture shows; "
                "choose another split.fold or split.seed, or split=stratified"
            )
    return parts


def rows_by(writers: str, writer: NDArray[np.int64] | None, key: str) -> Indices:
    """The rows of what some people wrote.

    Args:
        writers: Numbers and ranges, such as `1-44` or `3,7`.
        writer: Who wrote each row, shape (N,); None where nobody knows.
        key: The setting that names them.

    Raises:
        DataError: Nobody knows who wrote, or nothing is by them.
    """
    if writer is None:
        raise DataError(f"{key}= needs to know who wrote each picture, and this data set doesn't")
    wanted = np.zeros(len(writer), bool)
    for part in writers.split(","):
        first, _, last = part.partition("-")
        low, high = _bound(first), _bound(last or first)
        wanted |= (low <= writer) & (writer <= high)
    rows = np.flatnonzero(wanted)
    if not len(rows):
        raise DataError(f"no picture is by {key}={writers}")
    return rows


def _bound(digits: str) -> int:
    """A writer's number, or one that nobody has: theirs have at most 18 digits."""
    return int(digits) if len(digits) <= 18 else 10**18


def _cut(
    config: SplitConfig,
    label: NDArray[np.int64],
    writer: NDArray[np.int64] | None,
    names: tuple[str, ...],
) -> Split:
    rows = np.arange(len(label))
    match config:
        case StratifiedConfig():
            rest, test = _stratified(rows, label, config.test_size, config.seed, names)
        case KFoldConfig():
            _at_least(config.folds, label, names, f"split.folds={config.folds}")
            folds = StratifiedKFold(config.folds, shuffle=True, random_state=config.seed)
            rest, test = list(folds.split(rows, label))[config.fold]
        case WriterConfig():
            rest, test = _by_writer(config, rows, writer)
        case LockboxConfig():
            test = rows_by(config.test_writers, writer, "split.test_writers")
            rest = np.setdiff1d(rows, test)
            if not len(rest):
                raise DataError(
                    f"split.test_writers={config.test_writers} leaves nobody to train on"
                )
        case _:
            raise TypeError(f"no rule for {type(config).__name__}")
    if config.val_is_test:
        return Split(rest, test, test)
    if config.val_size == 0:
        return Split(rest, rest[:0], test)
    if isinstance(config, WriterConfig | LockboxConfig) and writer is not None:
        people = np.unique(writer[rest])
        count = max(1, round(config.val_size * len(people)))
        if count >= len(people):
            raise DataError(
                f"split.val_size={config.val_size} leaves no writer of {len(people)} to train on"
            )
        chosen = np.random.default_rng(config.seed).permutation(people)[:count]
        held = np.isin(writer[rest], chosen)
        return Split(rest[~held], rest[held], test)
    train, val = _stratified(rest, label, config.val_size, config.seed, names, "val_size")
    return Split(train, val, test)


def _stratified(
    rows: Indices,
    label: NDArray[np.int64],
    share: float,
    seed: int,
    names: tuple[str, ...],
    key: str = "test_size",
) -> tuple[Indices, Indices]:
    """The rows without and with a random share of every class."""
    _at_least(2, label[rows], names, "a stratified split")
    classes, count = len(np.unique(label[rows])), int(np.ceil(share * len(rows)))
    if count < classes or len(rows) - count < classes:
        none = ", or none: split.val_size=0" if key == "val_size" else ""
        raise DataError(
            f"split.{key}={share} of {len(rows)} pictures leaves fewer than one picture "
            f"for each of the {classes} classes on one side; choose a share nearer to 0.5{none}"
        )
    kept, cut = train_test_split(rows, test_size=share, stratify=label[rows], random_state=seed)
    return kept, cut


def _at_least(count: int, label: NDArray[np.int64], names: tuple[str, ...], why: str) -> None:
    found = np.bincount(label, minlength=len(names))
    few = [f"{names[i]!r} has {found[i]}" for i in np.flatnonzero((found < count) & (found > 0))]
    if few:
        more = f" and {len(few) - 5} more classes" if len(few) > 5 else ""
        raise DataError(
            f"{why} needs {count} pictures of every class, but {', '.join(few[:5])}{more}"
        )


def _by_writer(
    config: FoldConfig, rows: Indices, writer: NDArray[np.int64] | None
) -> tuple[Indices, Indices]:
    if writer is None:
        raise DataError(
            "split=writer needs to know who drew each picture, from file names imgCCC-WWW.png, "
            "and this data set has other names; use split=stratified or split=kfold"
        )
    people = np.unique(writer)
    if len(people) < config.folds:
        raise DataError(
            f"split.folds={config.folds} needs as many writers, but this data set has {len(people)}"
        )
    shuffled = np.random.default_rng(config.seed).permutation(people)
    held = np.isin(writer, np.array_split(shuffled, config.folds)[config.fold])
    return rows[~held], rows[held]
