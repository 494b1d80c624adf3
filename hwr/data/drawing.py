"""Draw images of synthetic writers, so that everything runs without a dataset.

A writer has their own shape of every character, slant, size, place, stroke width and tremor, which
hold over all characters; every image varies a little more. The spreads are those of writers 1 to 44
of the real dataset. Nothing here imports torch.
"""

import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIZE = (1200, 900)
"""Width and height of an image, in pixels."""
LETTERS = Path(__file__).with_name("letters.txt")
CAPITAL = 20
"""Height of a capital letter in `letters.txt`, whose unit is the unit of all lengths in strokes."""

Points = NDArray[np.float64]
Stroke = tuple[Points, ...]
"""Sections of a line between its corners: each a smooth curve through points (K, 2)."""


@dataclass(frozen=True)
class Form:
    """A way to write a character.

    Attributes:
        weight: How common it is.
        joined: It is of joined-up writing.
        strokes: Its lines.
    """

    weight: float
    joined: bool
    strokes: tuple[Stroke, ...]


@dataclass(frozen=True)
class Writer:
    """Parameters that the characters of one writer share.

    Attributes:
        joined: How much the small letters are those of joined-up writing, 0 to 1.
        slant: Shift to the right per unit of height.
        height: Of a capital letter, in pixels.
        small: Size of small letters over their usual size.
        aspect: Width over the usual width.
        center: Where the middles of characters lie, in pixels from the left.
        middle: Where the middles of capitals lie, in pixels from the top.
        line: How far characters stand on a line (1), or are put in the middle each (0).
        pen: Line width, in pixels.
        jitter: Standard deviation of the points that a stroke passes through, in units.
        tremor: Standard deviation of the line, in units.
    """

    joined: float
    slant: float
    height: float
    small: float
    aspect: float
    center: float
    middle: float
    line: float
    pen: float
    jitter: float
    tremor: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Writer":
        """Draw the parameters of a writer at random."""
        size = float(np.clip(random.normal(), -2.2, 2))
        return cls(
            joined=random.beta(2, 2.5),
            slant=random.normal(0.08, 0.1),
            height=425 * float(np.exp(0.2 * size)),
            small=float(np.exp(random.normal(0, 0.08))),
            aspect=float(np.exp(random.normal(0, 0.1))),
            center=585 + 40 * float(np.clip(random.standard_t(3), -5, 5)),
            middle=random.normal(466 + 13 * size, 22),
            line=float(np.clip(random.normal(0.33, 0.2), 0, 1)),
            pen=58 * (random.uniform(1.25, 1.5) if random.random() < 0.05 else 1),
            jitter=0.5 * float(np.exp(random.normal(0, 0.3))),
            tremor=0.25 * float(np.exp(random.normal(0, 0.3))),
        )


