"""Broken pictures: one sentence that names the row, or the very picture; never anything else."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apart import apart
from campaign import Campaign
from PIL import Image, ImageDraw

from hwr import data, pictures
from hwr.alphabet import Alphabet
from hwr.config import compose
from hwr.frame import Frame
from hwr.predict import Recognizer

SIZE = (120, 90)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
MODES += ("HSV", "LAB", "I", "I;16", "I;16B", "F")
MOST = 600
"""Mebibytes that reading may take; the libraries take less than 400 before."""
Made = tuple[bytes, str, np.ndarray | None]
"""A file, its suffix, and what it shows where that is certain; None: its sums tell nothing."""


def sheet(random: np.random.Generator) -> Image.Image:
    """Black lines on white."""
    picture = Image.new("L", SIZE, 255)
    ends = [tuple(random.integers(20, 70, 2).tolist()) for _ in range(5)]
    ImageDraw.Draw(picture).line(ends, fill=0, width=5)
    return picture


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((40, 30))).astype(int)


def saved(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **settings)
    return content.getvalue()


def any_file(random: np.random.Generator) -> tuple[bytes, str, Image.Image]:
    kind, picture = FORMATS[random.integers(len(FORMATS))], sheet(random)
    return saved(picture.convert("RGB"), kind), kind, picture


def flipped(random: np.random.Generator) -> Made:
    """Only a PNG has checksums that tell."""
    level = int(random.integers(0, 10))
    picture = sheet(random)
    whole, kind = saved(picture, "PNG", compress_level=level), "PNG"
    if random.random() < 0.3:
        whole, kind, picture = any_file(random)
    content = bytearray(whole)
    for place in random.integers(len(content), size=random.integers(1, 4)):
        content[place] ^= 1 << random.integers(8)
    return bytes(content), kind, array(picture) if kind == "PNG" else None


def cut(random: np.random.Generator) -> Made:
    content, kind, picture = any_file(random)
    return content[: random.integers(len(content))], kind, array(picture)


def spliced(random: np.random.Generator) -> Made:
    """The head of one file and the tail of another, or bytes moved about."""
    (one, kind, _), (other, _, _) = any_file(random), any_file(random)
    start, end = random.integers(len(one)), random.integers(len(other))
    return one[:start] + other[end:], kind, None


def noise(random: np.random.Generator) -> Made:
    head = any_file(random)[0][: random.integers(0, 60)]
    return head + random.bytes(random.integers(0, 2000)), "PNG", None


def wrong_extension(random: np.random.Generator) -> Made:
    content, kind, picture = any_file(random)
    other = FORMATS[(FORMATS.index(kind) + random.integers(1, 6)) % 6]
    return content, other, array(picture)


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width: int, height: int, colour: int, content: bytes, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", content), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def huge(random: np.random.Generator) -> Made:
    """A header that promises far more than there is."""
    side = int(2 ** random.uniform(12, 31))
    other = int(2 ** random.uniform(0, 31))
    kind = random.integers(4)
    if kind == 0:
        return png(side, other, 0, zlib.compress(b"\0" * 1000)), "PNG", None
    content = bytearray(saved(sheet(random), ("BMP", "GIF", "TIFF")[kind - 1]))
    if kind == 1:
        content[18:26] = struct.pack("<II", side, other)
    elif kind == 2:
        content[6:10] = struct.pack("<HH", min(side, 65535), min(other, 65535))
    else:
        place = content.find(struct.pack("<HHI", 256, 4, 1))
        content[max(0, place) + 8 : max(0, place) + 12] = struct.pack("<I", side)
    return bytes(content), ("BMP", "GIF", "TIFF")[kind - 1], None


def bomb(random: np.random.Generator) -> Made:
    """Small files that are really large: pictures, texts and colour profiles."""
    kind = random.integers(4)
    if kind == 0:
        side = int(random.integers(4000, 7000))
        rows = zlib.compressobj(9)
        packed = b"".join(rows.compress(b"\0" + b"\0\0\0\xff" * side) for _ in range(side))
        return png(side, side, 6, packed + rows.flush()), "PNG", None
    if kind == 1:
        side = int(random.integers(10_000, 30_000))
        return png(side, side, 0, zlib.compress(b"\0" * 10_000_000, 9)), "PNG", None
    zeros = zlib.compress(b"\0" * 100_000_000, 1)
    name = (b"zTXt", b"iCCP")[kind - 2]
    more = chunk(name, b"x\0\0" + zeros)
    return png(*SIZE, 0, zlib.compress(b"\xff" * 90 * 121), more), "PNG", None


def odd_mode(random: np.random.Generator) -> Made:
    """Whatever Pillow can save, it can be asked to read; black on white stays that."""
    mode, picture = MODES[random.integers(len(MODES))], sheet(random)
    try:
        if mode.startswith("I") or mode == "F":
            wide = np.asarray(picture).astype(np.float32)
            kinds = {"I": np.int32, "F": np.float32, "I;16": "<u2", "I;16B": ">u2"}
            many = 257 if mode.startswith("I;") and random.random() < 0.5 else 1
            odd = Image.fromarray((wide * many).astype(kinds[mode]))
        elif mode in ("La", "RGBa", "PA"):
            odd = picture.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode]).convert(mode)
        else:
            odd = picture.convert("RGB").convert(mode)
        kind = FORMATS[random.integers(len(FORMATS))]
        settings = {"transparency": 200} if mode == "P" and kind in ("PNG", "GIF") else {}
        content = saved(odd, kind, **settings)
    except (OSError, ValueError, KeyError):
        return odd_mode(random)
    return content, kind, None if mode == "F" else array(picture)


KINDS: dict[Callable[[np.random.Generator], Made], int] = {
    flipped: 700,
    cut: 300,
    spliced: 200,
    noise: 150,
    wrong_extension: 200,
    huge: 200,
    bomb: 24,
    odd_mode: 300,
}
"""How often each is tried."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two classes, the second picture of which is to be broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for label in "ab":
        (folder / label).mkdir()
        sheet(np.random.default_rng(0)).save(folder / label / "whole.png")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_pictures(
    campaign: Campaign, root: Path, kind: Callable[[np.random.Generator], Made]
) -> None:
    """The picture goes through a data set, and alone as to a recogniser."""
    taken = 0
    for number in campaign.trials(KINDS[kind], max(1, KINDS[kind] // 50)):
        content, suffix, shown = kind(campaign.random)
        file = root / f"b/broken.{suffix.lower()}"
        file.write_bytes(content)
        config = compose(["data=folder", f"data.root={root}", "data.cache=/dev/null/none"]).data

        def read(config: Any = config, shown: Any = shown, name: str = file.name) -> None:
            found = data.load(config)
            if shown is not None:
                mine = found.image[[file.endswith(name) for file in found.files]][0]
                assert np.abs(mine.astype(int) - shown).mean() < 6, "another picture than there is"

        def read_alone(file: Path = file, shown: Any = shown) -> None:
            found = pictures.open_picture(file)
            if shown is not None:
                assert np.abs(array(found) - shown).mean() < 6, "another picture than there is"

        with campaign.trial(f"picture: {kind.__name__.replace('_', ' ')}"):
            for way in (read, read_alone):
                found = apart(way)
                assert found.broke is None, (number, found.broke)
                assert found.mebibytes < MOST, (number, found)
                taken += found.refused is None
                if found.refused is not None:
                    assert file.name in found.refused
                    assert "\n" not in found.refused
        file.unlink()
    assert taken or kind not in (wrong_extension, odd_mode)  # these are pictures


@pytest.mark.parametrize("what", ["turned", "many", "wide", "floats"])
def test_large_pictures(campaign: Campaign, tmp_path: Path, what: str) -> None:
    """They are there once, not several times, however many there are."""
    side, file = 5000 if what == "many" else 7000, tmp_path / f"{what}.picture"
    if what in ("turned", "many"):
        exif, rows = Image.Exif(), zlib.compressobj(1)
        exif[0x0112] = 6
        packed = b"".join(rows.compress(b"\0" + b"\0\0\0\xff" * side) for _ in range(side))
        turned = chunk(b"eXIf", exif.tobytes()[6:])
        file.write_bytes(png(side, side, 6, packed + rows.flush(), turned))
    else:
        mode = "I" if what == "wide" else "F"
        apart(lambda: Image.new(mode, (side, side)).save(file, "TIFF", compression="tiff_deflate"))
    reader = Recognizer(Alphabet(("a", "b")), (30, 40), "notebook", None, None, {}, lambda one: one)
    with campaign.trial("picture: large"):
        found = apart(lambda: list(reader.prepared([file] * (6 if what == "many" else 1))))
        assert found.broke is None, found.broke
        assert found.mebibytes < 450, found


@pytest.mark.parametrize("preprocessing", ["notebook", "ink"])
def test_long_pictures(campaign: Campaign, tmp_path: Path, preprocessing: str) -> None:
    """The sheet about them, of a usual aspect, would be far larger."""
    picture = Image.new("L", (60_000, 900), 180)  # on grey paper, which is settled
    picture.paste(0, (100, 100, 59_000, 150))
    picture.rotate(90 if preprocessing == "ink" else 0, expand=True).save(tmp_path / "long.png")
    usual = Frame(4 / 3, 0.6, 0.5, (0.1, 0.5, 1.0), (0.1, 0.5), (0.05, 0.4))
    alphabet = Alphabet(("a", "b"))
    reader = Recognizer(alphabet, (30, 40), preprocessing, None, usual, {}, lambda one: one)
    with campaign.trial("picture: long"):
        found = apart(lambda: reader.prepare(tmp_path / "long.png"))
        assert found.broke is None, found.broke
        assert found.mebibytes < 500, found
