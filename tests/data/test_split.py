"""Splits: the notebook's rows, no writer on both sides, and what cannot be split."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from hwr.config.compose import compose
from hwr.data import FolderDataset, Split, StratifiedSplit, load_split, synthetic
from hwr.errors import ConfigError, DataError

NAMES = tuple(synthetic.CHARACTERS)
LABEL = np.repeat(np.arange(62), 10)
WRITER = np.tile(np.arange(1, 11), 62)


def cut(*overrides: str, label: np.ndarray = LABEL, writer: np.ndarray | None = WRITER) -> Split:
    return load_split(compose(list(overrides)).split).split(label, writer, NAMES)


def all_rows(parts: Split) -> list[int]:
    return sorted(np.concatenate([parts.train, parts.val, parts.test]).tolist())


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_rows_of_the_notebook(real: Path, seed: int) -> None:
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
def test_parts_are_disjoint_and_complete(kind: str) -> None:
    parts = cut(f"split={kind}", "split.val_size=0.2")
    assert all_rows(parts) == list(range(len(LABEL)))
    again = cut(f"split={kind}", "split.val_size=0.2")
    other = cut(f"split={kind}", "split.val_size=0.2", "seed=1")
    assert np.array_equal(parts.test, again.test)
    assert not np.array_equal(np.sort(parts.test), np.sort(other.test))
    if kind != "writer":  # classes are shared out evenly
        for rows in (parts.train, parts.val, parts.test):
            counts = np.bincount(LABEL[rows], minlength=62)
            assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("kind", ["kfold", "writer"])
def test_every_image_is_tested_in_one_fold(kind: str) -> None:
    folds = [cut(f"split={kind}", f"split.fold={fold}", "split.val_size=0") for fold in range(5)]
    assert sorted(np.concatenate([parts.test for parts in folds])) == list(range(len(LABEL)))


@pytest.mark.parametrize("fold", range(3))
def test_no_writer_is_in_two_parts(fold: int) -> None:
    parts = cut("split=writer", "split.folds=3", f"split.fold={fold}", "split.val_size=0.2")
    people = [set(WRITER[rows]) for rows in (parts.train, parts.val, parts.test)]
    assert all(people)
    assert sum(map(len, people)) == len(set.union(*people)) == 10


def test_held_out_writers() -> None:
    parts = cut("split=lockbox", "split.test_writers=2-3\\,10", "split.val_size=0.2")
    assert all_rows(parts) == list(range(len(LABEL)))
    assert set(WRITER[parts.test]) == {2, 3, 10}
    assert not set(WRITER[parts.val]) & set(WRITER[parts.train])


@pytest.mark.parametrize("kind", ["stratified", "kfold", "writer"])
def test_writers_who_take_part(kind: str) -> None:
    parts = cut(f"split={kind}", "split.writers=1-7", "split.val_size=0.2")
    assert all_rows(parts) == np.flatnonzero(WRITER <= 7).tolist()
    split = load_split(compose([f"split={kind}", "split.val_size=0.2"]).split)
    assert split.name == kind
    subset = split.split(LABEL[WRITER <= 7], WRITER[WRITER <= 7], NAMES)
    assert np.array_equal(parts.test, np.flatnonzero(WRITER <= 7)[subset.test])


@pytest.mark.parametrize(
    ("overrides", "label", "writer", "words"),
    [
        (["split=writer"], LABEL, None, "use split=stratified"),
        (["split=lockbox"], LABEL, None, "use split=stratified"),
        (["split.writers=1-7"], LABEL, None, "needs to know who wrote"),
        (
            ["split=writer", "split.folds=11"],
            LABEL,
            WRITER,
            r"split\.folds=11 needs as many writers",
        ),
        (["split=lockbox"], LABEL, WRITER, r"no image is by split\.test_writers=45-55"),
        (["split.writers=11-20"], LABEL, WRITER, r"no image is by split\.writers=11-20"),
        (["split=lockbox", "split.test_writers=1-10"], LABEL, WRITER, "none is left to train on"),
        (["split=writer", "split.val_size=0.99"], LABEL, WRITER, "none is left to train on"),
        ([], np.append(np.delete(LABEL, LABEL == 61), 61), None, r"size=0\.25 .*only one .* 'z';"),
        ([], np.arange(62), WRITER, "only one image of '0', '1', '2', '3', '4' and 57 more"),
        (
            ["split.test_size=0.5"],
            np.repeat([0, 1], [2, 9]),
            None,
            r"val_size=0\.1 .*only one .*'0'",
        ),
        (["split=kfold", "split.folds=11"], LABEL, WRITER, r"folds=11 needs .* '0', has 10"),
        (["split.test_size=0.01"], LABEL, WRITER, r"0\.01 splits 620 images into 613 and 7, .* 62"),
        (["split.val_size=0.1"], LABEL, WRITER, r"val_size=0\.1 splits 465 .* or set it to 0"),
    ],
)
def test_impossible_splits(
    overrides: list[str], label: np.ndarray, writer: np.ndarray | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        cut(*overrides, label=label, writer=writer)


def test_a_class_that_only_test_images_show() -> None:
    label = np.where(WRITER == 4, 1, 0)
    messages = []
    for fold in range(5):
        try:
            cut("split=writer", f"split.fold={fold}", "split.val_size=0", label=label)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) == 1
    assert "no training image shows '1'" in messages[0]


def test_settings_of_writers() -> None:
    with pytest.raises(ConfigError, match=r"split\.test_writers=a must be numbers"):
        cut("split=lockbox", "split.test_writers=a")
