"""Lists of the samples of a folder: tables, class folders, labels."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from english import draw
from folders import class_folders, load, rewrite, rows_of, square, table

from hwr.data import CharacterDataModule, FolderDataset
from hwr.data.folder.samples import read_samples
from hwr.errors import DataError
from hwr.preprocessing.decode import image_files


@pytest.mark.parametrize("place", ["img", "."])
def test_places_and_order_of_rows(tmp_path: Path, english: Path, place: str) -> None:
    other = draw(tmp_path / "other", place)
    rewrite(other, rows_of(other)[::-1])
    found, expected = load(other), load(english)
    assert found.fingerprint == expected.fingerprint
    assert found.files == expected.files
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)


def test_labels_are_text(english: Path) -> None:
    kept = rows_of(english)
    rewrite(english, [row.replace(",0", ",NA").replace(",1", ",nan") for row in kept])
    assert load(english).charset.names == ("9", "A", "NA", "a", "nan")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no table .*data=synthetic"),
        (b"", "must have one column image"),
        (b"image,label\n", "between 1 and 1,000,000 rows"),
        (b"file,label\na.png,0\n", "one column image, .*; it has file, label"),
        (b"image:label\na.png:0\n", "one column image, separated by commas"),
        (b"model,acc\ncnn,1\n", "where folders are the classes, move the table elsewhere"),
        (
            b"image,label,label\na.png,0,0\n",
            "one column label, .* image, label, label",
        ),
        (b"image,label,writer,writer\na.png,0,1,1\n", "one column writer"),
        (b"image,label\na.png\n", "row 1 has 1 fields, the header 2"),
        (b"image,label\na.png,0,1\n", "row 1 has 3 fields, the header 2"),
        ("image,label\na.png,\u00e9\n".encode("latin-1"), "not UTF-8"),
        (b'image,label\n"a.png,0\n', "not a table"),
        (b'image,label\n"a.png"x,0\n', "not a table"),
    ],
)
def test_bad_tables(english: Path, content: bytes | None, words: str) -> None:
    (english / "english.csv").unlink()
    if content is not None:
        (english / "english.csv").write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        FolderDataset("mine", english, "english.csv")
    assert "\n" not in str(error.value)


def test_all_bad_rows_are_named_at_once(english: Path) -> None:
    kept = rows_of(english)
    files = [english / row.partition(",")[0] for row in kept]
    files[0].unlink()
    files[1].write_text("no image")
    files[2].write_bytes(files[2].read_bytes()[:3000])
    files[3].write_bytes(b"")
    rewrite(english, [*kept, "../x.png,a", "/etc/passwd,a", kept[5], "Img/none.png,a", ",a"])
    with pytest.raises(DataError) as error:
        load(english)
    message = str(error.value)
    for words in (
        "9 wrong: ",
        "row 1: Img/img001-001.png is missing",
        "row 2: Img/img002-001.png cannot be read as an image",
        "row 3: Img/img010-001.png cannot be read as an image",
        "row 4: Img/img011-001.png cannot be read as an image",
        "row 21: ../x.png lies outside the data folder; give a path relative to it",
        "row 22: /etc/passwd lies outside",
        "row 23: Img/img001-002.png is listed twice",
        "row 24: Img/none.png is missing",
        "row 25: no file name",
    ):
        assert words in message
    assert "\n" not in message
    rewrite(english, [f"Img/absent{number}.png,a" for number in range(25)])
    with pytest.raises(
        DataError,
        match=r"25 wrong: row 1: .*row 20: .*; and 5 more; paths are relative to .* holds Img/",
    ):
        load(english)


@pytest.mark.parametrize(
    ("content", "folder"),
    [
        ("image,label\n,\nImg/a.png,A\n,,\nImg/b.png,B,\n,\n", "Img"),
        ("sep=;\nimage;label\nImg/a.png;A\nImg/b.png;B\n", "Img"),
        ('"image", "Label",,\n"Img/a.png", "A",,\nImg/b.png , B\n', "Img"),
        ("image\tlabel\r\nImg\\a.png\tA\r\n.\\Img\\b.png\tB\r\n", "Img"),
        ("image;label\nIMG/A.PNG;A\nx/../Img/b.png;B", "Img"),
        ("image,label\nImg/a,A\nImg/b,B\n", "images"),
        ("image|label\na.png|A\nb|B\n", "scans of 2024"),
        ("image,label\n{root}/Img/a.png,A\n{root}/link/b.png,B\n", "Img"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_spreadsheets(
    tmp_path: Path, content: str, folder: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        square(number).save(tmp_path / folder / name)
    if "link" in content:
        (tmp_path / "link").symlink_to(folder)
    (tmp_path / "rows.csv").write_bytes(content.format(root=tmp_path).encode(encoding))
    samples = read_samples(tmp_path)
    assert not any(samples["error"]), samples["error"].tolist()
    assert [path.name for path in samples["path"]] == ["a.png", "b.png"]
    assert [Path(file).name for file in samples["file"]] == ["a.png", "b.png"]
    assert samples["label"].tolist() == ["A", "B"]
    assert capsys.readouterr().err == ""


def test_names_of_files_in_another_unicode_form(tmp_path: Path) -> None:
    table(tmp_path, [("e\u0301.png", "a"), ("b.png", "b")])
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    (tmp_path / "rows.csv").write_text(text.replace("e\u0301", "\u00e9"), encoding="utf-8")
    assert load(tmp_path).files == ("b.png", "e\u0301.png")


def test_missing_images_are_not_taken_from_another_class(tmp_path: Path) -> None:
    class_folders(tmp_path, ["a"])
    (tmp_path / "rows.csv").write_text("image,label\na/0.png,a\nb/1.png,b\n")
    with pytest.raises(DataError, match=r"1 wrong: row 2: b/1\.png is missing; paths are"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["A", "A ", "B"], "row 2: 'A '"),
        (["\ufeffA", "\xa0A\u3000", "B"], r"row 1: '\ufeffA'"),
        (["A", "A\u200b", "B"], r"row 2: 'A\u200b'"),
        (["A", "B", "\uff21"], r"differ, row 1: 'A' and row 3: '\uff21'; write them alike"),
        (["A", "A\u200d"], r"row 2: 'A\u200d'"),
        (["A", "\xadA", "B"], r"row 2: '\xadA'"),
        (["\uff76\uff9e", "\u30ac"], r"row 1: '\uff76\uff9e' and row 2: '\u30ac'"),
        (["\uff21", "\uff22"], None),
        (["\u0915\u094d", "\u0915\u094d\u200d", "2", "\u00b2", "\u0410", "A"], None),
    ],
)
def test_labels_that_look_the_same(
    tmp_path: Path, labels: list[str], expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are joined, with a note, if blanks around them differ; else rejected with their rows."""
    root = table(tmp_path, [(f"{number}.png", label) for number, label in enumerate(labels)])
    message = ""
    try:
        names = load(root).charset.names
    except DataError as error:
        message = str(error)
    else:
        assert names == tuple(sorted({"A", "B"} if expected else labels))
    message += capsys.readouterr().err
    assert expected in message if expected else not message


