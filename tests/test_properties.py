"""What holds for any labels, writers, alphabets, pictures and predictions."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sklearn_metrics
from sklearn.preprocessing import LabelEncoder

from hwr import images, metrics
from hwr.alphabet import Alphabet
from hwr.config import compose
from hwr.errors import DataError
from hwr.split import split

settings.register_profile("hwr", deadline=None, derandomize=True, database=None)
settings.load_profile("hwr")
names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=30)


@cache
def configuration(kind: str) -> Any:
    return compose([f"split={kind}", "split.val_size=0"]).split


@st.composite
def splits(draw: st.DrawFn) -> tuple[Any, np.ndarray, np.ndarray]:
    """Settings, labels and writers of a set that may be too small to be cut."""
    kind = draw(st.sampled_from(["stratified", "kfold", "writer", "lockbox"]))
    config = replace(
        configuration(kind),
        seed=draw(st.integers(0, 9)),
        val_size=draw(st.sampled_from([0.0, 0.2, 0.5])),
    )
    writers = draw(st.integers(1, 60))
    if kind == "stratified":
        config = replace(config, test_size=draw(st.floats(0.05, 0.95)))
    elif kind != "lockbox":
        folds = draw(st.integers(2, 8))
        config = replace(config, folds=folds, fold=draw(st.integers(0, folds - 1)))
    rows = draw(st.integers(2, 150))
    classes = draw(st.integers(2, 8))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    return config, random.integers(0, classes, rows), random.integers(1, writers + 1, rows)


@given(splits())
def test_splits(made: tuple[Any, np.ndarray, np.ndarray]) -> None:
    """Each picture is in one part; every class is trained on; no hand is on both sides."""
    config, label, writer = made
    alphabet = tuple("abcdefgh")
    try:
        parts = split(config, label, writer, alphabet)
    except DataError:
        return
    every = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(every.tolist()) == list(range(len(label)))
    assert len(parts.train)
    assert len(parts.test)
    assert (len(parts.val) > 0) == (config.val_size > 0)
    assert set(label[parts.test]) | set(label[parts.val]) <= set(label[parts.train])
    if config.name in ("writer", "lockbox"):
        hands = [set(writer[rows]) for rows in (parts.train, parts.val, parts.test)]
        assert not hands[0] & hands[2]
        assert not hands[1] & (hands[0] | hands[2])
    again = split(config, label, writer, alphabet)
    for name, rows in vars(parts).items():
        np.testing.assert_array_equal(rows, getattr(again, name))


@given(names)
def test_alphabets(labels: list[str]) -> None:
    """Classes in scikit-learn's order; folding joins only what is alike, and twice is once."""
    alphabet = Alphabet.of(labels)
    encoder = LabelEncoder().fit(np.array(labels, object))
    assert alphabet.names == tuple(encoder.classes_)
    np.testing.assert_array_equal(alphabet.encode(labels), encoder.transform(labels))
    for fold in (alphabet.fold(), alphabet.bymerge(), alphabet.lookalike()):
        np.testing.assert_array_equal(fold[fold], fold)
        assert (fold <= np.arange(len(alphabet))).all()
    for first, name in zip(alphabet.fold(), alphabet.names, strict=True):
        assert alphabet.names[first].casefold() == name.casefold()
    with pytest.raises(DataError):
        alphabet.encode(["nothing of four letters"])


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    """Grey pictures of any size, some with little ink."""
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    array = np.full((height, width), 255, np.uint8)
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    part = array[top : top + draw(st.integers(0, 200)), left : left + draw(st.integers(0, 200))]
    part[:] = random.integers(0, 256, part.shape)
    return Image.fromarray(array)


@given(pictures(), st.integers(1, 60), st.integers(1, 60))
def test_preprocessing(picture: Image.Image, height: int, width: int) -> None:
    """`notebook` is Pillow's resize to the bit; `ink` gives an array of the size."""
    before = picture.tobytes()
    array = images.notebook(picture, height, width)
    np.testing.assert_array_equal(array, np.asarray(picture.resize((width, height))))
    ink = images.ink(picture, height, width)
    assert (ink.shape, ink.dtype) == ((height, width), np.uint8)
    assert picture.tobytes() == before


@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(2, 200))
def test_metrics(seed: int, classes: int, count: int) -> None:
    """Equal to scikit-learn's on the same predictions, ties and absent classes included."""
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, count)
    assume(len(np.unique(label)) > 1)
    scores = torch.from_numpy(random.normal(size=(count, classes)).round(1)).log_softmax(1)
    probability = scores.exp().numpy()
    alphabet = Alphabet(tuple("0123456789abcdefghij"[:classes]))
    found = metrics.evaluate(scores, torch.from_numpy(label), alphabet)
    guess = probability.argmax(1)
    present = np.unique(label)
    pairs = [(label == k, probability[:, k]) for k in present]
    areas = [sklearn_metrics.roc_auc_score(*pair) for pair in pairs]
    precise = [sklearn_metrics.average_precision_score(*pair) for pair in pairs]
    every = np.arange(classes)
    expected = {
        "acc": sklearn_metrics.accuracy_score(label, guess),
        "loss": sklearn_metrics.log_loss(label, probability, labels=every),
        "auroc": np.mean(areas),
        "ap": np.mean(precise),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    counts = sklearn_metrics.confusion_matrix(label, guess, labels=every)
    np.testing.assert_array_equal(metrics.confusion(scores, torch.from_numpy(label)), counts)
