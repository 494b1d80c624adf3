"""The classes of a data set: which characters there are, their order, and which fold together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.errors import DataError

LOOKALIKES = ("0Oo", "1Iil", "2Zz", "5Ss", "9gq", "Cc", "Kk", "Pp", "Uu", "Vv", "Ww", "Xx", "Yy")
"""Characters whose form alone hardly tells them apart; size and place may."""
MERGED = frozenset("cijklmopsuvwxyz")
"""Letters whose cases EMNIST ByMerge takes for one (G. Cohen, 2017)."""


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
        """The distinct labels in the order that scikit-learn's LabelEncoder gives them."""
        return cls(tuple(sorted(set(labels))))

    def encode(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Class indices of the labels, shape (N,).

        Raises:
            DataError: A label is no class; the message names the first five.
        """
        index = {name: number for number, name in enumerate(self.names)}
        unknown = [label for label in dict.fromkeys(labels) if label not in index]
        if unknown:
            raise DataError(f"no class of this charset: {', '.join(map(repr, unknown[:5]))}")
        return np.array([index[label] for label in labels], dtype=np.int64)

    def lookalike(self) -> NDArray[np.int64]:
        """For each class the first class that can hardly be told from it by form, shape (C,)."""
        group = {name: letters for letters in LOOKALIKES for name in letters}
        return self._first(group.get(name, name) for name in self.names)

    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Which classes are single `digits`, `upper` and `lower` letters, each shape (C,).

        A group that no class or every class belongs to says nothing and is left out.
        """
        kinds = {"digits": str.isdecimal, "upper": str.isupper, "lower": str.islower}
        found = {
            group: np.array([len(name) == 1 and belongs(name) for name in self.names])
            for group, belongs in kinds.items()
        }
        return {group: mask for group, mask in found.items() if mask.any() and not mask.all()}

    def fold(self) -> NDArray[np.int64]:
        """For each class the first class that differs from it in case only, shape (C,)."""
        return self._first(name.casefold() for name in self.names)

    def bymerge(self) -> NDArray[np.int64]:
        """Likewise, of the letters only whose cases EMNIST ByMerge joins: 62 become 47."""
        return self._first(n.lower() if n.lower() in MERGED else n for n in self.names)

    def _first(self, keys: Iterable[str]) -> NDArray[np.int64]:
        """For each class the first one with the same key."""
        first: dict[str, int] = {}
        return np.array([first.setdefault(key, index) for index, key in enumerate(keys)])
