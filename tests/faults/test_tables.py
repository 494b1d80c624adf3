"""Broken tables: one sentence, or exactly the rows that stand there; never a row misread."""

import os
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from apart import apart
from campaign import SEED, WHOLE, Campaign
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from hwr import data
from hwr.config import compose
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
    """A good table that was edited, saved or sent badly."""
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
"""A field and what ends it, as RFC 4180 has them; rows may end as on any machine."""


def stands_there(content: bytes) -> Counter[tuple[str, str]]:
    """File and label of each row, read by another parser than the library's."""
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


@pytest.mark.usefixtures("capsys")
def test_tables(root: Path) -> None:
    campaign = Campaign("test_tables")
    taken = []

    @seed(SEED)
    @settings(
        max_examples=2000 if WHOLE else 60,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(tables())
    def one(content: bytes) -> None:
        (root / "english.csv").write_bytes(content)
        config = compose_once(root)
        started = time.perf_counter()
        with campaign.trial("table that was edited or sent badly"):
            said, found = None, None
            try:
                found = data.load(config)
            except DataError as error:
                said = printable(str(error))
            if found is None:
                assert said is not None
                assert str(root) in said or "one class" in said
            else:
                taken.append(content)
                names = [found.alphabet.names[label] for label in found.label]
                rows = Counter(zip(found.files, names, strict=True))
                assert rows == stands_there(content)
                for file, image in zip(found.files, found.image, strict=True):
                    assert (image == 20 * NAMES.index(Path(file).name)).all()
            assert time.perf_counter() - started < SECONDS

    one()
    assert taken  # a reader that refuses all has lost them


def compose_once(root: Path, known: dict[Path, object] = {}) -> object:  # noqa: B006
    if root not in known:
        known[root] = compose(["data=folder", f"data.root={root}", f"data.cache={root}/cache"]).data
    return known[root]


LARGE = ["a field", "fields", "rows", "rows of nothing", "zeros", "quoted", "wide", "words"]
LARGE += ["records", "sparse"]


@pytest.mark.parametrize("what", LARGE)
def test_large_tables(campaign: Campaign, root: Path, what: str) -> None:
    """Tables as large as they may be, or larger, take no more than a gigabyte."""
    head = b"image,label\n"
    content = {
        "a field": head + b"x" * 67_000_000 + b",a\n",
        "fields": b"image,label" + b"," * 67_000_000 + b"\n",
        "rows": head + b"Img/img001-001.png,a\n" * 1_000_000,
        "rows of nothing": head + b"a,b\n" * 16_000_000,
        "zeros": head + b"\0" * 67_000_000,
        "quoted": head + b'"' + b"x,\n" * 22_000_000,
        "wide": head + "\N{GRINNING FACE}".encode() + b"," * 67_000_000,
        "words": b"image,label" + ",Ā".encode() * 22_000_000 + b"\n",
        "records": b"image,label" + ',"\nĀ"'.encode() * 9_500_000 + b"\n",
        "sparse": head,
    }[what]
    (root / "english.csv").write_bytes(content)
    if what == "sparse":
        os.truncate(root / "english.csv", 3 * 10**9)
    with campaign.trial("table as large as may be, or larger"):
        found = apart(lambda: data.load(compose_once(root)), seconds=60)
        assert found.broke is None, found.broke
        assert found.refused is not None
        assert "\n" not in found.refused
        assert found.mebibytes < 1024, found
