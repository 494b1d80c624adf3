"""The data module: batches, samplers, transforms, datasets of other kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

from hwr.config.compose import compose
from hwr.data import (
    Augment,
    CharacterDataModule,
    CharacterDataset,
    StratifiedSplit,
    SyntheticDataset,
    WriterSplit,
    load_dataset,
)
from hwr.data.datamodule import TrainingSampler
from hwr.errors import ConfigError, DataError


def ready(data: Any = None, split: Any = None, **settings: Any) -> CharacterDataModule:
    """Set up a data module, by default of four synthetic writers."""
    data = data or SyntheticDataset(writers=4)
    module = CharacterDataModule(data, split or StratifiedSplit(val_size=0), **settings)
    module.setup()
    return module


def test_nodes_of_settings() -> None:
    node = compose(["data=synthetic", "data.writers=2", "data.batch_size=50"]).data
    node.train_transform = COMPOSED
    module = CharacterDataModule(node, compose(["split.val_size=0", "split.test_size=0.5"]).split)
    module.setup()
    assert (module.name, module.preprocessing) == ("synthetic", "notebook")
    assert (module.height, module.width, module.channels) == (30, 40, 1)
    assert len(module.charset) == 62
    assert isinstance(module.dataset, CharacterDataset)
    assert [len(images) for images, _ in module.train_dataloader()] == [50, 12]
    assert isinstance(module.train_transform, v2.Compose)
    assert CharacterDataModule(node, batch_size=7).batch_size == 7
    assert CharacterDataModule(SyntheticDataset(writers=4)).split == StratifiedSplit()


def test_an_epoch() -> None:
    """Every training image comes once, in an order that seed and epoch give."""
    module = ready(batch_size=32)
    loader = module.train_dataloader()
    assert isinstance(loader, DataLoader)
    assert isinstance(loader.sampler, DistributedSampler)
    epochs = []
    for epoch in (0, 0, 1):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 6
        epochs.append(torch.cat([labels for _, labels in batches]))
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[2].sort()[0], module.dataset.labels[module.parts.train].sort()[0])
    others = torch.cat([labels for _, labels in ready(seed=1).train_dataloader()])
    assert not torch.equal(epochs[0], others)
    images, labels = batches[0]
    assert images.shape == (32, 1, 30, 40)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.max() == 1


def test_evaluation_in_order() -> None:
    module = ready(split=StratifiedSplit(test_size=0.5, val_size=0.5), batch_size=8)
    for loader, rows in (
        (module.val_dataloader(), module.parts.val),
        (module.test_dataloader(), module.parts.test),
        (module.predict_dataloader(), module.parts.test),
    ):
        batches = list(loader)
        assert len(batches[0][0]) == min(64, len(rows))
        assert torch.equal(torch.cat([batch[1] for batch in batches]), module.dataset.labels[rows])
        images = torch.cat([batch[0] for batch in batches])
        assert torch.equal(images, module.dataset.images[rows] / 255)
    assert ready().val_dataloader() == []
    assert len(next(iter(ready(batch_size=100).test_dataloader()))[0]) == 62


def test_workers() -> None:
    settings: dict[str, Any] = {"num_workers": 1, "persistent_workers": True, "batch_size": 100}
    loader = ready(**settings).train_dataloader()
    assert (loader.num_workers, loader.persistent_workers, loader.pin_memory) == (1, True, False)
    ahead = [labels for _, labels in loader]
    here = [labels for _, labels in ready(batch_size=100).train_dataloader()]
    assert all(torch.equal(*pair) for pair in zip(ahead, here, strict=True))
    assert not ready(persistent_workers=True).train_dataloader().persistent_workers


def test_groups_are_of_one_writer_and_every_image_comes_once() -> None:
    writers = np.repeat([3, 5, 9], [62, 62, 20])
    sampler = TrainingSampler(TensorDataset(torch.arange(144)), writers=writers)
    longest, groups = [], []
    for epoch in range(50):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(len(writers)))
        changes = np.flatnonzero(np.diff(writers[order])) + 1
        longest.append(max(map(len, np.split(order, changes))))
        groups.append(len(changes))
    assert max(longest) > 40
    assert np.mean(groups) > 5


def test_writer_batches() -> None:
    module = ready(split=WriterSplit(folds=4, val_size=0), writer_batches=True, batch_size=31)
    loader = module.train_dataloader()
    seen = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches = list(loader)
        assert len(batches) == len(loader) == 6
        labels, writers = (torch.cat([batch[k] for batch in batches]) for k in (1, 2))
        assert module.dataset.writers is not None
        assert set(writers.tolist()) == set(module.dataset.writers[module.parts.train].tolist())
        assert len({*zip(labels.tolist(), writers.tolist(), strict=True)}) == 3 * 62
        assert (writers[1:] == writers[:-1]).float().mean() > 0.7
        seen.append(labels)
    assert not torch.equal(*seen)
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    assert torch.equal(torch.cat([batch[1] for batch in loader]), seen[0])
    assert len(next(iter(module.test_dataloader()))) == 2
    dataset = SyntheticDataset(writers=4)
    dataset.writers = None  # each image is a group
    ((_, _, writers),) = ready(dataset, writer_batches=True, batch_size=186).train_dataloader()
    assert len(set(writers.tolist())) == 186


def sampler(writers: np.ndarray | None, **settings: Any) -> TrainingSampler:
    """Order 30 real and 100 synthetic images."""
    return TrainingSampler(TensorDataset(torch.arange(130)), 100, 1.0, writers, **settings)


@pytest.mark.parametrize("grouped", [False, True])
def test_other_synthetic_images_each_epoch(grouped: bool) -> None:
    order = sampler(np.repeat(np.arange(13), 10) if grouped else None)
    seen = []
    for epoch in range(2):
        order.set_epoch(epoch)
        rows = list(order)
        assert len(order) == len(set(rows)) == 60
        assert set(range(30)) < set(rows)
        people = {row // 10 for row in rows if row >= 30}
        assert (len(people) == 3) == grouped  # whole writers, where these matter
        seen.append(set(rows))
    assert seen[0] != seen[1]


def test_processes_share_an_epoch() -> None:
    writers = np.repeat(np.arange(13), 10)
    parts = [list(sampler(writers, num_replicas=7, rank=rank)) for rank in range(7)]
    assert {len(part) for part in parts} == {8}
    rows = list(sampler(writers))
    assert [parts[k % 7][k // 7] for k in range(56)] == rows[:56]


class Shift:
    """A transform of a user's own."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (1, 30, 40)
        assert 0 <= image.min() <= image.max() <= 1
        return image.roll(int(torch.randint(1, 20, ())), 2)


