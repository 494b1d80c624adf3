"""Tables, pictures, the cache: what is read, and what is refused."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from english import CLASSES, WRITERS, draw
from PIL import Image

from hwr import data, images, synthetic
from hwr.config import compose
from hwr.data import Characters
from hwr.errors import DataError


def load(root: Path, *overrides: str) -> Characters:
    data._kept.clear()  # as another process would
    return data.load(compose([f"data.root={root}", *overrides]).data)


def rewrite(root: Path, rows: list[str], header: str = "image,label") -> None:
    (root / "english.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def rows(root: Path) -> list[str]:
    return (root / "english.csv").read_text(encoding="utf-8").splitlines()[1:]


def test_arrays(english: Path) -> None:
    chars = load(english)
    assert chars.alphabet.names == tuple(CLASSES)
    assert chars.image.shape == (len(CLASSES) * WRITERS, 30, 40)
    assert chars.writer is not None
    for row, (file, image) in enumerate(zip(chars.files, chars.image, strict=True)):
        with Image.open(english / file) as picture:
            np.testing.assert_array_equal(image, picture.convert("L").resize((40, 30)))
        assert file.endswith(f"-{chars.writer[row]:03d}.png")
        assert synthetic.CHARACTERS[int(file[7:10]) - 1] == CLASSES[chars.label[row]]


@pytest.mark.parametrize("place", ["img", "."])
def test_places(tmp_path: Path, english: Path, place: str) -> None:
    other = draw(tmp_path / "other", place)
    assert load(other).fingerprint == load(english).fingerprint
    np.testing.assert_array_equal(load(other).image, load(english).image)


def test_order_of_rows_does_not_matter(english: Path) -> None:
    before = load(english)
    rewrite(english, rows(english)[::-1])
    after = load(english)
    assert before.files == after.files
    np.testing.assert_array_equal(before.image, after.image)
    np.testing.assert_array_equal(before.label, after.label)


def test_labels_are_never_taken_for_numbers_or_gaps(english: Path) -> None:
    kept = rows(english)
    rewrite(english, [row.replace(",0", ",NA").replace(",1", ",nan") for row in kept])
    assert load(english).alphabet.names == ("9", "A", "NA", "a", "nan")


@pytest.mark.parametrize("long", ["1" + "0" * 20, "9" * 5000])
def test_a_writer_of_many_digits_is_a_name(english: Path, long: str) -> None:
    named = [f"{row},{long if row.startswith('Img/img001') else '07'}" for row in rows(english)]
    rewrite(english, named, "image,label,writer")
    found = load(english)
    assert found.writer is not None
    numbers = [int(not file.startswith("Img/img001")) for file in found.files]
    assert found.writer.tolist() == [number ^ (long > "07") for number in numbers]


def test_cache(english: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = f"data.cache={tmp_path / 'cache'}"
    first = load(english, cache)
    decoded: list[object] = []
    true_read = images.read

    def counted(*arguments: object) -> object:
        decoded.append(arguments)
        return true_read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "read", counted)
    load(english, cache)
    assert not decoded
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-3000])
    np.testing.assert_array_equal(load(english, cache).image, first.image)
    assert len(decoded) == len(first.files)
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    np.testing.assert_array_equal(load(english, cache).image, first.image)
    assert len(decoded) == 2 * len(first.files)
    changed = english / first.files[0]
    Image.new("RGB", (1200, 900), "black").save(changed)
    assert not load(english, cache).image[0].any()
    rewrite(english, rows(english)[:-1])
    assert len(load(english, cache).files) == len(first.files) - 1
    changed.unlink()
    with pytest.raises(DataError, match="missing"):
        load(english, cache)


def test_a_process_reads_a_set_once(english: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(english)
    config = compose([f"data.root={english}", "data.batch_size=7"]).data
    with monkeypatch.context() as patch:
        patch.setattr(data, "_read", None)
        assert data.load(config).image is first.image
    Image.new("RGB", (1200, 900), "black").save(english / first.files[0])
    assert not data.load(config).image[0].any()


def test_cache_that_cannot_be_written(
    english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert len(load(english, f"data.cache={tmp_path / 'file/cache'}").files) == 20
    assert "without a cache" in capsys.readouterr().err


def test_two_processes_on_a_cold_cache(english: Path, tmp_path: Path) -> None:
    code = (
        "from hwr import compose, data; import sys;"
        "print(data.load(compose(sys.argv[1:]).data).image.sum())"
    )
    command = [sys.executable, "-c", code]
    command += [f"data.root={english}", f"data.cache={tmp_path / 'cache'}"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != ""
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no table .*data=synthetic"),
        (b"", "is empty"),
        (b"image,label\n", "no rows"),
        (b"file,label\na.png,0\n", "lacks the column image; it has file, label"),
        ("image,label\na.png,\u00e9\n".encode("latin-1"), "not UTF-8"),
        (b'image,label\n"a.png,0\n', "not a table"),
    ],
)
def test_bad_tables(english: Path, content: bytes | None, words: str) -> None:
    (english / "english.csv").unlink()
    if content is not None:
        (english / "english.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(english)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data folder .*data\.root=.*HWR_DATA.*data=synthetic"):
        load(tmp_path / "absent")


def test_all_bad_rows_are_named_at_once(english: Path) -> None:
    kept = rows(english)
    files = [english / row.partition(",")[0] for row in kept]
    files[0].unlink()
    files[1].write_text("no picture")
    files[2].write_bytes(files[2].read_bytes()[:3000])
    files[3].write_bytes(b"")
    rewrite(english, [*kept, "../x.png,a", "/etc/passwd,a", kept[5], "Img/none.png,a", ",a"])
    with pytest.raises(DataError) as error:
        load(english)
    said = str(error.value)
    for words in (
        "9 rows are wrong",
        "row 1: Img/img001-001.png is missing",
        "row 2: Img/img002-001.png cannot be read as a picture",
        "row 3: Img/img010-001.png cannot be read as a picture",
        "row 4: Img/img011-001.png has zero bytes",
        "row 21: ../x.png lies outside the data folder",
        "row 22: /etc/passwd lies outside",
        "row 23: Img/img001-002.png stands in row 6 already",
        "row 24: Img/none.png is missing",
        "row 25: no file name",
    ):
        assert words in said
    assert "\n" not in said


def test_the_first_twenty_bad_rows_are_named(english: Path) -> None:
    rewrite(english, [f"Img/absent{number}.png,a" for number in range(25)])
    with pytest.raises(DataError, match=r"25 rows are wrong: .*row 20: .*; and 5 more$"):
        load(english)


def test_pictures_that_no_row_names(english: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(english, rows(english)[2:])
    load(english)
    assert "2 pictures that no row of english.csv names" in capsys.readouterr().err


def test_real_set(real: Path) -> None:
    chars = load(real)
    assert chars.image.shape == (3410, 30, 40)
    assert "".join(chars.alphabet.names) == synthetic.CHARACTERS
    assert chars.writer is not None
    assert set(chars.writer) == set(range(1, 56))


def test_threads_keep_the_order_and_stay_near(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(data, "AHEAD", 3)

    def work(number: int) -> int:
        taken.append(number)
        return -number

    results = data.in_threads(work, range(1000), "", "", at_once=4)
    assert next(results) == 0
    assert len(taken) <= 4 * 4
    assert list(results) == [-number for number in range(1, 1000)]
    assert sorted(taken) == list(range(1000))


@pytest.mark.parametrize("parts", [[], ["a"], ["a", ("b", 1)]])
def test_a_fingerprint_is_that_of_the_list(parts: list[object]) -> None:
    assert data._hash(iter(parts)) == hashlib.sha256(repr(parts).encode()).hexdigest()


def test_synthetic_set(tmp_path: Path) -> None:
    settings = ["data=synthetic", "data.writers=2", f"data.cache={tmp_path}"]
    one, again = (data.load(compose(settings).data) for _ in range(2))
    np.testing.assert_array_equal(one.image, again.image)
    assert "".join(one.alphabet.names) == synthetic.CHARACTERS
    three = data.load(compose([*settings, "data.writers=3"]).data)
    np.testing.assert_array_equal(
        one.image, three.image.reshape(62, 3, 30, 40)[:, :2].reshape(-1, 30, 40)
    )
    other = data.load(compose([*settings, "data.seed=1"]).data)
    assert not np.array_equal(one.image, other.image)
    picture = synthetic.pictures(1, 0)[0]
    assert picture.size == (1200, 900)
    assert set(np.unique(picture)) == {0, 255}
    assert one.files[:3] == ("Img/img001-001.png", "Img/img001-002.png", "Img/img002-001.png")
