"""UNIPEN from small files of its own format, and the real archive where it is."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hwr.config.compose import compose
from hwr.data import load_dataset
from hwr.data.unipen import Character, draw_hand, read_characters
from hwr.errors import DataError

POINTS = """
.COMMENT a block without points has no number
.WRITER_ID anna
.PEN_DOWN
.PEN_UP
.PEN_DOWN
 0 0
 0 100
.PEN_UP
5 5
.START_BOX
.PEN_DOWN
50 100 7
50 0 8
.DT 100
.PEN_DOWN
100 0
100 50
100 100
"""
LABELS = """.VERSION 1.0
.INCLUDE abc/abc.doc
.INCLUDE abc/data/anna.dat
.SEGMENT CHARACTER 0-2 OK "H"
.SEGMENT CHARACTER 0:1-3:1 ?  "n"
.SEGMENT CHARACTER 3,0 ? "l"
.SEGMENT CHARACTER 2 ? "+"
"""
ARCHIVE = Path(os.environ.get("HWR_DATA", "data/english")).parent / "unipen"


def write(root: Path, labels: str = LABELS, source: str = "abc") -> Path:
    """Write a distribution of one file of points."""
    folder = root / "train_r01_v07"
    texts = {
        f"data/1c/{source}/anna.dat": labels.replace("abc", source),
        f"include/{source}/{source}.doc": ".DATA_INFO none\n",
        f"include/{source}/data/anna.dat": POINTS,
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_segments_name_components_that_hold_points(tmp_path: Path) -> None:
    first, second, third = read_characters(write(tmp_path))
    assert (first.file, first.label, first.writer) == ("1c/abc/anna/0000", "H", "abc/anna")
    assert first.hand == "include/abc/data/anna.dat"
    assert [stroke.tolist() for stroke in first.strokes] == [
        [[0, 0], [0, 100]],
        [[50, 100], [50, 0]],
    ]
    assert [stroke.tolist() for stroke in second.strokes] == [
        [[0, 100]],
        [[50, 100], [50, 0]],
        [[100, 0], [100, 50]],
    ]
    assert [len(stroke) for stroke in third.strokes] == [3, 2]


def test_archive_and_folder_are_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with tarfile.open(tmp_path / "unipen.tar.xz", "w:xz") as archive:
        archive.add(folder, "train_r01_v07")
    settings = ["data=unipen", "data.height=48", "data.width=64"]
    roots = [folder, tmp_path, tmp_path / "unipen.tar.xz"]
    datasets = [load_dataset(compose([*settings, f"data.root={root}"]).data) for root in roots]
    for dataset in datasets:
        assert dataset.fingerprint == datasets[0].fingerprint
        assert dataset.images.shape == (3, 1, 48, 64)
        assert list(dataset.charset.names) == ["H", "l", "n"]
        assert dataset.writers.tolist() == [0, 0, 0]


@pytest.mark.parametrize("source", ["val", "apb"])
def test_shared_identifiers_are_one_writer(tmp_path: Path, source: str) -> None:
    assert {c.writer for c in read_characters(write(tmp_path, source=source))} == {source}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS.replace("0-2", "0-9"), "wrong segment 0-9"),
        (LABELS.replace("0-2", "x"), "wrong segment x"),
        (LABELS.replace("0-2", "1"), "wrong segment 1"),  # the pen is up
        (LABELS.replace("anna.dat", "otto.dat"), "otto.dat is missing, which label files name"),
    ],
)
def test_wrong_labels_are_one_sentence(tmp_path: Path, labels: str, message: str) -> None:
    folder = write(tmp_path, labels)
    with pytest.raises(DataError, match=message):
        read_characters(folder)


def test_other_folders_and_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UNIPEN"):
        read_characters(tmp_path)
    (tmp_path / "unipen.tar").write_text("no archive")
    with pytest.raises(DataError, match="is not a whole tar archive"):
        read_characters(tmp_path / "unipen.tar")


def test_characters_are_upright_and_keep_relative_sizes() -> None:
    line, half = np.array([[0.0, 0], [0, 100]]), np.array([[0.0, 0], [0, 50]])
    flag = np.array([[0.0, 100], [40, 100]])  # at the top, since y points up
    hand = [
        Character("1b/abc/anna/0000", "l", "anna", "abc/anna", [line, flag]),
        Character("1b/abc/anna/0001", "l", "anna", "abc/anna", [half]),
    ]
    large, small = (np.asarray(image) == 0 for image in draw_hand(hand, 0))
    assert large.shape == (900, 1200)
    rows = np.flatnonzero(large.any(axis=1))
    assert large[rows[0] + 20].sum() > 2 * large[rows[-1] - 20].sum()
    heights = [np.ptp(np.flatnonzero(ink.any(axis=1))) - 58 for ink in (large, small)]
    assert heights[0] == pytest.approx(2 * heights[1], abs=4)
    assert not large[[0, -1]].any()
    assert not large[:, [0, -1]].any()


@pytest.mark.skipif(not ARCHIVE.is_dir(), reason="UNIPEN's archive is not beside HWR_DATA")
def test_real_archive() -> None:
    characters = read_characters(next(ARCHIVE.glob("*.tar.xz")))
    assert len(characters) == 105_382
    counts = dict.fromkeys(("1a", "1b", "1c"), 0)
    for character in characters:
        counts[character.file[:2]] += 1
    assert counts == {"1a": 15_953, "1b": 28_069, "1c": 61_360}
    labels = [character.label for character in characters]
    assert (labels.count("X"), labels.count("e")) == (746, 5_937)
    assert len({character.hand for character in characters}) == 2_647
    assert len({character.file.split("/")[1] for character in characters}) == 21
