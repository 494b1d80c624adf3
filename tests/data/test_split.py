"""Splits: the notebook's rows, no writer on both sides, and what cannot be split."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from hwr.config.compose import compose
from hwr.data import FolderDataset, Split, StratifiedSplit, drawing, load_split, table
from hwr.data.splits import rows_of_writers
from hwr.errors import ConfigError, DataError

NAMES = tuple(drawing.CHARACTERS)
LABEL = np.repeat(np.arange(62), 10)
WRITER = np.tile(np.arange(1, 11), 62)


def cut(*overrides: str, label: np.ndarray = LABEL, writer: np.ndarray | None = WRITER) -> Split:
    return load_split(compose(list(overrides)).split).split(label, writer, NAMES)


def together(parts: Split) -> list[int]:
    return sorted(np.concatenate([parts.train, parts.val, parts.test]).tolist())


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_rows_of_the_notebook(real: Path, seed: int) -> None:
    dataset = FolderDataset("english", real, "english.csv")
    split = load_split(compose(["experiment=notebook_cnn", f"seed={seed}"]).split)
    assert split == StratifiedSplit(seed=seed, val_size=0, val_is_test=True)
    labels = dataset.labels.numpy()
    parts = split.split(labels, dataset.writers, dataset.charset.names)
    rows = np.arange(len(labels))
    train, test = train_test_split(rows, stratify=labels, test_size=0.25, random_state=seed)
    np.testing.assert_array_equal(parts.train, train)
    np.testing.assert_array_equal(parts.test, test)
    np.testing.assert_array_equal(parts.val, test)
    assert (len(train), len(test)) == (2557, 853)


@pytest.mark.parametrize("kind", ["stratified", "kfold", "writer"])
def test_parts_are_disjoint_and_whole(kind: str) -> None:
    parts = cut(f"split={kind}", "split.val_size=0.2")
    assert together(parts) == list(range(len(LABEL)))
    again = cut(f"split={kind}", "split.val_size=0.2")
    other = cut(f"split={kind}", "split.val_size=0.2", "seed=1")
    assert np.array_equal(parts.test, again.test)
    assert not np.array_equal(np.sort(parts.test), np.sort(other.test))


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_classes_are_shared_out_evenly(kind: str) -> None:
    parts = cut(f"split={kind}", "split.val_size=0.2")
    for rows in (parts.train, parts.val, parts.test):
        counts = np.bincount(LABEL[rows], minlength=62)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("kind", ["kfold", "writer"])
def test_every_picture_is_tested_in_one_fold(kind: str) -> None:
    folds = [cut(f"split={kind}", f"split.fold={fold}", "split.val_size=0") for fold in range(5)]
    assert sorted(np.concatenate([parts.test for parts in folds])) == list(range(len(LABEL)))


@pytest.mark.parametrize("fold", range(3))
def test_no_writer_on_two_sides(fold: int) -> None:
    parts = cut("split=writer", "split.folds=3", f"split.fold={fold}", "split.val_size=0.2")
    people = [set(WRITER[rows]) for rows in (parts.train, parts.val, parts.test)]
    assert all(people)
    assert sum(map(len, people)) == len(set.union(*people)) == 10


def test_a_lockbox_is_tested_and_nothing_else_sees_it() -> None:
    parts = cut("split=lockbox", "split.test_writers=2-3\\,10", "split.val_size=0.2")
    assert together(parts) == list(range(len(LABEL)))
    assert set(WRITER[parts.test]) == {2, 3, 10}
    assert not set(WRITER[parts.val]) & set(WRITER[parts.train])
    with pytest.raises(DataError, match=r"no image is by split\.test_writers=45-55"):
        cut("split=lockbox")
    with pytest.raises(DataError, match=r"split\.test_writers=1-10 leaves no writer"):
        cut("split=lockbox", "split.test_writers=1-10")
    with pytest.raises(ConfigError, match=r"split\.test_writers=a must be numbers"):
        cut("split=lockbox", "split.test_writers=a")


@pytest.mark.parametrize("kind", ["stratified", "kfold", "writer"])
def test_only_what_some_writers_wrote_takes_part(kind: str) -> None:
    parts = cut(f"split={kind}", "split.writers=1-7", "split.val_size=0.2")
    assert together(parts) == np.flatnonzero(WRITER <= 7).tolist()
    split = load_split(compose([f"split={kind}", "split.val_size=0.2"]).split)
    assert split.name == kind
    alone = split.split(LABEL[WRITER <= 7], WRITER[WRITER <= 7], NAMES)
    assert np.array_equal(parts.test, np.flatnonzero(WRITER <= 7)[alone.test])
    with pytest.raises(DataError, match=r"split\.writers= needs to know who wrote"):
        cut(f"split={kind}", "split.writers=1-7", writer=None)


def test_ranges_of_writers_may_be_of_any_length() -> None:
    for most in ("10", "99999999999999", "9" * 5000):
        assert (
            rows_of_writers(f"9-{most}", WRITER, "writers").tolist()
            == np.flatnonzero(WRITER > 8).tolist()
        )
    for nobody in ("5-1", "11-20", "9" * 30):
        with pytest.raises(DataError, match=f"no image is by writers={nobody}"):
            rows_of_writers(nobody, WRITER, "writers")


def test_what_cannot_be_cut() -> None:
    with pytest.raises(DataError, match="use split=stratified"):
        cut("split=writer", writer=None)
    with pytest.raises(DataError, match=r"split\.folds=11 needs as many writers"):
        cut("split=writer", "split.folds=11")
    with pytest.raises(DataError, match="needs 2 images of every class, but 'z' has 1"):
        cut(label=np.append(np.delete(LABEL, LABEL == 61), 61))
    with pytest.raises(DataError, match=r"split\.folds=11 needs 11 images of every class"):
        cut("split=kfold", "split.folds=11")
    with pytest.raises(DataError, match=r"split\.test_size=0\.01 of 620 images"):
        cut("split.test_size=0.01")
    with pytest.raises(DataError, match=r"split\.val_size=0\.1 of 465 images"):
        cut("split.val_size=0.1")


def test_writers_come_from_the_file_names() -> None:
    assert table.writers_of(["Img/img001-007.png", "img062-055.PNG"]) == ("007", "055")
    assert table.writers_of(["Img/img001-007.png", "mine.png"]) is None