def files_and_labels(writers: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List file names and labels, 62 x `writers` of each, as the real dataset does."""
    rows = [(c, w) for c in range(len(CHARACTERS)) for w in range(1, writers + 1)]
    files = tuple(f"Img/img{c + 1:03d}-{w:03d}.png" for c, w in rows)
    return files, tuple(CHARACTERS[c] for c, _ in rows)


def draw_images(writer: int, seed: int) -> list[Image.Image]:
    """Draw the 62 images of a writer: mode L, 1200 x 900, black on white, in label order.

    Args:
        writer: Number of the writer, from 1.
        seed: Seed of the drawing; a writer's images don't depend on the number of writers.
    """
    random = np.random.default_rng([seed, writer])
    person = Writer.draw(random)
    return [_image(character, person, random) for character in CHARACTERS]


def _image(character: str, person: Writer, random: np.random.Generator) -> Image.Image:
    lines = _lines(_form(character, person, random), person, random)
    unit = person.height / CAPITAL * float(np.exp(random.normal(0, 0.1)))
    if character.islower():
        unit *= person.small
    aspect = person.aspect * float(np.exp(random.normal(0, 0.12)))
    slant, turn = person.slant + random.normal(0, 0.05), random.normal(0, 0.04)
    shape = np.array([[aspect, -slant], [0, 1]])
    turned = np.array([[1, -turn], [turn, 1]]) @ shape
    lines = [line @ turned.T for line in lines]
    every = np.concatenate(lines)
    middle = (every.min(axis=0) + every.max(axis=0)) / 2
    place = np.array([person.center, person.middle]) + random.normal(0, (36, 27))
    place[1] += person.line * (middle[1] - CAPITAL / 2) * unit
    image = Image.new("L", SIZE, 255)
    pen = ImageDraw.Draw(image)
    for line in lines:
        _trace(pen, (line - middle) * unit + place, person.pen)
    if random.random() < 0.01:  # the pen touched the tablet elsewhere, as in the real set
        _trace(pen, np.array([[random.uniform(800, 1000), random.uniform(60, 300)]]), person.pen)
    return image


def _form(character: str, person: Writer, random: np.random.Generator) -> tuple[Stroke, ...]:
    forms = _forms()[character]
    chance = [f.weight * (person.joined if f.joined else 1 - person.joined) for f in forms]
    return forms[random.choice(len(forms), p=np.array(chance) / sum(chance))].strokes


def _lines(
    strokes: tuple[Stroke, ...], person: Writer, random: np.random.Generator
) -> list[Points]:
    """Vary the strokes at random; return lines with a point about every unit, arrays (K, 2)."""
    bow = random.normal(0, 0.4, (2, 3))
    lines = []
    for stroke in strokes:
        shift = random.normal(0, 0.4, 2)
        corner = None
        sections = []
        for points in stroke:
            moved = points + random.normal(0, person.jitter, points.shape) + shift
            if corner is not None:
                moved[0] = corner
            corner = moved[-1]
            sections.append(_curve(moved))
        line = _overshoot(np.concatenate(sections), random.normal(0.2, 0.6, 2))
        u, v = line[:, 0] / 7 - 1, line[:, 1] / 10 - 1
        line = line + np.stack([u * u, u * v, v * v], axis=1) @ bow.T
        noise = gaussian_filter1d(random.normal(0, 1, line.shape), 4, axis=0, mode="nearest")
        lines.append(line + 3.8 * person.tremor * noise)  # 3.8: what the filter takes away
    return lines


def _curve(points: Points) -> Points:
    """Interpolate a smooth curve through the points."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T) + 1e-6)])
    dense = np.linspace(0, along[-1], int(along[-1]) + 2)
    if len(points) == 2:
        return np.stack([np.interp(dense, along, axis) for axis in points.T], axis=1)
    return np.asarray(CubicSpline(along, points, bc_type="natural")(dense))


def _overshoot(line: Points, by: Points) -> Points:
    """Make both ends of a line longer, or shorter, by so many units; dots stay as they are."""
    if len(line) < 6:
        return line
    for length in by:
        step = line[0] - line[1]
        if length > 0:
            line = np.concatenate([[line[0] + step * length / max(np.hypot(*step), 0.1)], line])
        else:
            line = line[round(-length) :]
        line = line[::-1]
    return line


def _trace(pen: ImageDraw.ImageDraw, points: Points, width: float) -> None:
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
            form = Form(
                weight=float(weight.rstrip("c")),
                joined=weight.endswith("c"),
                strokes=tuple(_stroke(stroke) for stroke in strokes.split(" / ")),
            )
            forms[character].append(form)
    return forms


def _stroke(text: str) -> Stroke:
    sections = []
    for part in text.split("! "):
        points = [point.rstrip("!").split(",") for point in part.split()]
        sections.append(np.array([(float(x), float(y)) for x, y in points]))
    # A section begins where the one before it ended.
    return tuple(
        np.concatenate([sections[i - 1][-1:], section]) if i else section
        for i, section in enumerate(sections)
    )