COMPOSED = {
    "_target_": "torchvision.transforms.v2.Compose",
    "transforms": [
        {"_target_": "torchvision.transforms.v2.RandomRotation", "degrees": 30, "fill": 1.0},
        {"_target_": "test_datamodule.Shift"},
    ],
}


@pytest.mark.parametrize(
    ("transform", "workers"), [(Shift(), 0), (v2.RandomRotation(30, fill=1.0), 1), (COMPOSED, 1)]
)
def test_transforms_differ_between_images(transform: Any, workers: int) -> None:
    one = SyntheticDataset(writers=4).images[:1]
    labels = ["a", "b"] * 20
    dataset = CharacterDataset("same", one.expand(40, -1, -1, -1), labels)
    module = ready(dataset, train_transform=transform, batch_size=40, num_workers=workers)
    ((images, _),) = module.train_dataloader()
    assert len(images.unique(dim=0)) > 5
    tested, _ = next(iter(module.test_dataloader()))
    assert torch.equal(tested[0], one[0] / 255)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (v2.Resize((29, 40)), r"float32 \(1, 30, 40\), but .*float32 \(1, 29, 40\)"),
        (v2.ToPILImage(), "returned Image"),
        ({"_target_": "nonsense.Transform"}, r"data\.train_transform: .*nonsense"),
    ],
)
def test_wrong_transforms(transform: Any, words: str) -> None:
    with pytest.raises((DataError, ConfigError), match=words) as error:
        ready(train_transform=transform, num_workers=1).train_dataloader()
    assert "\n" not in str(error.value)


