"""A data set as arrays in memory: read from its files or drawn, once, and then from the cache."""

import hashlib
import math
import os
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hwr import emnist, images, paper, synthetic, table
from hwr.alphabet import Alphabet
from hwr.errors import DataError
from hwr.files import whole
from hwr.schema import DataConfig, EmnistConfig, FolderConfig, SyntheticConfig

Image = NDArray[np.uint8]
Loaded = tuple[tuple[str, ...], tuple[str, ...], Sequence[str] | None, Image, float, str]
"""Files, labels, writers, arrays, aspect of the pictures, fingerprint."""
AHEAD = 64
"""Parts of the work that threads are given before the first is waited for."""
HEADS = 4096
"""Bytes that a cache file may have besides its pixels."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Characters:
    """A data set in memory.

    Attributes:
        files: Name of each picture, N of them, in the one order that splits are drawn in.
        image: Grey arrays, shape (N, H, W), 0 black to 255 white.
        label: Class indices, shape (N,).
        writer: Who drew each picture, numbers shape (N,); None where nothing says so.
        alphabet: The classes.
        aspect: Width over height of what the arrays show, the median.
        fingerprint: SHA-256 of names, labels and pictures, 64 hexadecimal digits.
    """

    files: tuple[str, ...]
    image: Image
    label: NDArray[np.int64]
    writer: NDArray[np.int64] | None
    alphabet: Alphabet
    aspect: float
    fingerprint: str


def load(config: DataConfig) -> Characters:
    """The data set that the settings name.

    Raises:
        DataError: It is missing or broken; every wrong row is named.
    """
    match config:
        case FolderConfig() | SyntheticConfig():
            files, labels, writers, image, aspect, fingerprint = _once(config)
        case EmnistConfig():
            files, labels, writers, image, aspect, fingerprint = emnist.read(config)
        case _:
            raise TypeError(f"no reader for {type(config).__name__}")
    alphabet = Alphabet.of(labels)
    if len(alphabet) < 2:
        raise DataError(f"data={config.name} has one class only, {labels[0]!r}; it takes two")
    return Characters(
        files=files,
        image=image,
        label=alphabet.encode(labels),
        writer=None if writers is None else _numbers(writers),
        alphabet=alphabet,
        aspect=aspect if config.preprocessing == "notebook" else config.width / config.height,
        fingerprint=fingerprint,
    )


@dataclass(frozen=True)
class _Kept:
    """A data set that was loaded: the jobs of a multirun share it.

    Attributes:
        key: The settings that it depends on.
        stamps: Of all its files and their folders.
        loaded: The set.
    """

    key: object
    stamps: dict[Path, tuple[int, int, int]]
    loaded: Loaded


_kept: list[_Kept] = []
"""The two last ones: a real set, and what the pen adds to it."""


def _once(config: FolderConfig | SyntheticConfig) -> Loaded:
    """The data set, from memory if it is there and none of its files was touched since."""
    apart = ("name", "batch_size", "cache")
    key = [(type(config), name, value) for name, value in vars(config).items() if name not in apart]
    for kept in _kept:
        if kept.key == key and _stamps(kept.stamps) == kept.stamps:
            return kept.loaded
    del _kept[:-1]  # before the next one takes its place in memory
    stamps = {}
    if isinstance(config, FolderConfig):
        rows = table.read(config)
        folders = {parent for path in rows.paths for parent in (path.parent, path.parent.parent)}
        stamps = _stamps([rows.source, *rows.paths, *folders])
        loaded = _read(config, rows)
    else:
        loaded = _draw(config)
    _kept.append(_Kept(key, stamps, loaded))
    return loaded


def _stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    """Size, time of change and node of each file: what a touched one differs in."""
    found = {path: os.stat(path) if os.path.exists(path) else None for path in paths}
    return {
        path: (stat.st_size, stat.st_mtime_ns, stat.st_ino) if stat else (0, 0, 0)
        for path, stat in found.items()
    }


def _read(config: FolderConfig, rows: table.Table) -> Loaded:
    # The key is made of what the files hold, so that no change of a picture goes unnoticed.
    contents = in_threads(_digest, rows.paths, "checking", "picture", at_once=16)
    fingerprint = _hash(zip(rows.files, rows.labels, contents, strict=True))
    height, width = config.height, config.width

    def decode(row: int) -> Image | str:
        if rows.paths[row].stat().st_size == 0:
            return f"{rows.files[row]} has zero bytes"
        try:
            with rows.paths[row].open("rb") as file:
                return images.read(file, config.preprocessing, height, width, config.max_pixels)
        except Exception as error:  # Pillow raises many kinds for files that are no pictures
            return f"{rows.files[row]} cannot be read as a picture ({images.why(error)})"

    def decode_all() -> tuple[Image, float]:
        image = np.empty((len(rows.files), height, width), np.uint8)
        wrong: list[tuple[int, str]] = []
        numbers = range(len(rows.files))
        for row, result in enumerate(in_threads(decode, numbers, "decoding", "picture")):
            if isinstance(result, str):
                wrong.append((rows.rows[row], result))
            else:
                image[row] = result
        table.complain(rows.source, [*rows.wrong, *wrong])
        some = rows.paths[:: -(-len(rows.paths) // 12)]
        return image, statistics.median(images.aspect(path) for path in some)

    if rows.wrong:
        decode_all()  # so that broken pictures are named together with the wrong rows
    if extra := table.unlisted(rows):
        count = "1 picture" if len(extra) == 1 else f"{len(extra):,} pictures"
        said = f"hwr: {config.root} holds {count} that no row of {rows.source.name} names"
        print(said, file=sys.stderr)
    key = _hash([fingerprint, config.preprocessing, height, width, *_how()])
    image, aspect = _cached(config.cache, key, (len(rows.files), height, width), decode_all)
    return rows.files, rows.labels, rows.writers, image, aspect, fingerprint


def _draw(config: SyntheticConfig) -> Loaded:
    files, labels = synthetic.table(config.writers)
    height, width = config.height, config.width
    prepare = images.PREPARE[config.preprocessing]

    def draw(writer: int) -> Image:
        pictures = synthetic.pictures(writer, config.seed)
        return np.stack([prepare(picture, height, width) for picture in pictures])

    def draw_all() -> tuple[Image, float]:
        writers = range(1, config.writers + 1)
        drawn = np.stack(list(in_threads(draw, writers, "drawing", "writer")), axis=1)
        return drawn.reshape(-1, height, width), synthetic.SIZE[0] / synthetic.SIZE[1]

    sources = [_source(synthetic), _digest(synthetic.LETTERS), *_how()]
    key = _hash([config.writers, config.seed, config.preprocessing, height, width, *sources])
    image, aspect = _cached(config.cache, key, (len(files), height, width), draw_all)
    fingerprint = _hash([*files, *labels, hashlib.sha256(image.data).hexdigest()])
    return files, labels, table.writers_of(files), image, aspect, fingerprint


def _numbers(writers: Sequence[str]) -> NDArray[np.int64]:
    """The writers' own numbers; where some have names instead, or longer ones, by order."""
    if all(writer.isdecimal() and len(writer) <= 18 for writer in writers):  # int64 holds these
        return np.array([int(writer) for writer in writers], dtype=np.int64)
    places = {name: place for place, name in enumerate(sorted(set(writers)))}
    return np.array([places[writer] for writer in writers], dtype=np.int64)