def test_files_that_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training and prediction read the same images, and training notes what it leaves out."""
    root = class_folders(tmp_path / "own", ["A", "B"])
    helpers = ["A/._0.png", "@eaDir/A/0.png", "A/@eaDir/0.png", "__MACOSX/A/0.png", "A/Thumbs.db"]
    helpers += ["B/.ipynb_checkpoints/0.png", "B/desktop.ini", "B/.DS_Store", "#recycle/0.png"]
    helpers += ["._english.csv", "~$english.csv", "run1/0.png", "run1/metrics.json"]
    helpers += ["A/old/plots/0.png", "A/old/.hydra/config.yaml", "outputs/show/own/overview.png"]
    for name in [*helpers, "notes/a.txt", "A/readme"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "C").mkdir()
    shutil.copy(root / "A/0.png", root / "A/scan")
    (root / "A/up").symlink_to(root)
    (root / "B/self").symlink_to(".")
    (root / "again").symlink_to("A")
    deeper = class_folders(tmp_path / "elsewhere", ["x", "y"], 1)
    (deeper / "x/y").symlink_to(deeper / "y")
    (deeper / "y/x").symlink_to(deeper / "x")
    (root / "D").symlink_to(deeper)
    (root / "gone").symlink_to(tmp_path / "nothing")
    expected = {*(f"{label}/{number}.png" for label in "AB" for number in range(3)), "A/scan"}
    expected |= {"D/x/0.png", "D/x/y/0.png", "D/y/0.png", "D/y/x/0.png"}
    data = load(root)
    assert set(data.files) == expected == {str(x.relative_to(root)) for x in image_files(root)[0]}
    assert data.charset.names == ("A", "B", "D")
    names = (
        "#recycle/, @eaDir/, A/readme, C/, __MACOSX/, again/, gone, notes/a.txt, outputs/, run1/"
    )
    assert f"left out as no images of a class: {names}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/a/0.png", "train/b/0.png", "Test/a/0.png"], "holds the parts Test, train of a"),
        (["letters/a/0.png", "letters/b/0.png"], r"letters/a/0.png, .* data\.root=.*/letters,"),
        (["upper/A/0.png", "lower/a/0.png"], r"folders only, such as lower/a/0\.png"),
        (["unpacked/english.csv"], "set data.root to the folder of unpacked/english.csv"),
        (["Img/0.png", "labels.xlsx"], r"save labels\.xlsx as CSV"),
        (["letters.zip"], r"unpack letters\.zip"),
        (["a_0.png", "b_0.png"], "sort the images into such folders, or list them in a table"),
        (["a/0.png", "b/0.png", "c/0.HEIC"], "c/0.HEIC .*pip install pillow-heif"),
        (["a/0.png", "b/0.png", "b/1.svg"], r"b/1\.svg cannot be read as an image"),
    ],
)
def test_layouts_that_are_rejected(tmp_path: Path, files: list[str], words: str) -> None:
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            square(number).save(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(DataError, match=words):
        load(tmp_path)


def test_table_beside_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path, ["a", "b"])
    (tmp_path / "some.csv").write_text("image,label\na/0.png,x\nb/0.png,y\n")
    assert load(tmp_path).charset.names == ("x", "y")
    words = "some.csv gives the labels, not the folders; 4 of 6 images are not in it and left out"
    assert words in capsys.readouterr().err


def test_writers_in_names(tmp_path: Path) -> None:
    """img001-00012.png is a sample of the fonts of Chars74K, which have no writers."""
    for digits, writers in ((3, [1, 2, 1, 2]), (5, None)):
        for label in "12":
            root = tmp_path / str(digits)
            (root / label).mkdir(parents=True)
            for number in (1, 2):
                square(number).save(root / label / f"img00{label}-{number:0{digits}d}.png")
        found = load(root).writers
        assert (None if found is None else found.tolist()) == writers


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty/inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"neither a table .* nor folders .*data=synthetic"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no data folder .*data\.root or HWR_DATA.*data=synthetic"):
        FolderDataset("mine", tmp_path / "absent")
    table(tmp_path, [("0.png", "only"), ("1.png", "only")])
    with pytest.raises(DataError, match="has one class only, 'only'"):
        CharacterDataModule(load(tmp_path)).setup()  # hwr-evaluate takes it


def test_columns_of_a_table(tmp_path: Path) -> None:
    rows = [(f"p{n}.png", "yes" if n % 2 else "no, never", f"w{n // 2}") for n in range(6)]
    root = table(tmp_path / "own", rows, "path,meaning,who")
    names = ["data.image_column=path", "data.label_column=meaning"]
    data = load(root, *names)
    assert data.charset.names == ("no, never", "yes")
    assert data.writers is None
    data = load(root, *names, "data.writer_column=who")
    assert data.writers is not None
    assert data.writers.tolist() == [0, 0, 1, 1, 2, 2]
    (root / "other.csv").write_text("image,label\n")
    assert load(root, *names, "data.csv=rows.csv").files == data.files
    with pytest.raises(DataError, match=r"other\.csv, rows\.csv; choose one with data\.csv="):
        load(root, *names)


def test_labels_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    labels = ["cafe\u0301", "b", "caf\u00e9"]
    root = table(tmp_path / "own", [(f"{n}.png", label) for n, label in enumerate(labels)])
    assert load(root).charset.names == ("b", "caf\u00e9")


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    class_folders(tmp_path, ["a", "b"])
    os.rename(tmp_path / "b", os.path.join(os.fsencode(tmp_path), b"\xffcls"))
    with pytest.raises(DataError, match=r"3 wrong: .*'\\udcffcls' is not UTF-8"):
        load(tmp_path)
