"""EMNIST from small files of its own format, through torchvision's reader."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from hwr.config.compose import compose
from hwr.data import EmnistDataset, load_dataset, synthetic
from hwr.errors import ConfigError, DataError
from hwr.preprocessing.preprocessor import Preprocessor

BALANCED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"


def write(
    root: Path, variant: str, part: str, image: np.ndarray, label: np.ndarray, lie: int = 0
) -> None:
    """Write upright images (N, 28, 28), black on white, as EMNIST stores them."""
    folder = root / "EMNIST/raw"
    folder.mkdir(parents=True, exist_ok=True)
    stored = 255 - image.transpose(0, 2, 1)
    head = struct.pack(">IIII", 0x803, len(image), 28, 28)
    (folder / f"emnist-{variant}-{part}-images-idx3-ubyte").write_bytes(head + stored.tobytes())
    head = struct.pack(">II", 0x801, len(label) + lie)
    (folder / f"emnist-{variant}-{part}-labels-idx1-ubyte").write_bytes(
        head + label.astype(np.uint8).tobytes()
    )


def upright(classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    label = np.tile(np.arange(classes), each)
    return random.integers(0, 256, (len(label), 28, 28), dtype=np.uint8), label


@pytest.mark.parametrize(
    ("variant", "names"), [("byclass", synthetic.CHARACTERS), ("balanced", BALANCED)]
)
def test_upright_and_in_order(tmp_path: Path, variant: str, names: str) -> None:
    image, label = upright(len(names), 2)
    write(tmp_path, variant, "train", image, label)
    write(tmp_path, variant, "test", image[::-1], label[::-1])
    settings = ["data=emnist", f"data.root={tmp_path}", f"data.variant={variant}"]
    train = load_dataset(compose([*settings, "data.part=train"]).data)
    assert "".join(train.charset.names) == names
    np.testing.assert_array_equal(train.images[:, 0], image)
    np.testing.assert_array_equal(train.labels, label)
    both = load_dataset(compose(settings).data)
    np.testing.assert_array_equal(both.images[:, 0], np.concatenate([image, image[::-1]]))
    assert both.files[0] == "train-000000"
    assert both.files[-1] == f"test-{len(label) - 1:06d}"
    assert both.fingerprint != train.fingerprint
    assert both.writers is None


def test_another_size_keeps_the_shape(tmp_path: Path) -> None:
    image, label = upright(62, 1)
    image[:] = 255
    image[:, 4:24, 12:16] = 0  # a bar in the middle
    write(tmp_path, "byclass", "test", image, label)
    settings = ["data=emnist", f"data.root={tmp_path}", "data.part=test"]
    wide = load_dataset(compose([*settings, "data.height=30", "data.width=40"]).data).images[0, 0]
    assert wide.shape == (30, 40)
    rows, columns = np.nonzero(wide.numpy() < 128)
    assert (rows.min() + rows.max()) / 2 == 14.5
    assert (columns.min() + columns.max()) / 2 == 19.5
    assert 20 <= np.ptp(rows) + 1 <= 22
    assert (wide[:, :5] == 255).all()


def test_ink_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, label = upright(62, 1)
    write(tmp_path, "byclass", "test", image, label)
    folder, cache = str(tmp_path), str(tmp_path / "cache")

    def load() -> torch.Tensor:
        return EmnistDataset("e", folder, part="test", preprocessing="ink", cache=cache).images

    first = load()
    assert first.shape == (62, 1, 28, 28)
    with monkeypatch.context() as patch:
        patch.setattr(Preprocessor, "__call__", None)
        assert torch.equal(load(), first)
    assert EmnistDataset("e", folder, part="test", channels=3).images.shape == (62, 3, 28, 28)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    settings = ["data=emnist", f"data.root={tmp_path}", "data.part=train"]
    with pytest.raises(DataError, match=r"emnist-byclass-train.*data\.download=true"):
        load_dataset(compose(settings).data)
    image, label = upright(62, 1)
    write(tmp_path, "byclass", "train", image, label)
    file = tmp_path / "EMNIST/raw/emnist-byclass-train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot read EMNIST"):
        load_dataset(compose(settings).data)
    write(tmp_path, "byclass", "train", image, label[:-1])
    with pytest.raises(DataError, match="cannot read EMNIST"):
        load_dataset(compose(settings).data)
    write(tmp_path, "byclass", "train", image, label + 100)
    with pytest.raises(DataError, match="cannot read EMNIST"):
        load_dataset(compose(settings).data)
    with pytest.raises(ConfigError, match=r"data\.variant=letters must be one of byclass"):
        compose([*settings, "data.variant=letters"])
