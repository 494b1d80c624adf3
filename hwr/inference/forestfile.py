"""A forest's file: written by skops, and loaded with named types only."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier
from skops.io.exceptions import UntrustedTypesFoundException

from hwr.errors import RunError
from hwr.files import atomic_write

MOST_BYTES = 4 * 10**9
MOST_TIMES = 50
"""A forest's file unpacks to about five times its size; what grows more is a bomb."""
TRUSTED = ("sklearn.tree._tree.Tree",)
"""Types beyond scikit-learn's public ones that a forest's file may hold."""


def save(trees: RandomForestClassifier, card: dict[str, Any], file: Path) -> None:
    """Write a forest and what a recogniser needs to know of it, compressed."""
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        content = {"trees": trees, "card": json.dumps(card)}
        skops.io.dump(content, stream, compression=zipfile.ZIP_DEFLATED)


def load_forest(file: Path) -> tuple[RandomForestClassifier, dict[str, Any]]:
    """A forest from its file, and its card; nothing in the file is executed.

    skops loads named types only, but doesn't look into trees: that is done here.

    Raises:
        RunError: It is no such file, or holds types that a forest has no need of.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            packed = file.stat().st_size
            most = min(MOST_BYTES, MOST_TIMES * packed)
            # Lists in lists take 25 times their JSON, which is a third of a forest's file.
            told = archive.getinfo("schema.json").file_size > 10**6 + packed
            if told or sum(entry.file_size for entry in archive.infolist()) > most:
                raise RunError(f"{file} unpacks to more than a forest of its size; not opened")
        content = skops.io.load(file, trusted=list(TRUSTED))
        trees, card = content["trees"], json.loads(content["card"])
        sound = _sound(trees, card)
    except RunError:
        raise
    except UntrustedTypesFoundException as error:
        found = str(error).splitlines()[0]
        raise RunError(f"{file} holds what no forest needs: {found}") from error
    except Exception as error:  # skops raises whatever a broken file leads to
        raise RunError(f"{file} is no forest of hwr-forest") from error
    if not sound:
        raise RunError(f"{file}: forest and card don't fit")
    return trees.set_params(n_jobs=None, verbose=0), card  # a file may ask for thousands of threads


def _sound(trees: Any, card: dict[str, Any]) -> bool:
    """Whether forest and card go together, and no tree would be followed out of its memory."""
    pixels, classes = card["height"] * card["width"] * card["channels"], len(card["charset"])
    known = trees.classes_
    return (
        isinstance(trees, RandomForestClassifier)
        and trees.n_features_in_ == pixels
        and known.dtype.kind in "iu"
        and 0 <= known.min() <= known.max() < classes
        and (trees.n_outputs_, trees.n_classes_) == (1, len(known))
        and len(trees.estimators_) > 0
        and all(_inside(tree.tree_, pixels, len(known)) for tree in trees.estimators_)
    )


def _inside(tree: Any, features: int, classes: int) -> bool:
    """Whether children come after their parents, and features and values are all there."""
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = left != -1
    own = np.arange(tree.node_count)
    below = (left > own) & (right > own) & (left < tree.node_count) & (right < tree.node_count)
    read = (feature >= 0) & (feature < features)
    ends = ~inner & (right == -1)
    return bool(
        len(own)  # scikit-learn would look for the root of an empty tree for ever
        and np.where(inner, below & read, ends).all()
        and tree.value.shape == (len(own), 1, classes)
    )
