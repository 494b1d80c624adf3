"""Own datasets: tables and folders of any form, charsets of any size, images of any kind."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import hwr
from hwr.config.compose import compose
from hwr.data import CharacterDataset, WriterSplit, load_dataset
from hwr.errors import ConfigError, DataError
from hwr.preprocessing import images
from hwr.reporting.dataset import show
from hwr.training.train import train


def load(root: Path, *overrides: str) -> CharacterDataset:
    return load_dataset(compose(["data=folder", f"data.root={root}", *overrides]).data)


def picture(number: int, size: tuple[int, int] = (60, 45)) -> Image.Image:
    """White paper with a black square whose place depends on the number."""
    sheet = Image.new("RGB", size, "white")
    x, y = 5 + 7 * (number % 5), 5 + 6 * (number // 5 % 5)
    sheet.paste((0, 0, 0), (x, y, x + 8, y + 8))
    return sheet


def folders(root: Path, labels: list[str], each: int = 3) -> Path:
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for copy in range(each):
            picture(number).save(root / label / f"{copy}.png")
    return root


def table(root: Path, rows: list[tuple[str, ...]], header: str = "image,label") -> Path:
    root.mkdir(exist_ok=True)
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    for number, row in enumerate(rows):
        if row[0] and not (root / row[0]).exists():
            picture(number).save(root / row[0])
    return root


def test_a_folder_for_every_class(tmp_path: Path) -> None:
    root = folders(tmp_path / "own", ["alpha", "ß", "漢", "10"])
    (root / "alpha/notes.txt").write_text("no picture")
    (root / ".git").mkdir()
    chars = load(root)
    assert chars.charset.names == ("10", "alpha", "ß", "漢")
    assert chars.images.shape == (12, 1, 30, 40)
    assert chars.writers is None
    assert {file.partition("/")[0] for file in chars.files} == {"alpha", "ß", "漢", "10"}
    for file, label in zip(chars.files, chars.labels, strict=True):
        assert file.startswith(chars.charset.names[label] + "/")


def test_any_table(tmp_path: Path) -> None:
    rows = [(f"p{n}.png", "yes" if n % 2 else "no, never", f"w{n // 2}") for n in range(6)]
    root = table(tmp_path / "own", rows, "path,meaning,who")
    names = ["data.image_column=path", "data.label_column=meaning"]
    chars = load(root, *names)
    assert chars.charset.names == ("no, never", "yes")
    assert chars.writers is None
    chars = load(root, *names, "data.writer_column=who")
    assert chars.writers is not None
    assert chars.writers.tolist() == [0, 0, 1, 1, 2, 2]
    assert load(root, *names, "data.csv=rows.csv").files == chars.files
    with pytest.raises(DataError, match=r"lacks the column image and label; it has path"):
        load(root)
    (root / "other.csv").write_text("image,label\n")
    with pytest.raises(DataError, match=r"other\.csv, rows\.csv; choose one with data\.csv="):
        load(root, *names)


def test_sizes_are_settings(tmp_path: Path) -> None:
    root = folders(tmp_path / "own", ["a", "b"], 2)
    picture(0, (900, 700)).save(root / "a/0.png")  # mixed sizes are allowed
    chars = load(root, "data.height=16", "data.width=20")
    assert chars.images.shape == (4, 1, 16, 20)
    with Image.open(root / "a/0.png") as found:
        np.testing.assert_array_equal(chars.images[0, 0], found.convert("L").resize((20, 16)))
    with pytest.raises(ConfigError, match=r"data\.height=11 data\.width=40 is too small"):
        compose(["data=folder", "data.height=11", "model=cnn"])
    with pytest.raises(ConfigError, match=r"data\.width=0 must lie between 1 and"):
        compose(["data=folder", "data.width=0", "model=mlp"])


def test_thousands_of_classes(tmp_path: Path) -> None:
    rows = [(f"p{n % 25}.png", f"word {n:04d}") for n in range(2000)]
    root = tmp_path / "own"
    root.mkdir()
    for number in range(2000):
        picture(number).save(root / f"{number:04d}.png")
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("image", "label"), *((f"{n:04d}.png", r[1]) for n, r in enumerate(rows))]
        )
    chars = load(root)
    assert len(chars.charset) == 2000
    assert chars.labels.tolist() == list(range(2000))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["only"], "has one class only, 'only'"),
        (["caf\u00e9", "cafe\u0301"], "both 'cafe?.*' in two Unicode forms"),
    ],
)
def test_classes_that_are_none(tmp_path: Path, labels: list[str], words: str) -> None:
    root = table(tmp_path / "own", [(f"{n}.png", labels[n % len(labels)]) for n in range(4)])
    with pytest.raises(DataError, match=words):
        load(root)


def test_labels_are_composed(tmp_path: Path) -> None:
    root = table(tmp_path / "own", [("0.png", "cafe\u0301"), ("1.png", "b")])
    assert load(root).charset.names == ("b", "caf\u00e9")


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty/inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"neither a table .* nor folders .*data=synthetic"):
        load(tmp_path / "empty")


def test_a_broken_picture_in_a_class_folder(tmp_path: Path) -> None:
    root = folders(tmp_path / "own", ["a", "b"])
    (root / "a/1.png").write_text("no picture")
    with pytest.raises(DataError, match=r"1 image is wrong: a/1\.png cannot be read"):
        load(root)


def test_a_class_that_is_in_the_test_part_only(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "rare" if n == 0 else "ab"[n % 2], f"w{n // 4}") for n in range(16)]
    chars = load(table(tmp_path / "own", rows, "image,label,writer"))
    said = []
    for fold in range(4):
        split = WriterSplit(folds=4, fold=fold, val_size=0)
        try:
            split.split(chars.labels.numpy(), chars.writers, chars.charset.names)
        except DataError as error:
            said.append(str(error))
    assert len(said) == 1
    assert "test part has the class 'rare', which no training image shows" in said[0]


def read(picture: Image.Image, kind: str = "PNG", **settings: object) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    file.seek(0)
    return images.read(file, "notebook", 45, 60, 10_000)


def test_modes() -> None:
    sheet = picture(7)
    expected = np.asarray(sheet.convert("L"))
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA"):
        np.testing.assert_array_equal(read(sheet.convert(mode)), expected, mode)
    np.testing.assert_array_equal(read(sheet.convert("CMYK"), "TIFF"), expected)
    deep = Image.fromarray(np.asarray(sheet.convert("L")).astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(deep), expected)
    np.testing.assert_array_equal(read(deep, "TIFF"), expected)
    clear = Image.new("RGBA", sheet.size, (0, 0, 0, 0))  # transparent black is white paper
    clear.paste((0, 0, 0, 255), (20, 20, 28, 28))
    found = read(clear)
    assert found[0, 0] == 255
    assert found[24, 24] == 0
    turned = sheet.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: turn it clockwise
    np.testing.assert_array_equal(read(turned, exif=exif), expected)


def test_images_that_are_rejected(tmp_path: Path) -> None:
    frames = [picture(n) for n in range(3)]
    with pytest.raises(ValueError, match="several frames"):
        read(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="floating-point"):
        read(Image.new("F", (60, 45)), "TIFF")
    with pytest.raises(ValueError, match="101 x 100 pixels are more than allowed"):
        read(Image.new("1", (101, 100)))
    root = folders(tmp_path / "own", ["a", "b"])
    Image.new("1", (20_000, 20_000)).save(root / "a/0.png")
    Image.new("1", (10_000, 10_000)).save(root / "b/0.png")
    with pytest.raises(DataError, match=r"2 images are wrong: .*more.*pixels"):
        load(root)


def test_ten_digits_from_arrays_to_a_checkpoint(tmp_path: Path) -> None:
    digits = load_digits()
    root = tmp_path / "digits"
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        grey = (255 - np.minimum(image * 16, 255)).astype(np.uint8)
        Image.fromarray(grey).save(root / str(label) / f"{number:04d}.png")
    settings = ["data=folder", f"data.root={root}", "data.height=24", "data.width=32"]
    config = compose([*settings, "model=cnn", "trainer.max_epochs=12", "trainer.accelerator=cpu"])
    metrics = train(config, tmp_path / "run")
    assert metrics["test/acc"] > 0.95
    assert metrics["test_images"] == 450
    assert "test/acc_nocase" not in metrics  # digits have no case
    assert "test/acc_lookalike" not in metrics
    assert "test/top3" in metrics
    recognizer = hwr.load(tmp_path / "run")
    assert recognizer.charset.names == tuple("0123456789")
    assert recognizer.size == (24, 32)
    same = hwr.CNN.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt").eval()
    image = torch.rand(2, 1, 24, 32)
    assert torch.equal(recognizer.model(image), same(image))
    assert json.loads((tmp_path / "run/metrics.json").read_text())["data"] == "folder"
    with pytest.raises(ConfigError, match="monitor=val/acc_nocase must be one of"):
        train(compose([*settings, "monitor=val/acc_nocase"]), tmp_path / "other")


def test_labels_of_any_characters_through_a_run(tmp_path: Path) -> None:
    labels = ["a/b", "$x$", "漢", "x" * 200, "co,ma", 'qu"o', "new\nline", "|`"]
    root = table(tmp_path / "own", [(f"p {n}.png", labels[n % 8]) for n in range(32)])
    settings = ["data=folder", f"data.root={root}", "model=mlp", "trainer.max_epochs=1"]
    train(compose([*settings, "split.val_size=0", "trainer.accelerator=cpu"]), tmp_path / "run")
    with (tmp_path / "run/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(labels)
    card = (tmp_path / "run/README.md").read_text(encoding="utf-8")
    assert all(line.count("|") == 4 for line in card.splitlines() if line.startswith("| `"))
    shown = show(compose(settings[:2]).data, tmp_path / "shown")
    assert "8 classes of 4 images" in shown
    assert "\x1b" not in shown


def test_tables_that_would_be_misread(tmp_path: Path) -> None:
    root = table(tmp_path / "own", [("0.png", "a", "b"), ("1.png", "c", "d")], "image,label,label")
    with pytest.raises(DataError, match="has two columns label"):
        load(root)
    (root / "rows.csv").write_text("image;label\n0.png;a\n")
    with pytest.raises(DataError, match="must be separated by commas"):
        load(root)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folders(tmp_path, ["a", "b"])
    os.rename(tmp_path / "b", os.path.join(os.fsencode(tmp_path), b"\xffcls"))
    with pytest.raises(DataError, match=r"3 images are wrong: .*'\\udcffcls' is not UTF-8"):
        load(tmp_path)
