"""Keep decoded images on disk, under keys made of what they were decoded from."""

import hashlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hwr.errors import DataError
from hwr.files import atomic_write
from hwr.preprocessing import background, images

HEAD = 4096
"""Bytes that a cache file may have besides its pixels."""
T = TypeVar("T")
R = TypeVar("R")


def cached(
    folder: str | None,
    key: Iterable[object],
    shape: tuple[int, ...],
    make: Callable[[], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Load an array from the cache, or make it and put it there.

    Several processes may make it at once: each writes a file of its own, and the last one stays.

    Args:
        folder: The cache; None: `HWR_CACHE`, else `~/.cache/hwr`.
        key: All that the array depends on; the preprocessings of hwr are added.
        shape: Of the array.
        make: Computes it.
    """
    folder = folder or os.environ.get("HWR_CACHE", "~/.cache/hwr")
    name = f"{hash_of([*key, source(images), source(background)])[:32]}.npz"
    try:
        path = Path(folder).expanduser() / name
        # Ours are as large as what is in them; others may be pipes, or unpack to any length.
        if not path.is_file() or path.stat().st_size > math.prod(shape) + HEAD:
            raise ValueError("not a cache file")
        with path.open("rb") as stream, np.load(stream) as stored:
            if any(member.compress_type != ZIP_STORED for member in stored.zip.infolist()):
                raise ValueError("not a cache file")
            array: NDArray[np.uint8] = stored["image"]
            intact = stored.zip.testzip() is None  # NumPy itself compares no checksum
        if intact and array.shape == shape and array.dtype == np.uint8:
            return array
    except Exception:  # absent or damaged: zipfile and NumPy raise many kinds
        pass
    array = make()
    try:
        # np.savez leaves its archive open where the disk is full, which warns later.
        with (
            atomic_write(Path(folder).expanduser() / name) as temporary,
            ZipFile(temporary, "w") as archive,
            archive.open("image.npy", "w", force_zip64=True) as file,
        ):
            np.lib.format.write_array(file, array, allow_pickle=False)
    # DataError: something else lies in its place. RuntimeError: ~ where nobody has a home.
    except (DataError, OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        print(f"hwr: going on without a cache: {why}: {folder}", file=sys.stderr)
    return array


def in_threads(
    function: Callable[[T], R], items: Sequence[T], description: str, unit: str, chunk: int = 1
) -> list[R]:
    """Apply a function to all items in threads; Pillow and hashing release the lock.

    Args:
        function: Turns an item into a result.
        items: Its arguments.
        description: What the progress bar says, which appears on a terminal after half a second.
        unit: What the bar counts.
        chunk: Items that a thread takes at a time; more where the function is fast.
    """
    parts = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    results: list[R] = []
    with tqdm(total=len(items), desc=description, unit=unit, delay=0.5, disable=None) as bar:
        pool = ThreadPoolExecutor(cores)
        try:
            for done in pool.map(lambda part: [function(item) for item in part], parts):
                results += done
                bar.update(len(done))
        finally:
            pool.shutdown(cancel_futures=True)  # at Ctrl-C
    return results


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source(module: ModuleType) -> str:
    """Return the SHA-256 of a module's source, a change of which outdates what it made."""
    return digest(Path(str(module.__file__)))


def stamps(paths: Iterable[Path]) -> tuple[tuple[int, int, int], ...]:
    """Return size, time of change and node of each file: some differ where a file was touched."""
    found = (os.stat(path) if os.path.exists(path) else None for path in paths)
    return tuple((s.st_size, s.st_mtime_ns, s.st_ino) if s else (0, 0, 0) for s in found)


def hash_of(parts: Iterable[object]) -> str:
    """Return the SHA-256 of `repr(list(parts))`, which is never held as a whole."""
    total = hashlib.sha256(b"[")
    for number, part in enumerate(parts):
        total.update(f"{', ' if number else ''}{part!r}".encode())
    total.update(b"]")
    return total.hexdigest()
