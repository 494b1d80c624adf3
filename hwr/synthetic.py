"""The built-in pen: draws a data set of the real one's form, so that everything runs without files.

The strokes are the Hershey vectors (A. V. Hershey, 1967, public domain); every writer has a slant,
a size, a place, a pen and a trembling hand of its own, and every character varies a little more.
"""

import string
from dataclasses import dataclass
from functools import cache

import numpy as np
from HersheyFonts import HersheyFonts
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIZE = (1200, 900)
"""Width and height of a picture, in pixels."""

Strokes = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Writer:
    """What the characters of one person share.

    Attributes:
        script: Small letters as in joined-up writing.
        slant: Shift to the right per unit of height.
        height: Of a capital letter, in pixels.
        aspect: Width over the font's width.
        centre: Where the middle of a character lies, in pixels from the left.
        baseline: Pixels from the top.
        pen: Line width in pixels.
        tremor: Standard deviation of the strokes' displacement, in font units (a capital is 21).
    """

    script: bool
    slant: float
    height: float
    aspect: float
    centre: float
    baseline: float
    pen: float
    tremor: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Writer":
        """A person; the spreads are about those of the real set."""
        return cls(
            script=bool(random.random() < 0.2),
            slant=random.normal(0.08, 0.12),
            height=480 * float(np.exp(random.normal(0, 0.18))),
            aspect=float(np.exp(random.normal(0, 0.12))),
            centre=random.normal(585, 55),
            baseline=random.normal(690, 40),
            pen=58 * (1.3 if random.random() < 0.05 else 1) * random.normal(1, 0.05),
            tremor=abs(random.normal(0.8, 0.2)),
        )


def table(writers: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """File names and labels, 62 x `writers` of each, named and ordered as in the real set."""
    rows = [(c, w) for c in range(len(CHARACTERS)) for w in range(1, writers + 1)]
    files = tuple(f"Img/img{c + 1:03d}-{w:03d}.png" for c, w in rows)
    return files, tuple(CHARACTERS[c] for c, _ in rows)


def pictures(writer: int, seed: int) -> list[Image.Image]:
    """What one writer draws: 62 pictures in mode L, 1200 x 900, black on white, in label order.

    Args:
        writer: Number of the writer, from 1.
        seed: Seed of the pen; a writer draws the same whoever else does.
    """
    random = np.random.default_rng([seed, writer])
    person = Writer.draw(random)
    return [_picture(character, person, random) for character in CHARACTERS]


def _picture(character: str, person: Writer, random: np.random.Generator) -> Image.Image:
    script = person.script and character.islower()
    strokes = _strokes("scripts" if script else "futural", character)
    unit = person.height / 21 * float(np.exp(random.normal(0, 0.08)))
    slant = person.slant + random.normal(0, 0.04)
    aspect = person.aspect * float(np.exp(random.normal(0, 0.08)))
    turn = random.normal(0, 0.05)
    across = np.concatenate([stroke[:, 0] for stroke in strokes])
    middle = (across.min() + across.max()) / 2
    place = (person.centre + random.normal(0, 30), person.baseline + random.normal(0, 20))
    picture = Image.new("L", SIZE, 255)
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        x, y = _tremble(stroke, person.tremor, random).T
        x, y = (x - middle) * aspect - (y - 9) * slant, y - 9  # the font's baseline is at 9
        x, y = x - turn * y, y + turn * x
        _trace(pen, np.stack([x * unit + place[0], y * unit + place[1]], axis=1), person.pen)
    return picture


def _trace(pen: ImageDraw.ImageDraw, points: NDArray[np.float64], width: float) -> None:
    """A line with round ends and joints that stays inside the picture."""
    margin = width / 2 + 2
    points = np.clip(points, margin, np.array(SIZE) - margin)
    pen.line([(x, y) for x, y in points], fill=0, width=round(width))
    for x, y in points:
        pen.circle((x, y), width / 2, fill=0)


def _tremble(
    stroke: NDArray[np.float64], tremor: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """The stroke with a point per font unit, bent by a slow random displacement."""
    steps = np.hypot(*np.diff(stroke, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    dense = np.linspace(0, along[-1], max(2, int(along[-1]) + 1))
    points = np.stack([np.interp(dense, along, stroke[:, axis]) for axis in (0, 1)], axis=1)
    knots = np.linspace(0, along[-1], max(2, int(along[-1] / 6) + 1))
    bend = random.normal(0, tremor, (len(knots), 2))
    moved = np.stack([np.interp(dense, knots, bend[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(points + moved)


@cache
def _font(name: str) -> HersheyFonts:
    font = HersheyFonts()
    font.load_default_font(name)
    return font


@cache
def _strokes(font: str, character: str) -> Strokes:
    """The pen strokes of a character, arrays of (x, y) with y downwards, capitals from -12 to 9."""
    strokes = _font(font).strokes_for_text(character)
    return [np.array(points, dtype=float) for points in strokes if len(points) > 1]