def _cached(
    cache: str, key: str, shape: tuple[int, ...], make: Callable[[], tuple[Image, float]]
) -> tuple[Image, float]:
    """Arrays and aspect from the cache if they are there and whole, else made and put there.

    Several processes may make it at once: each writes a file of its own, and the last stays.
    """
    name = f"{key[:32]}.npz"
    try:
        path = Path(cache).expanduser() / name
        # Ours are as large as what is in them: others may be pipes, or unpack to any length.
        if not path.is_file() or path.stat().st_size > math.prod(shape) + HEADS:
            raise ValueError("none of ours")
        with path.open("rb") as stream, np.load(stream) as stored:
            if any(member.compress_type != ZIP_STORED for member in stored.zip.infolist()):
                raise ValueError("none of ours")
            image, aspect = stored["image"], float(stored["aspect"])
            sound = stored.zip.testzip() is None  # NumPy checks no byte that it doesn't need
        if sound and image.shape == shape and image.dtype == np.uint8:
            return image, aspect
    except Exception:  # absent, or damaged: zipfile and NumPy raise many kinds
        pass
    image, aspect = make()
    try:
        # NumPy's own savez leaves an archive open, which complains later, where the disk is full.
        with (
            whole(Path(cache).expanduser() / name) as beside,
            ZipFile(beside, "w") as archive,
        ):
            for member, array in (("image", image), ("aspect", np.array(aspect))):
                with archive.open(f"{member}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
    # DataError: something else lies in its place. RuntimeError: ~ where nobody has a home.
    except (DataError, OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        print(f"hwr: going on without a cache: {why}: {cache}", file=sys.stderr)
    return image, aspect


def in_threads(
    work: Callable[[T], R], items: Sequence[T], doing: str, unit: str, at_once: int = 1
) -> Iterator[R]:
    """The results in order, from all processor cores; Pillow and hashing release the lock.

    A bar appears where standard error is a terminal and the work takes over half a second.

    Args:
        work: Turns an item into a result.
        items: What there is to do.
        doing: What the bar says.
        unit: What it counts.
        at_once: Items that a thread takes, more than one where handing over takes longer than work.
    """
    with ThreadPoolExecutor(_cores()) as pool:

        def done() -> Iterator[R]:
            waiting: deque[Future[list[R]]] = deque()
            for start in range(0, len(items), at_once):
                part = items[start : start + at_once]
                waiting.append(pool.submit(lambda part: [work(item) for item in part], part))
                if len(waiting) > AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

        results = done()
        try:
            if sys.stderr.isatty():
                results = iter(tqdm(results, total=len(items), desc=doing, unit=unit, delay=0.5))
            yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _how() -> tuple[str, str]:
    """What the preprocessings depend on."""
    return _source(images), _source(paper)


def _source(module: object) -> str:
    """Digest of a module's source: what it made before a change of it is made anew."""
    return _digest(Path(str(getattr(module, "__file__", ""))))


def _hash(parts: Iterable[object]) -> str:
    """Of what `repr` says of a list of these, which is never held as a whole."""
    found = hashlib.sha256(b"[")
    for number, part in enumerate(parts):
        found.update(f"{', ' if number else ''}{part!r}".encode())
    found.update(b"]")
    return found.hexdigest()
