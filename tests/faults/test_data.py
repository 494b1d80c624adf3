"""Broken images and tables: one sentence that names the file, or exactly what is in it."""

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import WHOLE, Job, limit_memory, run
from conftest import Campaign
from PIL import Image, ImageDraw

import hwr
from hwr.charset import clean_label
from hwr.errors import DataError

SIZE = (120, 90)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
MODES += ("I", "I;16")
Broken = tuple[bytes, str, Image.Image | None]
"""A file, its format, and what it shows; None: it may be read as anything."""


def drawing(random: np.random.Generator) -> Image.Image:
    """Draw black lines on white."""
    image = Image.new("L", SIZE, 255)
    ends = [tuple(random.integers(20, 70, 2).tolist()) for _ in range(5)]
    ImageDraw.Draw(image).line(ends, fill=0, width=5)
    return image


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def broken_image(random: np.random.Generator, kind: str) -> Broken:
    """Break an image file, or write it in an unusual way."""
    image, format = drawing(random), str(random.choice(FORMATS))
    content = bytearray(encoded(image.convert("RGB"), format))
    place = int(random.integers(len(content)))
    match kind:
        case "flipped bit":
            content[place] ^= 1 << random.integers(8)
            return bytes(content), format, image if format == "PNG" else None  # the checksums
        case "cut":
            return bytes(content[:place]), format, image
        case "noise":
            return bytes(content[:place]) + random.bytes(2000), format, None
        case "wrong extension":
            return bytes(content), str(random.choice(FORMATS)), image
    mode = str(random.choice(MODES))
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P", "I": "L", "I;16": "I"}.get(mode, "RGB")
    try:
        odd = encoded(image.convert(via).convert(mode), format)
    except (OSError, ValueError, KeyError):  # this format has no such mode
        return broken_image(random, kind)
    return odd, format, image


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pillow's files
@pytest.mark.parametrize("kind", ["flipped bit", "cut", "noise", "wrong extension", "odd mode"])
def test_broken_images(campaign: Campaign, trained: Path, tmp_path: Path, kind: str) -> None:
    """An image is read as what it shows, or rejected; so is a dataset with it."""
    recognizer = hwr.load(trained)
    classes = [tmp_path / "data" / label for label in "ab"]
    for folder in classes:
        folder.mkdir(parents=True)
        for number in range(4):
            drawing(campaign.random).save(folder / f"{number}.png")
    rejected: list[str] = []
    for number in campaign.trials(150, 8):
        content, suffix, shown = broken_image(campaign.random, kind)
        file = classes[1] / f"broken{number}.{suffix.lower()}"
        file.write_bytes(content)
        with campaign.trial(f"image: {kind}"):
            array, message = None, ""
            try:
                array = recognizer.prepare(file, "as_is").astype(int)
            except DataError as error:
                message = str(error)
            if array is None:
                rejected.append(file.name)
                assert file.name in message
                assert "\n" not in message
            elif shown is not None:
                expected = recognizer.prepare(shown, "as_is")
                assert np.abs(array - expected).mean() < 6, "another image"
    assert not rejected or kind not in ("wrong extension", "odd mode")
    with campaign.trial("dataset with broken images"):
        ended = Job("hwr-train", tmp_path / "data", tmp_path, tmp_path / "run").start().wait()
        line = ended.expect_one_line([2]) if rejected else ""
        assert sum(name in line for name in rejected) == min(20, len(rejected)), line
        assert rejected or ended.code == 0, ended.output


def promise() -> bytes:
    """Write a header of far more pixels than there are."""
    content = bytearray(encoded(Image.new("L", SIZE), "BMP"))
    content[18:26] = bytes([255, 255, 0, 0] * 2)
    return bytes(content)


