"""EMNIST from small files of its own format, through torchvision's reader."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from hwr import data, synthetic
from hwr.config import compose
from hwr.datamodule import CharacterData
from hwr.errors import ConfigError, DataError
from hwr.train import build

BALANCED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"


def write(
    root: Path, variant: str, part: str, image: np.ndarray, label: np.ndarray, lie: int = 0
) -> None:
    """Pictures (N, 28, 28) as read by people, black on white, as EMNIST stores them."""
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
    train = data.load(compose([*settings, "data.part=train"]).data)
    assert "".join(train.alphabet.names) == names
    np.testing.assert_array_equal(train.image, image)
    np.testing.assert_array_equal(train.label, label)
    both = data.load(compose(settings).data)
    np.testing.assert_array_equal(both.image, np.concatenate([image, image[::-1]]))
    assert both.files[0] == "train-000000"
    assert both.files[-1] == f"test-{len(label) - 1:06d}"
    assert both.fingerprint != train.fingerprint


def test_another_size_keeps_the_shape(tmp_path: Path) -> None:
    image, label = upright(62, 1)
    image[:] = 255
    image[:, 4:24, 12:16] = 0  # a bar in the middle
    write(tmp_path, "byclass", "test", image, label)
    settings = ["data=emnist", f"data.root={tmp_path}", "data.part=test"]
    wide = data.load(compose([*settings, "data.height=30", "data.width=40"]).data).image[0]
    assert wide.shape == (30, 40)
    rows, columns = np.nonzero(wide < 128)
    assert (rows.min() + rows.max()) / 2 == 14.5
    assert (columns.min() + columns.max()) / 2 == 19.5
    assert 20 <= np.ptp(rows) + 1 <= 22
    assert (wide[:, :5] == 255).all()


def test_a_model_of_one_set_reads_the_other(tmp_path: Path) -> None:
    image, label = upright(47, 4)
    write(tmp_path, "balanced", "train", image, label)
    settings = ["data=emnist", f"data.root={tmp_path}", "data.variant=balanced", "data.part=train"]
    config = compose([*settings, "data.height=30", "data.width=40", "split.val_size=0"])
    batches = CharacterData(config.data, config.split)
    english = data.load(compose(["data=synthetic", "data.writers=1"]).data).alphabet
    model = build(config.model, english, config.data)
    pictures, _ = next(iter(batches.test_dataloader()))
    assert model(pictures).shape == (47, 62)
    assert set(batches.alphabet.names) <= set(model.alphabet.names)
    assert pictures.dtype == torch.float32


def test_missing_and_broken_files(tmp_path: Path) -> None:
    settings = ["data=emnist", f"data.root={tmp_path}", "data.part=train"]
    with pytest.raises(DataError, match=r"emnist-byclass-train-images-idx3.*data\.download=true"):
        data.load(compose(settings).data)
    image, label = upright(62, 1)
    write(tmp_path, "byclass", "train", image, label)
    file = tmp_path / "EMNIST/raw/emnist-byclass-train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="EMNIST"):
        data.load(compose(settings).data)
    write(tmp_path, "byclass", "train", image, label[:-1])
    with pytest.raises(DataError, match="don't match"):
        data.load(compose(settings).data)
    write(tmp_path, "byclass", "train", image, label + 100)
    with pytest.raises(DataError, match="don't match"):
        data.load(compose(settings).data)
    with pytest.raises(ConfigError, match=r"data\.variant=letters must be byclass or balanced"):
        compose([*settings, "data.variant=letters"])
