"""Folders of images as datasets: images of any kind, and the cache."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from english import CLASSES, WRITERS
from folders import class_folders, load, rewrite, rows_of, square, table
from PIL import Image
from sklearn.datasets import load_digits

import hwr
from hwr.config.compose import compose
from hwr.data import FolderDataset, load_dataset, synthetic
from hwr.data.folder import dataset as dataset_module
from hwr.errors import ConfigError, DataError
from hwr.reporting.dataset import show
from hwr.training.train import train


def test_arrays(english: Path) -> None:
    data = load(english)
    assert data.charset.names == tuple(CLASSES)
    assert data.images.shape == (len(CLASSES) * WRITERS, 1, 30, 40)
    assert data.writers is not None
    for row, (file, image) in enumerate(zip(data.files, data.images, strict=True)):
        with Image.open(english / file) as original:
            np.testing.assert_array_equal(image[0], original.convert("L").resize((40, 30)))
        assert file.endswith(f"-{data.writers[row]:03d}.png")
        assert synthetic.CHARACTERS[int(file[7:10]) - 1] == CLASSES[data.labels[row]]
    direct = FolderDataset("mine", english)
    assert (direct.name, direct.height, direct.width, direct.channels) == ("mine", 30, 40, 1)
    assert torch.equal(direct.images, data.images)


def test_real_set(real: Path) -> None:
    data = load_dataset(compose([f"data.root={real}"]).data)
    assert data.images.shape == (3410, 1, 30, 40)
    assert "".join(data.charset.names) == synthetic.CHARACTERS
    assert data.writers is not None
    assert set(data.writers) == set(range(1, 56))
    # As documented in data/README.md; runs are compared by it.
    assert data.fingerprint == "a29d21e57780e4c787e580c344809e7ab58f1b4ba599c96e6ba97bf88ae7163b"


@pytest.mark.parametrize("name", ["mine", "1" + "0" * 20, "9" * 5000])
def test_writers_with_names(english: Path, name: str) -> None:
    rows = [f"{row},{name if row.startswith('Img/img001') else '07'}" for row in rows_of(english)]
    rewrite(english, rows, "image,label,writer")
    data = load(english)
    assert data.writers is not None
    assert data.writers.tolist() == [int(file.startswith("Img/img001")) for file in data.files]


def test_cache(english: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = f"data.cache={tmp_path / 'cache'}"
    first = load(english, cache)
    decoded: list[object] = []
    original = dataset_module.open_file

    def counted(*arguments: object) -> object:
        decoded.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset_module, "open_file", counted)
    load(english, cache)
    assert not decoded
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for number, broken in enumerate((content[:-3000], flipped, b"", b"nonsense"), start=1):
        file.write_bytes(broken)
        assert torch.equal(load(english, cache).images, first.images)
        assert len(decoded) == number * len(first.files)
        assert file.read_bytes() == content
    changed = english / first.files[0]
    Image.new("RGB", (1200, 900), "black").save(changed)
    assert not load(english, cache).images[0].any()
    changed.unlink()
    with pytest.raises(DataError, match="missing"):
        load(english, cache)


def test_cache_that_cannot_be_written(
    english: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert len(load(english, f"data.cache={tmp_path / 'file/cache'}").files) == 20
    assert "going on without" in capsys.readouterr().err


def test_class_folders(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "own", ["alpha", "ß", "漢", "10"])
    (root / "alpha/notes.txt").write_text("no image")
    (root / ".git").mkdir()
    data = load(root)
    assert data.charset.names == ("10", "alpha", "ß", "漢")
    assert data.images.shape == (12, 1, 30, 40)
    assert data.writers is None
    for file, label in zip(data.files, data.labels, strict=True):
        assert file.startswith(data.charset.names[label] + "/")
    (root / "alpha/1.png").write_text("no image")
    with pytest.raises(DataError, match=r"1 wrong: alpha/1\.png cannot be read"):
        load(root)


def test_images_of_any_kind(tmp_path: Path) -> None:
    """Modes, depths, transparency and orientation don't matter."""
    sheet = square(7)
    modes = ("RGB", "L", "1", "P", "RGBA", "LA")
    kinds = {f"{mode}.png": sheet.convert(mode) for mode in modes}
    kinds["CMYK.tiff"] = sheet.convert("CMYK")
    deep = np.asarray(sheet.convert("L")).astype(np.uint16) * 257
    kinds |= {"deep.png": Image.fromarray(deep), "deep.tiff": Image.fromarray(deep)}
    root = table(tmp_path / "own", [(name, name[0]) for name in kinds])
    for name, image in kinds.items():
        image.save(root / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    sheet.rotate(90, expand=True).save(root / "RGB.png", exif=exif)
    data = load(root, "data.height=45", "data.width=60")
    for image, name in zip(data.images, data.files, strict=True):
        np.testing.assert_array_equal(image[0], sheet.convert("L"), name)


def test_images_that_are_rejected(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "own", ["a", "b"])
    frames = [square(number) for number in range(3)]
    frames[0].save(root / "a/0.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (20_000, 20_000)).save(root / "b/0.png")
    with pytest.raises(DataError, match=r"2 wrong: .*several frames.*pixels"):
        load(root)


def test_color(english: Path) -> None:
    file = load(english).files[0]
    Image.new("RGB", (120, 90), (255, 0, 10)).save(english / file)
    color = load(english, "data.channels=3")
    assert color.images.shape == (20, 3, 30, 40)
    assert color.images[0, :, 0, 0].tolist() == [255, 0, 10]
    assert color.fingerprint == load(english).fingerprint
    with pytest.raises(DataError, match="preprocessing=ink is for gray images"):
        FolderDataset("mine", english, preprocessing="ink", channels=3)


def test_ten_digits_from_arrays_to_a_checkpoint(tmp_path: Path) -> None:
    digits = load_digits()
    root = tmp_path / "digits"
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        gray = (255 - np.minimum(image * 16, 255)).astype(np.uint8)
        Image.fromarray(gray).save(root / str(label) / f"{number:04d}.png")
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
