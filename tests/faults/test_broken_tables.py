"""Broken tables: one sentence, or exactly the rows that are in the file; never another one."""

import os
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from campaign import ALL, SEED, Campaign
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from isolated import isolated
from PIL import Image

from hwr.data import FolderDataset
from hwr.errors import DataError, printable

FILES = [f"Img/img{label:03d}-{writer:03d}.png" for label in (1, 2, 3) for writer in (1, 2, 3)]
NAMES = [Path(file).name for file in FILES]
ROWS = [f"{file},{'0aé'[number // 3]}" for number, file in enumerate(FILES)]
ODD = ["", ",", '"', '""', "\n", "\r", "\r\n", "\0", "\ufeff", ";", "\t", " ", "../", "/", "\\"]
ODD += ["nan", "NA", "1e5", "=1+1", "é", "é", "\u202e", "\x1b[2J", "image,label", "label", "#", "'"]
ODD += [*FILES[:2], *ROWS[:2], "Img/../Img/img001-001.png", "x" * 5000, "0x10", "True", "\ud7ff"]
SECONDS = 5


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Draw a good table that was edited, saved or sent badly."""
    rows = draw(st.permutations(ROWS))[: draw(st.integers(1, 9))]
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(["image,label", *rows])
    text += draw(st.sampled_from(["\n", "", "\n\n"]))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(text)))
        until = min(len(text), place + draw(st.sampled_from([0, 0, 1, 5, 20])))
        new = draw(st.sampled_from(ODD) | st.text(max_size=4))
        text = text[:place] + new + text[until:]
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "latin-1"]))
    content = bytearray(text.encode(encoding, "replace"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


FIELD = re.compile(r'("(?:[^"]|"")*"|(?!")[^,\r\n]*)(,|\r\n|\r|\n|\Z)')
"""A field and what ends it, as in RFC 4180; rows may end as on any machine."""


def parsed(content: bytes) -> Counter[tuple[str, str]]:
    """Return file and label of each row, by another parser than the library's."""
    text, place = content.decode("utf-8-sig"), 0
    rows: list[list[str]] = [[]]
    while place < len(text):
        match = FIELD.match(text, place)
        assert match, "a field that ends nowhere"
        field, end = match.groups()
        rows[-1].append(field[1:-1].replace('""', '"') if field[:1] == '"' else field)
        place = match.end()
        if end == "," and place == len(text):
            rows[-1].append("")
        elif end != ",":
            rows.append([])
    head, *rows = [row for row in rows if row not in ([], [""])]
    assert all(len(row) >= len(head) for row in rows), "a row of too few fields"
    assert not any(any(row[len(head) :]) for row in rows), "a row of too many fields"
    file, label = head.index("image"), head.index("label")
    return Counter((row[file], unicodedata.normalize("NFC", row[label])) for row in rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "Img").mkdir()
    for number, file in enumerate(FILES):
        Image.new("L", (8, 6), 20 * number).save(folder / file)
    return folder


def load(root: Path) -> FolderDataset:
    return FolderDataset("folder", root, cache=str(root / "cache"))


@pytest.mark.usefixtures("capsys")
def test_tables(root: Path) -> None:
    campaign, accepted = Campaign("test_tables"), []

    @seed(SEED)
    @settings(
        max_examples=2000 if ALL else 60,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(tables())
    def one(content: bytes) -> None:
        (root / "english.csv").write_bytes(content)
        started = time.perf_counter()
        with campaign.trial("table that was edited or sent badly"):
            message, data = "", None
            try:
                data = load(root)
            except DataError as error:
                message = printable(str(error))
            if data is None:
                assert str(root) in message or "one class" in message
            else:
                accepted.append(content)
                names = [data.charset.names[label] for label in data.labels]
                assert Counter(zip(data.files, names, strict=True)) == parsed(content)
                for file, image in zip(data.files, data.images, strict=True):
                    assert (image == 20 * NAMES.index(Path(file).name)).all()
            assert time.perf_counter() - started < SECONDS

    one()
    assert accepted


LARGE = ["a field", "zeros", "quoted", "sparse", "fields", "rows of nothing", "rows", "wide"]
LARGE += ["words", "records"]


@pytest.mark.parametrize("kind", LARGE if ALL else LARGE[:4])
def test_large_tables(campaign: Campaign, root: Path, kind: str) -> None:
    """Tables as large as they may be, or larger, take less than a gigabyte."""
    head = b"image,label\n"
    content = {
        "a field": lambda: head + b"x" * 67_000_000 + b",a\n",
        "fields": lambda: b"image,label" + b"," * 67_000_000 + b"\n",
        "rows": lambda: head + b"Img/img001-001.png,a\n" * 1_000_000,
        "rows of nothing": lambda: head + b"a,b\n" * 16_000_000,
        "zeros": lambda: head + b"\0" * 67_000_000,
        "quoted": lambda: head + b'"' + b"x,\n" * 22_000_000,
        "wide": lambda: head + "\N{GRINNING FACE}".encode() + b"," * 67_000_000,
        "words": lambda: b"image,label" + ",Ā".encode() * 22_000_000 + b"\n",
        "records": lambda: b"image,label" + ',"\nĀ"'.encode() * 9_500_000 + b"\n",
        "sparse": lambda: head,
    }[kind]
    (root / "english.csv").write_bytes(content())
    if kind == "sparse":
        os.truncate(root / "english.csv", 3 * 10**9)
    with campaign.trial("table as large as may be, or larger"):
        isolated(lambda: load(root), seconds=60).expect_one_sentence("english.csv", 1024)
