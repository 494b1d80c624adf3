"""A forest's file: written by skops, and loaded with named types only."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import skops.io
from sklearn.ensemble import RandomForestClassifier

from hwr.errors import RunError
from hwr.files import whole

MOST_BYTES = 4 * 10**9
TRUSTED = ("sklearn.tree._tree.Tree",)
"""Types beyond scikit-learn's public ones that a forest's file may hold."""


def save(trees: RandomForestClassifier, card: dict[str, Any], file: Path) -> None:
    """Write a forest and what a recogniser needs to know of it, compressed."""
    with whole(file) as beside, beside.open("wb") as stream:
        content = {"trees": trees, "card": json.dumps(card)}
        skops.io.dump(content, stream, compression=zipfile.ZIP_DEFLATED)


def load_forest(file: Path) -> tuple[RandomForestClassifier, dict[str, Any]]:
    """A forest from its file, and its card; nothing in the file is executed.

    Raises:
        RunError: It is no such file, or holds types that a forest has no need of.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise RunError(f"{file} unpacks to more than {MOST_BYTES:,} bytes; not opened")
        surprising = set(skops.io.get_untrusted_types(file=file)) - set(TRUSTED)
    except RunError:
        raise
    except Exception as error:  # skops raises whatever a broken file leads to
        raise RunError(f"{file} is no forest of hwr-forest") from error
    if surprising:
        raise RunError(f"{file} holds {', '.join(sorted(surprising))}, which no forest needs")
    try:
        content = skops.io.load(file, trusted=list(TRUSTED))
        trees, card = content["trees"], json.loads(content["card"])
        if trees.n_features_in_ == math.prod(card["size"]):
            return trees, card
    except Exception as error:
        raise RunError(f"{file} is no forest of hwr-forest") from error
    raise RunError(f"{file}: forest and card don't fit")