BOMBS: dict[str, Callable[[], bytes]] = {
    "promise": promise,
    "profile": lambda: encoded(Image.new("L", SIZE), "PNG", icc_profile=bytes(100_000_000)),
    "gray": lambda: encoded(Image.new("L", (8000, 8000)), "PNG", compress_level=1),
    "colors": lambda: encoded(Image.new("RGBA", (7000, 7000)), "PNG", compress_level=1),
    "too large": lambda: encoded(Image.new("1", (30_000, 30_000)), "PNG", compress_level=1),
    "long": lambda: encoded(Image.new("L", (60_000, 900), 180), "PNG", compress_level=1),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_image_bombs(campaign: Campaign, trained: Path, tmp_path: Path, kind: str) -> None:
    """A small file of a large image is read or rejected in 600 MiB."""
    file = tmp_path / "bomb"
    file.write_bytes(BOMBS[kind]())
    with campaign.trial("image: bomb"):
        ended = run(tmp_path / "in", ["hwr-predict", trained, file], limit_memory)
        assert ended.code == 0 or file.name in ended.expect_one_line([1]), ended.output
        assert "Traceback" not in ended.output


FILES = [f"Img/img{label:03d}-{writer:03d}.png" for label in (1, 2, 3) for writer in (1, 2, 3)]
ROWS = [f"{file},{'0aé'[number // 3]}" for number, file in enumerate(FILES)]
ODD = ["", ",", '"', '""', "\n", "\r", "\r\n", "\0", "\ufeff", ";", "\t", " ", "../", "/", "\\"]
ODD += ["nan", "NA", "1e5", "=1+1", "e\u0301", "\u202e", "\x1b[2J", "image,label", "label", "'"]
ODD += [*FILES[:2], *ROWS[:2], "Img/../Img/img001-001.png", "x" * 300, "0x10", "True"]


def broken_table(random: np.random.Generator) -> bytes:
    """Edit a good table, and save it badly."""
    rows = random.permutation(ROWS)[: random.integers(2, 10)].tolist()
    text = str(random.choice(["\n", "\r\n", "\r"])).join(["image,label", *rows, ""])
    for _ in range(random.integers(3)):
        place = int(random.integers(len(text)))
        rest = text[place + int(random.choice([0, 1, 9])) :]
        text = text[:place] + ODD[random.integers(len(ODD))] + rest
    content = bytearray(text.encode(random.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16"])))
    for _ in range(random.choice([0, 0, 0, 1])):
        content[random.integers(len(content))] = random.integers(256)
    return bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of nine images, each of another gray."""
    root = tmp_path_factory.mktemp("tables")
    (root / "Img").mkdir()
    for number, file in enumerate(FILES):
        Image.new("L", (8, 6), 20 * number).save(root / file)
    return root


def load(root: Path) -> Any:
    return hwr.data.FolderDataset("folder", root, cache=str(root / "cache"))


def test_tables(campaign: Campaign, folder: Path) -> None:
    """A table is rejected, or exactly the rows in it are read."""
    accepted = 0
    for _ in campaign.trials(1000, 60):
        content = broken_table(campaign.random)
        (folder / "english.csv").write_bytes(content)
        with campaign.trial("table that was edited or saved badly"):
            dataset, message = None, ""
            try:
                dataset = load(folder)
            except DataError as error:
                message = str(error)
            if dataset is None:
                assert str(folder) in message or "class" in message
                continue
            accepted += 1
            encoding = "utf-16" if content[0] in b"\xff\xfe" else "utf-8-sig"
            table = io.StringIO(content.decode(encoding), newline="")
            head, *rows = csv.reader(table, strict=True, skipinitialspace=True)
            head = [name.strip() for name in head]
            rows = [row for row in rows if "".join(row).strip()]
            files, labels = ([row[head.index(x)] for row in rows] for x in ("image", "label"))
            files = [posixpath.normpath(file.strip().replace("\\", "/")) for file in files]
            expected = zip(files, map(clean_label, labels), strict=True)
            labels = [dataset.charset.names[label] for label in dataset.labels]
            assert Counter(zip(dataset.files, labels, strict=True)) == Counter(expected)
            for file, image in zip(dataset.files, dataset.images, strict=True):
                assert (image == 20 * FILES.index(f"Img/{Path(file).name}")).all()
    assert accepted


@pytest.mark.parametrize("part", ["\0", '"', *(["x", '"\n', "a,b\n"] if WHOLE else [])])
def test_large_tables(campaign: Campaign, folder: Path, part: str) -> None:
    """A table of 60 MB that is none is rejected in 600 MiB."""
    (folder / "english.csv").write_text("image,label\n" + part * (60_000_000 // len(part)))
    with campaign.trial("table that is too large"):
        ended = run(folder / "in", ["hwr-data", "show", folder], limit_memory)
        assert "english.csv" in ended.expect_one_line()
