"""Broken image files: one sentence that names the file, or the very image; never another one."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import ALL, Campaign
from isolated import isolated
from PIL import Image, ImageDraw

from hwr.charset import Charset
from hwr.config.compose import compose
from hwr.data import load_dataset
from hwr.inference.recognizer import Recognizer
from hwr.preprocessing.decode import open_image
from hwr.preprocessing.ink import InkStatistics
from hwr.preprocessing.preprocessor import Preprocessor

SIZE = (120, 90)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
MODES += ("HSV", "LAB", "I", "I;16", "I;16B", "F")
MOST = 600
"""Mebibytes that reading may take; the libraries take less than 400 before."""
Made = tuple[bytes, str, np.ndarray | None]
"""A file, its format, and what it shows; None: it may be read as anything."""


def drawing(random: np.random.Generator) -> Image.Image:
    """Draw black lines on white."""
    image = Image.new("L", SIZE, 255)
    ends = [tuple(random.integers(20, 70, 2).tolist()) for _ in range(5)]
    ImageDraw.Draw(image).line(ends, fill=0, width=5)
    return image


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((40, 30))).astype(int)


def saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def any_file(random: np.random.Generator) -> tuple[bytes, str, Image.Image]:
    kind, image = FORMATS[random.integers(len(FORMATS))], drawing(random)
    return saved(image.convert("RGB"), kind), kind, image


def flipped(random: np.random.Generator) -> Made:
    """Flip bits; only a PNG has checksums that tell."""
    level = int(random.integers(0, 10))
    image = drawing(random)
    whole, kind = saved(image, "PNG", compress_level=level), "PNG"
    if random.random() < 0.3:
        whole, kind, image = any_file(random)
    content = bytearray(whole)
    for place in random.integers(len(content), size=random.integers(1, 4)):
        content[place] ^= 1 << random.integers(8)
    return bytes(content), kind, array(image) if kind == "PNG" else None


def cut(random: np.random.Generator) -> Made:
    content, kind, image = any_file(random)
    return content[: random.integers(len(content))], kind, array(image)


def spliced(random: np.random.Generator) -> Made:
    """Join the head of one file and the tail of another."""
    (one, kind, _), (other, _, _) = any_file(random), any_file(random)
    start, end = random.integers(len(one)), random.integers(len(other))
    return one[:start] + other[end:], kind, None


def noise(random: np.random.Generator) -> Made:
    head = any_file(random)[0][: random.integers(0, 60)]
    return head + random.bytes(random.integers(0, 2000)), "PNG", None


def wrong_extension(random: np.random.Generator) -> Made:
    content, kind, image = any_file(random)
    other = FORMATS[(FORMATS.index(kind) + random.integers(1, 6)) % 6]
    return content, other, array(image)


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width: int, height: int, color: int, content: bytes, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", content), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def huge(random: np.random.Generator) -> Made:
    """Write a header that promises far more than there is."""
    side = int(2 ** random.uniform(12, 31))
    other = int(2 ** random.uniform(0, 31))
    kind = random.integers(4)
    if kind == 0:
        return png(side, other, 0, zlib.compress(b"\0" * 1000)), "PNG", None
    content = bytearray(saved(drawing(random), ("BMP", "GIF", "TIFF")[kind - 1]))
    if kind == 1:
        content[18:26] = struct.pack("<II", side, other)
    elif kind == 2:
        content[6:10] = struct.pack("<HH", min(side, 65535), min(other, 65535))
    else:
        place = content.find(struct.pack("<HHI", 256, 4, 1))
        content[max(0, place) + 8 : max(0, place) + 12] = struct.pack("<I", side)
    return bytes(content), ("BMP", "GIF", "TIFF")[kind - 1], None


def bomb(random: np.random.Generator) -> Made:
    """Write a small file of something really large: pixels, text or a color profile."""
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
    """Save black on white in any mode and format that Pillow can write."""
    mode, image = MODES[random.integers(len(MODES))], drawing(random)
    try:
        if mode.startswith("I") or mode == "F":
            wide = np.asarray(image).astype(np.float32)
            kinds = {"I": np.int32, "F": np.float32, "I;16": "<u2", "I;16B": ">u2"}
            many = 257 if mode.startswith("I;") and random.random() < 0.5 else 1
            odd = Image.fromarray((wide * many).astype(kinds[mode]))
        elif mode in ("La", "RGBa", "PA"):
            odd = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode]).convert(mode)
        else:
            odd = image.convert("RGB").convert(mode)
        kind = FORMATS[random.integers(len(FORMATS))]
        settings = {"transparency": 200} if mode == "P" and kind in ("PNG", "GIF") else {}
        content = saved(odd, kind, **settings)
    except (OSError, ValueError, KeyError):
        return odd_mode(random)
    return content, kind, None if mode == "F" else array(image)


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
    """A dataset of two classes, the second image of which is to be broken."""
    folder = tmp_path_factory.mktemp("images")
    for label in "ab":
        (folder / label).mkdir()
        drawing(np.random.default_rng(0)).save(folder / label / "whole.png")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_broken_images(
    campaign: Campaign, root: Path, kind: Callable[[np.random.Generator], Made]
) -> None:
    """The image is read with a dataset, and alone as by a recognizer."""
    accepted = 0
    for number in campaign.trials(KINDS[kind], max(1, KINDS[kind] // 50)):
        content, suffix, shown = kind(campaign.random)
        file = root / f"b/broken.{suffix.lower()}"
        file.write_bytes(content)
        node = compose(["data=folder", f"data.root={root}", "data.cache=/dev/null/none"]).data

        def dataset(node: Any = node, shown: Any = shown, name: str = file.name) -> None:
            data = load_dataset(node)
            if shown is not None:
                (row,) = (k for k, file in enumerate(data.files) if file.endswith(name))
                assert np.abs(data.images[row, 0].numpy() - shown).mean() < 6, "another image"

        def single(file: Path = file, shown: Any = shown) -> None:
            image = open_image(file)
            if shown is not None:
                assert np.abs(array(image) - shown).mean() < 6, "another image"

        with campaign.trial(f"image: {kind.__name__.replace('_', ' ')}"):
            for function in (dataset, single):
                outcome = isolated(function)
                if outcome.rejected is None:
                    assert outcome.crashed is None, (number, outcome.crashed)
                    assert outcome.mebibytes < MOST, (number, outcome)
                    accepted += 1
                else:
                    outcome.expect_one_sentence(file.name, MOST)
        file.unlink()
    assert accepted or kind not in (wrong_extension, odd_mode)  # these are images


@pytest.mark.parametrize("kind", ["turned", "wide", "floats", *(["many"] if ALL else [])])
def test_large_images(campaign: Campaign, tmp_path: Path, kind: str) -> None:
    """They are in memory once, not several times, however many there are."""
    side, file = 5000 if kind == "many" else 7000, tmp_path / f"{kind}.image"
    if kind in ("turned", "many"):
        exif, rows = Image.Exif(), zlib.compressobj(1)
        exif[0x0112] = 6
        packed = b"".join(rows.compress(b"\0" + b"\0\0\0\xff" * side) for _ in range(side))
        turned = chunk(b"eXIf", exif.tobytes()[6:])
        file.write_bytes(png(side, side, 6, packed + rows.flush(), turned))
    else:
        mode = "I" if kind == "wide" else "F"
        isolated(lambda: Image.new(mode, (side, side)).save(file, "TIFF", compression="tiff_lzw"))
    preprocessor = Preprocessor("notebook", 30, 40)
    reader = Recognizer(Charset(("a", "b")), preprocessor, None, {}, lambda one: one)
    with campaign.trial("image: large"):
        outcome = isolated(lambda: list(reader.prepared([file] * (6 if kind == "many" else 1))))
        assert outcome.crashed is None, outcome.crashed
        assert outcome.mebibytes < 450, outcome


@pytest.mark.parametrize("preprocessing", ["notebook", "ink"])
def test_long_images(campaign: Campaign, tmp_path: Path, preprocessing: str) -> None:
    """An image of a usual aspect around them would be far larger."""
    image = Image.new("L", (60_000, 900), 180)  # on a gray background, which is normalized
    image.paste(0, (100, 100, 59_000, 150))
    image.rotate(90 if preprocessing == "ink" else 0, expand=True).save(tmp_path / "long.png")
    usual = InkStatistics(4 / 3, 0.6, 0.5, (0.1, 0.5, 1.0), (0.1, 0.5), (0.05, 0.4))
    charset = Charset(("a", "b"))
    preprocessor = Preprocessor(preprocessing, 30, 40, ink=usual)
    reader = Recognizer(charset, preprocessor, None, {}, lambda one: one)
    with campaign.trial("image: long"):
        outcome = isolated(lambda: reader.prepare(tmp_path / "long.png"))
        assert outcome.crashed is None, outcome.crashed
        assert outcome.mebibytes < 500, outcome
