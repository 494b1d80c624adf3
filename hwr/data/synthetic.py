"""Draw images of synthetic writers, so that everything runs without a dataset.

A writer has their own shape of every character, slant, size, place, stroke width and tremor, which
hold over all characters; every image varies a little more. The spreads are those of writers 1 to 44
of the real dataset.
"""

import string
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from hwr.data.cache import cached, digest, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.preprocessing.preprocessor import Preprocessor

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIZE = (1200, 900)
"""Width and height of an image, in pixels."""
LETTERS = Path(__file__).with_name("letters.txt")
CAPITAL = 20
"""Height of a capital letter in `letters.txt`, whose unit is the unit of all lengths in strokes."""

Points = NDArray[np.float64]
Stroke = tuple[Points, ...]
"""Sections of a line between its corners: each a smooth curve through points (K, 2)."""


class SyntheticDataset(CharacterDataset):
    """Images of synthetic writers, each of whom draws every character once.

    Args:
        name: What the dataset is called in metrics.
        writers: How many there are, 1 to 999.
        seed: Seed of the drawing.
        preprocessing: `notebook` or `ink`.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1, or 3: the gray image three times.
        cache: Folder of drawn images; None: `HWR_CACHE`, else `~/.cache/hwr`.
        statistics: What the training images of a model look like (`ImageStatistics`), plain
            values; images are brought to that, as for inference. None: taken as they come.
    """

    def __init__(
        self,
        name: str = "synthetic",
        writers: int = 55,
        seed: int = 0,
        preprocessing: str = "notebook",
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        cache: str | None = None,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        preprocessor = Preprocessor.of(preprocessing, height, width, 1, statistics)

        def draw(writer: int) -> NDArray[np.uint8]:
            return np.stack([preprocessor(image, "auto") for image in draw_images(writer, seed)])

        def draw_all() -> NDArray[np.uint8]:
            by_writer = in_threads(draw, range(1, writers + 1), "drawing", "writer")
            return np.stack(by_writer, axis=1).reshape(-1, 1, height, width)

        drawing = [writers, seed, digest(Path(__file__)), digest(LETTERS)]
        key = [*drawing, preprocessing, height, width, statistics]
        gray = torch.from_numpy(cached(cache, key, draw_all))
        files, labels, numbers = zip(*list_samples(writers), strict=True)
        super().__init__(
            name,
            gray.expand(-1, channels, -1, -1),
            labels,
            files=files,
            writers=numbers,
            preprocessing=preprocessing,
        )

    def file_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return width and height of the drawn images, shape (N, 2)."""
        return np.tile(SIZE, (len(rows), 1))


def list_samples(writers: int) -> list[tuple[str, str, int]]:
    """List file name, label and writer of each image by character, as the real dataset does."""
    return [
        (f"Img/img{number:03d}-{writer:03d}.png", character, writer)
        for number, character in enumerate(CHARACTERS, start=1)
        for writer in range(1, writers + 1)
    ]


class Form(NamedTuple):
    """A way to write a character: how common it is, whether in joined-up writing, and its lines."""

    weight: float
    joined: bool
    strokes: tuple[Stroke, ...]


class Writer:
    """Parameters that the characters of one writer share.

    Args:
        random: Draws them.
    """

    def __init__(self, random: np.random.Generator) -> None:
        size = float(np.clip(random.normal(), -2.2, 2))
        self.joined = random.beta(2, 2.5)  # share of small letters in joined-up writing
        self.slant = random.normal(0.08, 0.1)  # shift to the right per unit of height
        self.height = 425 * float(np.exp(0.2 * size))  # of a capital letter, in pixels
        self.small = float(np.exp(random.normal(0, 0.08)))  # size of small letters over usual
        self.aspect = float(np.exp(random.normal(0, 0.1)))  # width over the usual width
        # Pixels from the left and from the top to the middles of characters
        self.center = 585 + 40 * float(np.clip(random.standard_t(3), -5, 5))
        self.middle = random.normal(466 + 13 * size, 22)
        # Characters stand on a line (1), or are put in the middle each (0).
        self.baseline = float(np.clip(random.normal(0.33, 0.2), 0, 1))
        self.pen = 58 * (random.uniform(1.25, 1.5) if random.random() < 0.05 else 1)  # pixels
        # Standard deviations, in units, of the points of a stroke and of the line
        self.jitter = 0.5 * float(np.exp(random.normal(0, 0.3)))
        self.tremor = 0.25 * float(np.exp(random.normal(0, 0.3)))


def draw_images(writer: int, seed: int) -> list[Image.Image]:
    """Draw the 62 images of a writer: mode L, 1200 x 900, black on white, in label order.

    Args:
        writer: Number of the writer, from 1.
        seed: Seed of the drawing; a writer's images don't depend on the number of writers.
    """
    random = np.random.default_rng([seed, writer])
    parameters = Writer(random)
    return [_draw_image(character, parameters, random) for character in CHARACTERS]


def _draw_image(character: str, writer: Writer, random: np.random.Generator) -> Image.Image:
    forms = _forms()[character]
    weights = np.array(
        [f.weight * (writer.joined if f.joined else 1 - writer.joined) for f in forms]
    )
    form = forms[random.choice(len(forms), p=weights / weights.sum())]
    lines = _vary(form.strokes, writer, random)
    unit = writer.height / CAPITAL * float(np.exp(random.normal(0, 0.1)))
    if character.islower():
        unit *= writer.small
    aspect = writer.aspect * float(np.exp(random.normal(0, 0.12)))
    slant, turn = writer.slant + random.normal(0, 0.05), random.normal(0, 0.04)
    matrix = np.array([[1, -turn], [turn, 1]]) @ np.array([[aspect, -slant], [0, 1]])
    lines = [line @ matrix.T for line in lines]
    points = np.concatenate(lines)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    place = np.array([writer.center, writer.middle]) + random.normal(0, (36, 27))
    place[1] += writer.baseline * (middle[1] - CAPITAL / 2) * unit
    image = Image.new("L", SIZE, 255)
    pen = ImageDraw.Draw(image)
    for line in lines:
        trace(pen, (line - middle) * unit + place, writer.pen)
    if random.random() < 0.01:  # the pen touched the tablet elsewhere, as in the real set
        trace(pen, np.array([[random.uniform(800, 1000), random.uniform(60, 300)]]), writer.pen)
    return image


def _vary(strokes: tuple[Stroke, ...], writer: Writer, random: np.random.Generator) -> list[Points]:
    """Vary the strokes at random; return lines with a point about every unit, arrays (K, 2)."""
    bow = random.normal(0, 0.4, (2, 3))
    lines = []
    for stroke in strokes:
        shift = random.normal(0, 0.4, 2)
        sections: list[Points] = []
        corner = None
        for points in stroke:
            moved = points + random.normal(0, writer.jitter, points.shape) + shift
            if corner is not None:
                moved[0] = corner
            corner = moved[-1]
            sections.append(_curve(moved))
        line = _overshoot(np.concatenate(sections), random.normal(0.2, 0.6, 2))
        u, v = line[:, 0] / 7 - 1, line[:, 1] / 10 - 1
        line = line + np.stack([u * u, u * v, v * v], axis=1) @ bow.T
        noise = gaussian_filter1d(random.normal(0, 1, line.shape), 4, axis=0, mode="nearest")
        lines.append(line + 3.8 * writer.tremor * noise)  # 3.8: what the filter takes away
    return lines


def _curve(points: Points) -> Points:
    """Interpolate a smooth curve through the points."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T) + 1e-6)])
    dense = np.linspace(0, along[-1], int(along[-1]) + 2)
    if len(points) == 2:
        return np.stack([np.interp(dense, along, axis) for axis in points.T], axis=1)
    return np.asarray(CubicSpline(along, points, bc_type="natural")(dense))


def _overshoot(line: Points, lengths: Points) -> Points:
    """Make both ends of a line longer, or shorter, by so many units; dots stay as they are."""
    if len(line) < 6:
        return line
    for length in lengths:
        step = line[0] - line[1]
        if length > 0:
            line = np.concatenate([[line[0] + step * length / max(np.hypot(*step), 0.1)], line])
        else:
            line = line[round(-length) :]
        line = line[::-1]
    return line


def usual_sizes() -> dict[str, float]:
    """Return the larger of width and height of each character, where a capital letter has 20."""
    sizes: dict[str, float] = {}
    for character, forms in _forms().items():
        extents, weights = [], []
        for form in forms:
            points = np.concatenate([section for stroke in form.strokes for section in stroke])
            extents.append(np.ptp(points, axis=0).max())
            weights.append(form.weight)
        sizes[character] = float(np.average(extents, weights=weights))
    return sizes


def trace(pen: ImageDraw.ImageDraw, points: Points, width: float) -> None:
    """Draw a line with round ends and joints that stays inside the image."""
    margin = width / 2 + 2
    points = np.clip(points, margin, np.array(SIZE) - margin)
    pen.line([(x, y) for x, y in points], fill=0, width=round(width))
    for x, y in points:
        pen.circle((x, y), width / 2, fill=0)


@cache
def _forms() -> dict[str, list[Form]]:
    """Read the ways to write each character."""
    forms: dict[str, list[Form]] = {character: [] for character in CHARACTERS}
    for line in LETTERS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            character, weight, strokes = line.split(" ", 2)
            joined = weight.endswith("c")
            lines = tuple(_stroke(stroke) for stroke in strokes.split(" / "))
            forms[character].append(Form(float(weight.rstrip("c")), joined, lines))
    return forms


def _stroke(text: str) -> Stroke:
    """Read a stroke; a section begins where the one before it ended."""
    sections: list[Points] = []
    for part in text.split("! "):
        points = np.array([point.rstrip("!").split(",") for point in part.split()], float)
        sections.append(np.concatenate([sections[-1][-1:], points]) if sections else points)
    return tuple(sections)
