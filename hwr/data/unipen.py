"""UNIPEN (I. Guyon et al., ICPR 1994): pen trajectories of single characters by many people.

Its files are read as they were published. `data/1a`, `1b` and `1c` hold labels of digits, upper and
lower case; they name files in `include/`, which hold the points of the pen.
"""

import hashlib
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache as memoize
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d

from hwr.data.cache import cached, digest, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.data.synthetic import CAPITAL, CHARACTERS, SIZE, trace, usual_sizes
from hwr.errors import DataError
from hwr.files import expand_user
from hwr.preprocessing.preprocessor import Preprocessor

CATEGORIES = ("1a", "1b", "1c")
"""Folders of digits, upper case and lower case."""
SHARED_IDENTIFIERS = {"val", "apb"}
"""Sources in which one identifier stands for many people."""
WHOLE_PIXELS = {"apa", "app"}
"""Sources whose points are whole pixels of a screen, so that lines are drawn smoothed."""
STROKE_WIDTH = 58
"""Pixels, as in most images of the real dataset."""
STEP = 8
"""Pixels between the points of a drawn line; more points would change nothing but the time."""
SEGMENT = re.compile(r'^\.SEGMENT\s+CHARACTER\s+(\S+)\s+\S+\s+"(.+)"\s*$')

Points = NDArray[np.float64]
Components = list[tuple[bool, Points]]
"""Each: whether the pen is down, and its points (K, 2), y upwards."""


class Character(NamedTuple):
    """A labeled character.

    Attributes:
        file: Name of the sample: `1b/aga/greghunt/0012`, the last part is its number in the file.
        label: One of 62 characters.
        hand: The file of the points, which one person wrote.
        writer: Source and identifier; the source alone where people share identifiers.
        strokes: Arrays (K, 2), y upwards, in units of the source.
    """

    file: str
    label: str
    hand: str
    writer: str
    strokes: list[Points]


