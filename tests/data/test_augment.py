"""Augmentation of training batches."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwr.config.compose import compose
from hwr.data import Augment, CharacterDataModule, StratifiedSplit, SyntheticDataset
from hwr.data.augment import CHANGES


@pytest.fixture(scope="module")
def letters() -> torch.Tensor:
    """An I and an A of one writer, (2, 1, 60, 80)."""
    return SyntheticDataset(writers=1, height=60, width=80).__getitems__([18, 10])[0]


def area(image: torch.Tensor) -> torch.Tensor:
    return (1 - image).sum((1, 2, 3))


def test_inactive_without_settings(letters: torch.Tensor) -> None:
    torch.testing.assert_close(Augment()(letters), letters, atol=1e-4, rtol=0)
    assert not Augment(synthetic_writers=3).is_active
    assert Augment(shear=0.1).is_active


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_keeps_the_range(letters: torch.Tensor, change: str, channels: int) -> None:
    torch.manual_seed(0)
    many = letters.repeat(8, channels, 1, 1)
    most = {"rotate": 10, "elastic": 0.04, "stroke_width": 0.7}
    changed = Augment(**{change: most.get(change, 0.2)})(many)
    assert changed.shape == many.shape
    assert changed.min() >= -1e-5
    assert changed.max() <= 1 + 1e-5
    assert (changed - many).abs().amax((1, 2, 3)).median() > 0.05
    torch.testing.assert_close(changed[:, 0, 0, 0], torch.ones(16))  # white from outside
    torch.testing.assert_close(changed[:, :1], changed[:, -1:])


def test_ink_keeps_its_shape_in_images_that_are_not_square(letters: torch.Tensor) -> None:
    """A rotation by 90 degrees gives the ink's height for its width."""
    torch.manual_seed(0)
    letter = letters[:1].repeat(64, 1, 1, 1)
    rotated = Augment(rotate=180)(letter)
    ink = np.argwhere(letter[0, 0].numpy() < 0.5)
    diagonal = np.hypot(*np.ptp(ink, axis=0))
    for one in rotated[:, 0].numpy():
        spread = np.hypot(*np.ptp(np.argwhere(one < 0.5), axis=0))
        assert 0.7 * diagonal < spread < 1.25 * diagonal


def test_images_of_a_writer_share_their_size(letters: torch.Tensor) -> None:
    torch.manual_seed(0)
    augment = Augment(scale=0.3)
    image, group = letters[:1].repeat(200, 1, 1, 1), torch.arange(100).repeat_interleave(2)
    sizes = area(augment(image, group)).view(100, 2).log()
    shared = np.corrcoef(sizes.T.numpy())[0, 1]
    assert 0.65 < shared < 0.95  # four fifths of the variance
    apart = area(augment(image)).view(100, 2).log()
    assert abs(np.corrcoef(apart.T.numpy())[0, 1]) < 0.25


def test_repeatable_by_the_generator(letters: torch.Tensor) -> None:
    augment = Augment(rotate=12, scale=0.18, elastic=0.03, stroke_width=0.7)
    torch.manual_seed(3)
    one = augment(letters)
    torch.manual_seed(3)
    assert torch.equal(one, augment(letters))


def test_only_training_batches_are_augmented() -> None:
    """Runs of the notebook's models must not depend on there being an augmentation."""
    dataset = SyntheticDataset(writers=4)
    module = CharacterDataModule(dataset, StratifiedSplit(val_size=0), augment=Augment())
    module.setup()
    module.trainer = SimpleNamespace(training=True)  # type: ignore[assignment]
    batch = next(iter(module.val_dataloader() or module.test_dataloader()))
    before = torch.get_rng_state()
    assert module.on_after_batch_transfer(batch, 0) is batch
    assert torch.equal(torch.get_rng_state(), before)
    module.augment = Augment(stroke_width=0.5)
    changed = module.on_after_batch_transfer(batch, 0)
    assert not torch.equal(changed[0], batch[0])
    assert changed[1] is batch[1]
    module.trainer.training = False
    assert module.on_after_batch_transfer(batch, 0) is batch
    module.trainer.training = True
    module.augment = lambda images: 1 - images  # any callable on a batch
    assert torch.equal(module.on_after_batch_transfer(batch, 0)[0], 1 - batch[0])


def test_synthetic_images_of_classes_that_the_dataset_has(english: Path) -> None:
    config = compose(
        [
            *("data=folder", f"data.root={english}", "augment.synthetic_writers=2"),
            *("split.test_size=0.5", "split.val_size=0"),
        ]
    )
    module = CharacterDataModule(
        config.data, config.split, augment=config.augment, writer_batches=True
    )
    module.setup()
    loader = module.train_dataloader()
    assert len(loader.dataset) == 10 + 2 * 5  # type: ignore[arg-type]
    images, labels, writers = next(iter(loader))
    assert images.shape == (20, 1, 30, 40)
    assert set(labels.tolist()) == set(range(5))
    assert writers.shape == (20,)