class Pairs(Dataset[Any]):
    """A dataset of a user's own: any items, and any attributes."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def images(count: int = 12, channels: int = 1) -> torch.Tensor:
    total = count * channels * 20
    return torch.arange(total).to(torch.uint8).reshape(count, channels, 4, 5)


def last(image: torch.Tensor) -> np.ndarray:
    """Return an array with the channels last, or none."""
    return image.permute(1, 2, 0).squeeze(2).numpy()


KINDS: dict[str, Any] = {
    "uint8": lambda image: image,
    "float": lambda image: image / 255,
    "flat": lambda image: (image / 255).squeeze(0),
    "tv_tensor": tv_tensors.Image,
    "array": last,
    "array of floats": lambda image: last(image / 255),
    "Pillow": lambda image: Image.fromarray(last(image)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_of_images_of_any_kind(kind: str, channels: int) -> None:
    expected = images(12, channels)
    dataset = Pairs([(KINDS[kind](image), k % 2) for k, image in enumerate(expected)])
    module = ready(dataset, StratifiedSplit(test_size=0.5, val_size=0))
    assert torch.equal(module.dataset.images, expected)
    assert module.name == "Pairs"
    assert module.charset.names == ("0", "1")
    assert module.dataset.files[:2] == ("0", "1")
    assert (module.channels, module.height, module.width) == (channels, 4, 5)
    assert len(next(iter(module.train_dataloader()))[0]) == 6


@pytest.mark.parametrize(
    ("labels", "attributes", "names", "indices"),
    [
        ([10, 9, 10, 9], {}, ("9", "10"), [1, 0, 1, 0]),
        (["b", "a", "b", "a"], {}, ("a", "b"), [1, 0, 1, 0]),
        ([1, 0, 1, 0], {"classes": ["z", "y", "x"]}, ("z", "y", "x"), [1, 0, 1, 0]),
        ([torch.tensor(1), np.int64(0)] * 2, {"classes": ["q", "r"]}, ("q", "r"), [1, 0, 1, 0]),
        (["r", "q", "r", "q"], {"classes": ["r", "q"]}, ("r", "q"), [0, 1, 0, 1]),
    ],
)
def test_labels(
    labels: list[Any], attributes: dict[str, Any], names: tuple[str, ...], indices: list[int]
) -> None:
    pairs = Pairs(list(zip(images(4), labels, strict=True)), **attributes)
    dataset = CharacterDataset.from_dataset(pairs, "mine")
    assert dataset.name == "mine"
    assert dataset.charset.names == names
    assert dataset.labels.tolist() == indices


def test_writers() -> None:
    items = [(image, "ab"[k % 2], f"w{k // 4}") for k, image in enumerate(images())]
    dataset = CharacterDataset.from_dataset(Pairs(items))
    assert dataset.writers is not None
    assert dataset.writers.tolist() == [k // 4 for k in range(12)]
    module = ready(dataset, WriterSplit(folds=3, val_size=0), writer_batches=True)
    assert len(next(iter(module.train_dataloader()))) == 3
    numbered = [(image, label, 7 * (k // 4)) for k, (image, label, _) in enumerate(items)]
    writers = CharacterDataset.from_dataset(Pairs(numbered)).writers
    assert writers is not None
    assert set(writers.tolist()) == {0, 7, 14}


def test_a_dataset_of_torchvision(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            Image.new("L", (12, 10), 50 * number).save(tmp_path / label / f"{number}.png")
    node = {"_target_": "torchvision.datasets.ImageFolder", "name": "mine", "root": str(tmp_path)}
    node |= {"batch_size": 4}  # type: ignore[dict-item]
    module = ready(node)
    assert (module.name, module.batch_size, module.channels) == ("mine", 4, 3)
    assert module.charset.names == ("a", "b")
    assert load_dataset(datasets.ImageFolder(str(tmp_path))).name == "ImageFolder"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "Pairs is empty"),
        (
            [(images()[0], 0), (images()[1][:, 1:], 1)],
            r"differ in size, \[\(1, 3, 5\), \(1",
        ),
        ([(images()[0], 0), images()[1]], r"Pairs\[1\] must be \(image, label\)"),
        ([(images()[0].long(), 0)] * 2, r"Pairs\[0\] has torch.int64 from 0 to 19"),
        ([(images()[0] / 10, 0)] * 2, r"Pairs\[0\] has torch.float32 from 0 to 1.9"),
        ([(images().view(-1, 4, 5), 0)] * 2, r"shape \(12, 4, 5\); it must have .* 1 or 3"),
        ([("file.png", 0)] * 2, r"image of Pairs\[0\] is a str"),
        ([(images()[0], 2)] * 2, "label 2, but 2 classes"),
    ],
)
def test_datasets_that_are_rejected(items: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        CharacterDataset.from_dataset(Pairs(items, classes=["a", "b"]))
    assert "\n" not in str(error.value)


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


class Linear(LightningModule):
    """A network of a user's own, which records the labels of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1200, 62)
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.epochs[-1] += batch[1].tolist()
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val/loss", batch[0].mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize("grouped", [False, True])
def test_under_a_trainer(tmp_path: Path, grouped: bool) -> None:
    """Each epoch has another order; augmentation runs; `overfit_batches` sees one batch only."""
    model = Linear()
    module = CharacterDataModule(
        SyntheticDataset(writers=4),
        StratifiedSplit(test_size=0.5, val_size=0.5),
        augment=Augment(rotate=5),
        writer_batches=grouped,
        batch_size=30,
    )
    settings: dict[str, Any] = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    Trainer(**settings).fit(model, datamodule=module)
    one, other = model.epochs
    assert sorted(one) == sorted(other) == sorted(module.dataset.labels[module.parts.train])
    assert one != other
    model = Linear()
    with pytest.warns(UserWarning, match="requested to overfit"):
        Trainer(**settings, overfit_batches=1).fit(model, datamodule=module)
    assert model.epochs[0] == model.epochs[1]
    assert len(model.epochs[0]) == 30