class UnipenDataset(CharacterDataset):
    """Characters of UNIPEN, drawn as a pen tablet draws them: black on white.

    Sizes are relative to the other characters in a file, and each file is brought to the size
    that a writer of the real dataset may have. Places are drawn at random, since the boxes of the
    sources can't be compared.

    Args:
        name: What the dataset is called in metrics.
        root: The unpacked folder `train_r01_v07`, or a tar archive of it.
        seed: Seed of sizes and places.
        preprocessing: `notebook` or `ink`.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1, or 3: the gray image three times.
        cache: Folder of drawn images; None: `HWR_CACHE`, else `~/.cache/hwr`.
        statistics: What the training images of a model look like (`ImageStatistics`), plain
            values; images are brought to that, as for inference. None: taken as they come.

    Raises:
        DataError: The folder is missing or broken.
    """

    def __init__(
        self,
        name: str = "unipen",
        root: str | Path = "data/unipen",
        seed: int = 0,
        preprocessing: str = "notebook",
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        cache: str | None = None,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        preprocessor = Preprocessor.of(preprocessing, height, width, 1, statistics)
        characters = read_characters(expand_user(root))
        hands: dict[str, list[int]] = defaultdict(list)
        for row, character in enumerate(characters):
            hands[character.hand].append(row)

        def draw(hand: str) -> NDArray[np.uint8]:
            images = draw_hand([characters[row] for row in hands[hand]], seed)
            return np.stack([preprocessor(image, "auto") for image in images])

        def draw_all() -> NDArray[np.uint8]:
            arrays = np.empty((len(characters), 1, height, width), np.uint8)
            drawn = in_threads(draw, list(hands), "drawing", "file")
            for rows, images in zip(hands.values(), drawn, strict=True):
                arrays[rows, 0] = images
            return arrays

        key = [
            _fingerprint(characters),
            seed,
            digest(Path(__file__)),
            preprocessing,
            height,
            width,
            statistics,
        ]
        gray = torch.from_numpy(cached(cache, key, draw_all))
        super().__init__(
            name,
            gray.expand(-1, channels, -1, -1),
            [character.label for character in characters],
            files=[character.file for character in characters],
            writers=[character.writer for character in characters],
            preprocessing=preprocessing,
        )

    def file_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return width and height of the drawn images, shape (N, 2)."""
        return np.tile(SIZE, (len(rows), 1))


def _fingerprint(characters: list[Character]) -> str:
    """Return the SHA-256 of names, labels and strokes."""
    content = hashlib.sha256()
    for character in characters:
        content.update(f"{character.file} {character.label}".encode())
        for stroke in character.strokes:
            content.update(stroke.tobytes())
    return content.hexdigest()


def read_characters(root: Path) -> list[Character]:
    """Read all characters of 62 classes, in the order of their names.

    Args:
        root: The unpacked folder `train_r01_v07`, a folder that holds it, or a tar archive.

    Raises:
        DataError: There are no labels, a file that they name is missing, or a segment is wrong.
    """
    names, read = _open_archive(root) if root.is_file() else _open_folder(root)
    labels = sorted(x for x in names if x.startswith(tuple(f"data/{c}/" for c in CATEGORIES)))
    if not labels:
        raise DataError(f"{root} is not UNIPEN: it must hold train_r01_v07/data/1a, 1b and 1c")

    @memoize
    def components(paths: tuple[str, ...]) -> tuple[str, Components]:
        texts = []
        for path in paths:
            if path not in names:
                raise DataError(f"{root}: {path} is missing, which label files name")
            texts.append(read(path))
        text = "\n".join(texts)
        identifier = re.search(r"^\.WRITER_ID[ \t]+(\S+)", text, re.MULTILINE)
        return identifier[1] if identifier else paths[-1], list(_components(text))

    characters = []
    for path in labels:
        included, segments = _parse_labels(read(path))
        identifier, parts = components(included)
        source = PurePosixPath(path).parts[2]
        writer = source if source in SHARED_IDENTIFIERS else f"{source}/{identifier}"
        sample = path.removeprefix("data/").removesuffix(".dat")
        for number, (delineation, label) in enumerate(segments):
            if label not in CHARACTERS:
                continue
            try:
                strokes = _segment(parts, delineation)
            except (IndexError, ValueError) as error:
                raise DataError(f"{root}/{path}: wrong segment {delineation}") from error
            file = f"{sample}/{number:04d}"
            characters.append(Character(file, label, included[-1], writer, strokes))
    return characters


def _open_folder(root: Path) -> tuple[set[str], Callable[[str], str]]:
    """List the files of the unpacked distribution, and return a function that reads one."""
    inner = root / "train_r01_v07"
    root = inner if inner.is_dir() else root
    files = {str(PurePosixPath(x.relative_to(root))) for x in root.rglob("*") if x.is_file()}
    return files, lambda name: (root / name).read_text("latin-1")


def _open_archive(file: Path) -> tuple[set[str], Callable[[str], str]]:
    """Read a tar archive once, and return its file names and a function that reads one."""
    texts = {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile() and (stream := archive.extractfile(member)):
                    name = member.name.removeprefix("./").removeprefix("train_r01_v07/")
                    texts[name] = stream.read().decode("latin-1")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{file} is not a whole tar archive ({error})") from error
    return set(texts), texts.__getitem__


def _parse_labels(text: str) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return the included files, and delineation and label of each segment."""
    included, segments = [], []
    for line in text.splitlines():
        if line.startswith(".INCLUDE"):
            included.append(f"include/{line.split()[1]}")
        elif match := SEGMENT.match(line):
            segments.append((match[1], match[2]))
    return tuple(included), segments


def _components(text: str) -> Iterator[tuple[bool, Points]]:
    """Read the blocks of points; blocks without points have no number."""
    # A block is a keyword at the start of a line, and all up to the next keyword.
    for keyword, body in re.findall(r"^\.([A-Z_]+)([^\n]*(?:\n(?!\.)[^\n]*)*)", text, re.MULTILINE):
        if keyword in ("PEN_DOWN", "PEN_UP"):
            rows = [line for line in body.splitlines() if line.strip()]
            if rows:
                numbers = np.array(" ".join(rows).split(), np.float64)
                yield keyword == "PEN_DOWN", numbers.reshape(len(rows), -1)[:, :2]


def _segment(components: Components, delineation: str) -> list[Points]:
    """Return the pen-down strokes of a delineation such as `13-15` or `9:0-11:5,14`."""
    strokes = []
    for part in delineation.split(","):
        start, _, end = part.partition("-")
        first, _, first_point = start.partition(":")
        last, _, last_point = (end or start).partition(":")
        for number in range(int(first), int(last) + 1):
            down, points = components[number]
            begin = int(first_point) if first_point and number == int(first) else 0
            stop = int(last_point) + 1 if last_point and number == int(last) else len(points)
            if down and len(points[begin:stop]):
                strokes.append(points[begin:stop])
    if not strokes:
        raise ValueError("nothing is written")
    return strokes


def draw_hand(characters: list[Character], seed: int) -> Iterator[Image.Image]:
    """Draw the characters of one file, one after the other: mode L, 1200 x 900, black on white.

    Args:
        characters: Of one hand.
        seed: Seed of the size of the hand and of the places.
    """
    random = np.random.default_rng([seed, *characters[0].hand.encode()])
    size = float(np.clip(random.normal(), -2.2, 2))
    capital = 425 * float(np.exp(0.2 * size))  # pixels, as of writers of the synthetic dataset
    center = np.array([585 + 40 * float(np.clip(random.standard_t(3), -5, 5)), 466 + 13 * size])
    usual = usual_sizes()
    units = [
        max(np.ptp(np.concatenate(c.strokes), axis=0).max(), 1e-6) / usual[c.label] * CAPITAL
        for c in characters
    ]
    scale = capital / float(np.median(units))
    for character in characters:
        yield _draw(character, scale, center + random.normal(0, (36, 27)), capital)


def _draw(character: Character, scale: float, center: Points, capital: float) -> Image.Image:
    """Draw a character in the middle of the image, at most as large as fits."""
    strokes = character.strokes
    if character.file.split("/")[1] in WHOLE_PIXELS:
        strokes = [gaussian_filter1d(s, 1.0, axis=0, mode="nearest") for s in strokes]
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array(SIZE) - STROKE_WIDTH - 8
    largest = np.minimum(room, 2 * capital)  # a wrong segment may span the whole page
    scale = min(scale, *(largest / np.maximum(high - low, 1e-6)))
    half = (high - low) * scale / 2 + STROKE_WIDTH / 2 + 2
    center = np.clip(center, half, np.array(SIZE) - half)
    image = Image.new("L", SIZE, 255)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        trace(pen, _thin_out((stroke - (low + high) / 2) * (scale, -scale) + center), STROKE_WIDTH)
    return image


def _thin_out(points: Points) -> Points:
    """Leave one point of each `STEP` along a line, and the last one."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    kept = np.unique(along // STEP, return_index=True)[1]
    thinned: Points = points[np.append(kept, len(points) - 1)]
    return thinned
