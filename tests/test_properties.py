"""Test properties of any labels, writers and charsets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder

from hwr.charset import Charset
from hwr.data import HeldOutWritersSplit, KFoldSplit, StratifiedSplit, WriterSplit
from hwr.errors import DataError

settings.register_profile("hwr", deadline=None, derandomize=True, database=None)
settings.load_profile("hwr")
names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=30)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Any, np.ndarray, np.ndarray]:
    """Draw a split, and labels and writers of a dataset that may be too small for it."""
    kind: Any = draw(
        st.sampled_from([StratifiedSplit, KFoldSplit, WriterSplit, HeldOutWritersSplit])
    )
    settings: dict[str, Any] = {
        "seed": draw(st.integers(0, 9)),
        "val_size": draw(st.sampled_from([0.0, 0.2, 0.5])),
    }
    writers = draw(st.integers(1, 60))
    if kind is StratifiedSplit:
        settings["test_size"] = draw(st.floats(0.05, 0.95))
    elif kind is not HeldOutWritersSplit:
        settings["folds"] = draw(st.integers(2, 8))
        settings["fold"] = draw(st.integers(0, settings["folds"] - 1))
    rows = draw(st.integers(2, 150))
    classes = draw(st.integers(2, 8))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels, by = random.integers(0, classes, rows), random.integers(1, writers + 1, rows)
    return kind(**settings), labels, by


@pytest.mark.filterwarnings("ignore:The least populated class")
@given(splits())
def test_splits(made: tuple[Any, np.ndarray, np.ndarray]) -> None:
    """Each image is in one part; every class is trained on; no writer is on both sides."""
    split, labels, writers = made
    charset = tuple("abcdefgh")
    try:
        parts = split.split(labels, writers, charset)
    except DataError:
        return
    every = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(every.tolist()) == list(range(len(labels)))
    assert len(parts.train)
    assert len(parts.test)
    assert (len(parts.val) > 0) == (split.val_size > 0)
    assert set(labels[parts.test]) | set(labels[parts.val]) <= set(labels[parts.train])
    if split.name in ("writer", "lockbox"):
        people = [set(writers[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert not people[0] & people[2]
        assert not people[1] & (people[0] | people[2])
    again = split.split(labels, writers, charset)
    for name, rows in vars(parts).items():
        np.testing.assert_array_equal(rows, getattr(again, name))


@given(names)
def test_charsets(labels: list[str]) -> None:
    """Classes in scikit-learn's order; folding joins only what is alike, and twice is once."""
    charset = Charset.of(labels)
    encoder = LabelEncoder().fit(np.array(labels, object))
    assert charset.names == tuple(encoder.classes_)
    np.testing.assert_array_equal(charset.encode(labels), encoder.transform(labels))
    for fold in (
        charset.case_insensitive_classes(),
        charset.emnist_bymerge_classes(),
        charset.confusable_classes(),
    ):
        np.testing.assert_array_equal(fold[fold], fold)
        assert (fold <= np.arange(len(charset))).all()
    for first, name in zip(charset.case_insensitive_classes(), charset.names, strict=True):
        assert charset.names[first].casefold() == name.casefold()
    with pytest.raises(DataError):
        charset.encode(["nothing of four letters"])
