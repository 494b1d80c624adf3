"""Order the classes of a dataset, and group those that are confused."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.errors import DataError

CONFUSABLE = ("0Oo", "1Iil", "2Zz", "5Ss", "9gq", "Cc", "Kk", "Pp", "Uu", "Vv", "Ww", "Xx", "Yy")
"""Confusable characters: they differ in size or place, hardly in form."""
BYMERGE_LETTERS = frozenset("cijklmopsuvwxyz")
"""Letters whose cases are one class in EMNIST ByMerge (G. Cohen, 2017)."""


def clean_label(text: str) -> str:
    """Strip blanks and zero-width characters, and compose the rest (NFC), as disks differ in it."""
    blank = r"[\s\u200b\u200e\u200f\u2060\ufeff]+"
    return unicodedata.normalize("NFC", re.sub(f"^{blank}|{blank}$", "", text))


def appearance(label: str) -> str:
    """Map labels that look the same to one text: full width as half width, zero width as nothing.

    Joiners (U+200C, U+200D) count in scripts that have them.
    """
    text = ""
    for c in unicodedata.normalize("NFC", label):
        is_width = unicodedata.decomposition(c).startswith(("<wide>", "<narrow>"))
        if unicodedata.category(c) != "Cf" or c in "\u200c\u200d":
            text += " " if c.isspace() else unicodedata.normalize("NFKC", c) if is_width else c
    bare = re.sub("[\u200c\u200d]", "", text)
    return bare if bare.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Charset:
    """Class names in label order.

    Attributes:
        names: One name per class; the index of a name is its label.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, labels: Iterable[str]) -> "Charset":
        """Make a charset of distinct labels, sorted as by scikit-learn's LabelEncoder."""
        return cls(tuple(sorted(set(labels))))

    def encode(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the class indices of labels, shape (N,).

        Raises:
            DataError: A label is not a class; the message names the first five.
        """
        index = {name: number for number, name in enumerate(self.names)}
        unknown = [label for label in dict.fromkeys(labels) if label not in index]
        if unknown:
            raise DataError(f"not in this charset: {', '.join(map(repr, unknown[:5]))}")
        return np.array([index[label] for label in labels], dtype=np.int64)

    def confusable_classes(self) -> NDArray[np.int64]:
        """Map each class to the first class of similar form, shape (C,)."""
        group = {name: letters for letters in CONFUSABLE for name in letters}
        return self._first(group.get(name, name) for name in self.names)

    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Return masks of the single `digits`, `upper` and `lower` letters, each shape (C,).

        A group without a class, or with all classes, is left out.
        """
        kinds = {"digits": str.isdecimal, "upper": str.isupper, "lower": str.islower}
        masks = {
            group: np.array([len(name) == 1 and belongs(name) for name in self.names])
            for group, belongs in kinds.items()
        }
        return {group: mask for group, mask in masks.items() if mask.any() and not mask.all()}

    def case_insensitive_classes(self) -> NDArray[np.int64]:
        """Map each class to the first class that differs in case only, shape (C,)."""
        return self._first(name.casefold() for name in self.names)

    def emnist_bymerge_classes(self) -> NDArray[np.int64]:
        """Join both cases of the letters that EMNIST ByMerge joins: 62 classes become 47."""
        return self._first(n.lower() if n.lower() in BYMERGE_LETTERS else n for n in self.names)

    def _first(self, keys: Iterable[str]) -> NDArray[np.int64]:
        """Map each class to the first one with the same key."""
        first: dict[str, int] = {}
        return np.array([first.setdefault(key, index) for index, key in enumerate(keys)])
