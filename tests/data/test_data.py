"""Tables, images, the cache: what is read, and what is rejected."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from english import CLASSES, WRITERS, draw
from PIL import Image

from hwr.config.compose import compose
from hwr.data import CharacterDataset, FolderDataset, cache, drawing, folder, load_dataset
from hwr.errors import ConfigError, DataError
from hwr.preprocessing import images


def load(root: Path, *overrides: str) -> CharacterDataset:
    folder._decoded.cache_clear()  # as another process would
    return load_dataset(compose([f"data.root={root}", *overrides]).data)


def rewrite(root: Path, rows: list[str], header: str = "image,label") -> None:
    (root / "english.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def rows(root: Path) -> list[str]:
    return (root / "english.csv").read_text(encoding="utf-8").splitlines()[1:]


def test_arrays(english: Path) -> None:
    chars = load(english)
    assert chars.charset.names == tuple(CLASSES)
    assert chars.images.shape == (len(CLASSES) * WRITERS, 1, 30, 40)
    assert chars.writers is not None
    for row, (file, image) in enumerate(zip(chars.files, chars.images, strict=True)):
        with Image.open(english / file) as original:
            np.testing.assert_array_equal(image[0], original.convert("L").resize((40, 30)))
        assert file.endswith(f"-{chars.writers[row]:03d}.png")
        assert drawing.CHARACTERS[int(file[7:10]) - 1] == CLASSES[chars.labels[row]]


@pytest.mark.parametrize("place", ["img", "."])
def test_places(tmp_path: Path, english: Path, place: str) -> None:
    other = draw(tmp_path / "other", place)
    assert load(other).fingerprint == load(english).fingerprint
    np.testing.assert_array_equal(load(other).images, load(english).images)


def test_order_of_rows_does_not_matter(english: Path) -> None:
    before = load(english)
    rewrite(english, rows(english)[::-1])
    after = load(english)
    assert before.files == after.files
    np.testing.assert_array_equal(before.images, after.images)
    np.testing.assert_array_equal(before.labels, after.labels)


def test_labels_are_never_taken_for_numbers_or_gaps(english: Path) -> None:
    kept = rows(english)
    rewrite(english, [row.replace(",0", ",NA").replace(",1", ",nan") for row in kept])
    assert load(english).charset.names == ("9", "A", "NA", "a", "nan")


@pytest.mark.parametrize("long", ["1" + "0" * 20, "9" * 5000])
def test_a_writer_of_many_digits_is_a_name(english: Path, long: str) -> None:
    named = [f"{row},{long if row.startswith('Img/img001') else '07'}" for row in rows(english)]
    rewrite(english, named, "image,label,writer")
    found = load(english)
    assert found.writers is not None
    numbers = [int(not file.startswith("Img/img001")) for file in found.files]
    assert found.writers.tolist() == [number ^ (long > "07") for number in numbers]


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
    np.testing.assert_array_equal(load(english, cache).images, first.images)
    assert len(decoded) == len(first.files)
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    np.testing.assert_array_equal(load(english, cache).images, first.images)
    assert len(decoded) == 2 * len(first.files)
    changed = english / first.files[0]
    Image.new("RGB", (1200, 900), "black").save(changed)
    assert not load(english, cache).images[0].any()
    rewrite(english, rows(english)[:-1])
    assert len(load(english, cache).files) == len(first.files) - 1
    changed.unlink()
    with pytest.raises(DataError, match="missing"):
        load(english, cache)


def test_a_process_reads_a_dataset_once(english: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(english)
    node = compose([f"data.root={english}", "data.batch_size=7"]).data
    with monkeypatch.context() as patch:
        patch.setattr(folder, "cached", None)
        assert load_dataset(node).images.data_ptr() == first.images.data_ptr()
    Image.new("RGB", (1200, 900), "black").save(english / first.files[0])
    assert not load_dataset(node).images[0].any()


def test_cache_that_cannot_be_written(
    english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert len(load(english, f"data.cache={tmp_path / 'file/cache'}").files) == 20
    assert "without a cache" in capsys.readouterr().err


def test_two_processes_on_a_cold_cache(english: Path, tmp_path: Path) -> None:
    code = (
        "from hwr import compose, data; import sys;"
        "print(data.load_dataset(compose(sys.argv[1:]).data).images.sum())"
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
        "row 2: Img/img002-001.png cannot be read as an image",
        "row 3: Img/img010-001.png cannot be read as an image",
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


def test_images_that_no_row_names(english: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(english, rows(english)[2:])
    load(english)
    assert "english.csv are in no row of it" in capsys.readouterr().err


def test_real_set(real: Path) -> None:
    chars = load(real)
    assert chars.images.shape == (3410, 1, 30, 40)
    assert "".join(chars.charset.names) == drawing.CHARACTERS
    assert chars.writers is not None
    assert set(chars.writers) == set(range(1, 56))


@pytest.mark.parametrize("chunk", [1, 16])
def test_threads_keep_the_order(chunk: int) -> None:
    assert cache.in_threads(lambda n: -n, range(1000), "", "", chunk) == [-n for n in range(1000)]
    with pytest.raises(ZeroDivisionError):
        cache.in_threads(lambda n: 1 / n, range(1000), "", "", chunk)


@pytest.mark.parametrize("parts", [[], ["a"], ["a", ("b", 1)]])
def test_a_hash_is_that_of_the_list(parts: list[object]) -> None:
    assert cache.hash_of(iter(parts)) == hashlib.sha256(repr(parts).encode()).hexdigest()


def test_batches_are_cut_whole(english: Path) -> None:
    dataset = load(english)
    images, labels = dataset.__getitems__([3, 1])
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    image, label = dataset[1]
    assert torch.equal(images[1], image)
    assert labels[1] == label
    assert torch.equal(image, dataset.images[1] / 255)


def test_color_images(english: Path) -> None:
    red = Image.new("RGB", (120, 90), (255, 0, 10))
    file = load(english).files[0]
    red.save(english / file)
    color = load(english, "data.channels=3")
    assert color.images.shape == (20, 3, 30, 40)
    assert color.images[0, :, 0, 0].tolist() == [255, 0, 10]
    gray = load(english)
    assert gray.images.shape == (20, 1, 30, 40)
    assert color.fingerprint == gray.fingerprint
    with pytest.raises(ConfigError, match=r"data\.preprocessing=ink .* data\.channels=3"):
        FolderDataset("mine", english, preprocessing="ink", channels=3)


def test_a_dataset_from_arguments(english: Path) -> None:
    dataset = FolderDataset("mine", english)
    assert (dataset.name, dataset.height, dataset.width, dataset.channels) == ("mine", 30, 40, 1)
    assert torch.equal(dataset.images, load(english).images)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "hwr.data.FolderDataset", "nmae": "a"}, r"^data: .*nmae"),
        ({"_target_": "no_such_package.Dataset"}, r"^data: .*no_such_package"),
        ({"_target_": "hwr.data.FolderDataset", "name": "a", "root": "absent"}, "no data folder"),
        ({"_target_": "builtins.list"}, "list is empty"),
        ({"_target_": "fractions.Fraction"}, "Fraction must have __len__"),
    ],
)
def test_nodes_that_are_no_dataset(node: dict[str, str], words: str) -> None:
    with pytest.raises((ConfigError, DataError), match=words) as error:
        load_dataset(node)
    assert "\n" not in str(error.value)


def test_importing_the_room_brings_no_torch() -> None:
    code = "import sys, hwr.data, hwr.data.drawing, hwr.data.table, hwr.cli.data, hwr.data.fetch;"
    code += "sys.exit('torch' in sys.modules or 'pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys; from hwr.data import FolderDataset, load_split;"
    code += "sys.exit('pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
