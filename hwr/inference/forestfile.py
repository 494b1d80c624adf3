"""Save and load a forest's file: written by skops, and loaded with trusted types only."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier

from hwr.errors import RunError
from hwr.files import atomic_write

MAX_UNPACKED = 50
"""A forest's file unpacks to about five times its size; one that grows more is a bomb."""
TRUSTED = ["sklearn.tree._tree.Tree"]
"""Types beyond scikit-learn's public ones that a forest's file may hold."""


def save(trees: RandomForestClassifier, card: dict[str, Any], file: Path) -> None:
    """Write a forest, and what a recognizer needs beside it, compressed."""
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        content = {"trees": trees, "card": json.dumps(card)}
        skops.io.dump(content, stream, compression=zipfile.ZIP_DEFLATED)


def load_forest(file: Path) -> tuple[RandomForestClassifier, dict[str, Any]]:
    """Load a forest and its card from a file; nothing in the file is executed.

    Raises:
        RunError: It is no such file, or holds types that a forest does not need.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED * file.stat().st_size:
            raise ValueError("it unpacks to more than a forest of its size")
        content = skops.io.load(file, trusted=TRUSTED)
        trees, card = content["trees"], json.loads(content["card"])
        _check(trees, card)
    except Exception as error:  # skops raises many kinds for broken and untrusted files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{file} is not a forest of hwr-forest: {reason}") from error
    return trees.set_params(n_jobs=None, verbose=0), card  # a file may ask for thousands of threads


def _check(trees: Any, card: dict[str, Any]) -> None:
    """Check what skops doesn't: that no tree is followed out of its memory.

    Raises:
        ValueError: Forest and card don't fit.
    """
    pixels, classes = card["height"] * card["width"] * card["channels"], len(trees.classes_)
    is_valid = isinstance(trees, RandomForestClassifier) and trees.n_features_in_ == pixels
    is_valid &= max(trees.classes_) < len(card["charset"]) and len(trees.estimators_) > 0
    for tree in [estimator.tree_ for estimator in trees.estimators_]:
        nodes = np.arange(tree.node_count)
        left, right = tree.children_left, tree.children_right
        leaf = (left == -1) & (right == -1)
        inner = (nodes < left) & (left < len(nodes)) & (nodes < right) & (right < len(nodes))
        inner &= (tree.feature >= 0) & (tree.feature < pixels)
        is_valid &= len(nodes) > 0 and tree.value.shape == (len(nodes), 1, classes)
        is_valid &= bool((leaf | inner).all())
    if not is_valid:
        raise ValueError("its trees and its description don't fit")
