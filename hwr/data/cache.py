"""Cache preprocessed images on disk, under keys made of what they depend on."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hwr import preprocessing
from hwr.errors import DataError
from hwr.files import atomic_write, expand_user

T = TypeVar("T")
R = TypeVar("R")


def cached(
    folder: str | None, key: Iterable[object], make: Callable[[], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Load an array from the cache, or make it and store it.

    Args:
        folder: The cache; None: `HWR_CACHE`, else `~/.cache/hwr`.
        key: All that the array depends on; the source code of hwr.preprocessing is added.
        make: Computes the array.
    """
    source = sorted(Path(str(preprocessing.__file__)).parent.glob("*.py"))
    name = hash_of([*key, *map(digest, source)])[:32]
    path = expand_user(folder or os.environ.get("HWR_CACHE", "~/.cache/hwr")) / f"{name}.npz"
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            array: NDArray[np.uint8] = stored["image"]
            return array
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):  # absent or damaged
        array = make()
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, image=array)
    except (OSError, DataError) as error:
        print(f"hwr: no cache in {path.parent}, going on without: {error}", file=sys.stderr)
    return array


def in_threads(
    function: Callable[[T], R], items: Sequence[T], description: str, unit: str, chunk: int = 1
) -> list[R]:
    """Apply a function to all items in threads; Pillow and hashing release the lock.

    Args:
        function: Turns an item into a result.
        items: Its arguments.
        description: Label of the progress bar, which a terminal shows after half a second.
        unit: What the bar counts.
        chunk: Items that a thread takes at a time; more where the function is fast.
    """
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    bar = tqdm(total=len(items), desc=description, unit=unit, delay=0.5, disable=None)
    results: list[R] = []
    with ThreadPoolExecutor() as pool, bar:
        for part in pool.map(lambda part: [function(item) for item in part], chunks):
            results += part
            bar.update(len(part))
    return results


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_of(parts: Iterable[object]) -> str:
    """Return the SHA-256 of `repr(list(parts))`."""
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()
