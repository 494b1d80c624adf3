"""Augmentation and the batches that it works on."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwr import data
from hwr.augment import KINDS, augment
from hwr.batches import LARGEST, Batches, in_groups
from hwr.config import compose
from hwr.datamodule import CharacterData
from hwr.errors import ConfigError
from hwr.schema import AugmentConfig


def config(**far: float) -> AugmentConfig:
    settings = ["augment=none", *(f"augment.{name}={value}" for name, value in far.items())]
    augmenting: AugmentConfig = compose(settings).augment
    return augmenting


@pytest.fixture(scope="module")
def letters() -> torch.Tensor:
    """An I and an A of one writer, (2, 1, 60, 80)."""
    settings = ["data=synthetic", "data.writers=1", "data.height=60", "data.width=80"]
    image = data.load(compose(settings).data).image[[18, 10]]
    return torch.from_numpy(image)[:, None] / 255


def area(image: torch.Tensor) -> torch.Tensor:
    return (1 - image).sum((1, 2, 3))


def test_nothing_asked_nothing_changed(letters: torch.Tensor) -> None:
    torch.testing.assert_close(augment(letters, config()), letters, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_change_changes_and_keeps_the_range(letters: torch.Tensor, kind: str) -> None:
    torch.manual_seed(0)
    many, far = letters.repeat(8, 1, 1, 1), {"rotate": 10, "bend": 0.04, "pen": 0.7}
    changed = augment(many, config(**{kind: far.get(kind, 0.2)}))
    assert changed.shape == many.shape
    assert changed.min() >= -1e-5
    assert changed.max() <= 1 + 1e-5
    assert (changed - many).abs().amax((1, 2, 3)).median() > 0.05
    torch.testing.assert_close(changed[:, 0, 0, 0], torch.ones(16))  # paper comes in from outside


def test_forms_keep_their_shape_in_frames_that_are_no_square(letters: torch.Tensor) -> None:
    """A turn by 90 degrees gives the ink's height for its width."""
    torch.manual_seed(0)
    letter = letters[:1].repeat(64, 1, 1, 1)
    turned = augment(letter, config(rotate=180))
    ink = np.argwhere(letter[0, 0].numpy() < 0.5)
    diagonal = np.hypot(*np.ptp(ink, axis=0))
    for one in turned[:, 0].numpy():
        spread = np.hypot(*np.ptp(np.argwhere(one < 0.5), axis=0))
        assert 0.7 * diagonal < spread < 1.25 * diagonal


def test_a_hand_shares_its_size(letters: torch.Tensor) -> None:
    torch.manual_seed(0)
    image, group = letters[:1].repeat(200, 1, 1, 1), torch.arange(100).repeat_interleave(2)
    sizes = area(augment(image, config(scale=0.3), group)).view(100, 2).log()
    alike = np.corrcoef(sizes.T.numpy())[0, 1]
    assert 0.65 < alike < 0.95  # four fifths of the variance
    apart = area(augment(image, config(scale=0.3))).view(100, 2).log()
    assert abs(np.corrcoef(apart.T.numpy())[0, 1]) < 0.25


def test_the_generator_repeats_it(letters: torch.Tensor) -> None:
    settings = compose(["augment=hand"]).augment
    torch.manual_seed(3)
    one = augment(letters, settings)
    torch.manual_seed(3)
    assert torch.equal(one, augment(letters, settings))


def test_groups_are_of_one_hand_and_every_picture_comes_once() -> None:
    writer = np.repeat([3, 5, 9], [62, 62, 20])
    order, group = in_groups(writer, np.random.default_rng(0))
    assert sorted(order) == list(range(len(writer)))
    for number in np.unique(group):
        assert len(set(writer[order[group == number]])) == 1
    sizes = np.bincount(group)
    assert sizes.min() >= 1
    assert sizes.max() <= LARGEST
    assert len(set(sizes)) > 3
    many = [np.bincount(in_groups(writer, np.random.default_rng(k))[1]) for k in range(50)]
    assert max(map(max, many)) > 40


def test_without_augmentation_no_number_is_drawn_and_no_picture_touched() -> None:
    """The figures of the notebook's models must not depend on there being one."""
    composed = compose(["data=synthetic", "data.writers=4", "split.val_size=0"])
    module = CharacterData(composed.data, composed.split, 0, composed.augment)
    module.trainer = SimpleNamespace(training=True, global_rank=0, world_size=1)  # type: ignore[assignment]
    batch = next(iter(module.train_dataloader()))
    before = torch.get_rng_state()
    assert module.on_after_batch_transfer(batch, 0) is batch
    assert torch.equal(torch.get_rng_state(), before)
    module.augment = config(pen=0.5)
    changed = module.on_after_batch_transfer(batch, 0)
    assert not torch.equal(changed[0], batch[0])
    module.trainer.training = False
    assert module.on_after_batch_transfer(batch, 0) is batch


def test_drawn_pictures_are_mixed_in_anew_each_epoch() -> None:
    image, label = torch.arange(130, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(130)
    writer = np.repeat(np.arange(13), 10)
    batches = Batches(image, label, 16, 0, writer=writer, drawn=100, drawn_share=1.0)
    seen = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        parts = list(batches)
        assert len(parts) == len(batches) == 4
        rows = torch.cat([part[1] for part in parts]).tolist()
        assert set(range(30)) < set(rows)
        assert len(set(rows)) == len(rows) == 60
        assert len({row // 10 for row in rows if row >= 30}) == 3  # whole writers
        seen.append(rows)
    assert set(seen[0]) != set(seen[1])


def test_the_pen_adds_classes_that_the_set_has(english: Path) -> None:
    composed = compose(
        [
            "data=folder",
            f"data.root={english}",
            "augment.drawn=2",
            "split.test_size=0.5",
            "split.val_size=0",
        ]
    )
    module = CharacterData(composed.data, composed.split, 0, composed.augment, grouped=True)
    batches = module.train_dataloader()
    assert batches.own == 10
    assert len(batches.label) == 10 + 2 * 5
    assert set(batches.label.tolist()) == set(range(5))
    assert len(next(iter(batches))) == 3


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment\.rotate=200\.0 must lie between 0 and 180"):
        config(rotate=200)
    with pytest.raises(ConfigError, match=r"augment\.drawn_share=0 must be above 0"):
        config(drawn_share=0)
