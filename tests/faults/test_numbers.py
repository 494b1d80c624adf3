"""Numbers that are none: a run stops before they reach a checkpoint, and says where they came."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart import Found, apart
from campaign import Campaign
from pytorch_lightning import LightningModule, Trainer
from test_kill import figures, weights
from torch import Tensor

from hwr import data
from hwr.config import compose
from hwr.datamodule import CharacterData
from hwr.errors import RunError
from hwr.recorder import Recorder
from hwr.schema import SyntheticConfig
from hwr.train import train

EPOCHS, STEPS = 3, 5
TINY = ["data=synthetic", "data.writers=2", f"trainer.max_epochs={EPOCHS}", "report=none"]
TINY += ["split.test_size=0.5", "split.val_size=0"]
MODELS = {
    "mlp": ["model=mlp", "data.batch_size=14"],
    "cnn": ["model=cnn", "model.width=0.25", "data.batch_size=14"],
    "glyphnet": ["experiment=best", "model.width=0.25", "data.batch_size=28"],
}
MODELS["glyphnet"] += ["trainer.precision=32-true", "augment.drawn=3"]


@pytest.fixture(scope="module", params=MODELS)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path]:
    """Settings of a small run, and the run in which nothing was wrong."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = [*TINY, *MODELS[request.param]]
    done = trained_apart(lambda: train(compose(settings), folder))
    assert done.broke is None, done.broke
    return settings, folder


def trained_apart(do: Callable[[], Any]) -> Found:
    """Train in another process: where torch has trained, none that trains can be forked."""

    def alone() -> None:
        torch.set_num_threads(1)
        do()

    return apart(alone, seconds=300)


class Spoiler:
    """Spoils one step, and remembers the batch that it had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step, self.kind, self.seen = 0, "", 0
        self.batch: tuple[Tensor, ...] = ()
        true_batch = CharacterData.on_before_batch_transfer
        true_loss, true_step = Recorder.on_before_backward, Recorder.on_before_optimizer_step

        def before_transfer(module: CharacterData, batch: Any, number: int) -> Any:
            if module.trainer is not None and module.trainer.training:
                self.seen += 1
                if self.seen == self.step:
                    self.batch = batch
            return true_batch(module, batch, number)

        def before_backward(
            recorder: Recorder, trainer: Trainer, module: LightningModule, loss: Tensor
        ) -> None:
            if trainer.global_step + 1 == self.step and self.kind != "gradient":
                loss.data.fill_(float(self.kind))
            true_loss(recorder, trainer, module, loss)

        def before_step(
            recorder: Recorder, trainer: Trainer, module: LightningModule, optimizer: Any
        ) -> None:
            if trainer.global_step + 1 == self.step and self.kind == "gradient":
                next(iter(module.parameters())).grad.fill_(torch.inf)  # type: ignore[union-attr]
            true_step(recorder, trainer, module, optimizer)

        monkeypatch.setattr(CharacterData, "on_before_batch_transfer", before_transfer)
        monkeypatch.setattr(Recorder, "on_before_backward", before_backward)
        monkeypatch.setattr(Recorder, "on_before_optimizer_step", before_step)

    def aim(self, step: int, kind: str) -> None:
        self.step, self.kind, self.seen = step, kind, 0


def pictures(settings: list[str], names: list[str]) -> list[Any]:
    """The arrays that a message names."""
    config = compose(settings)
    known = {"": data.load(config.data)}
    if config.augment.drawn:
        assert isinstance(config.data, SyntheticConfig)
        drawn = replace(config.data, writers=config.augment.drawn)
        known["pen/"] = data.load(drawn)
    arrays = {
        f"{prefix}{file}": image
        for prefix, characters in known.items()
        for file, image in zip(characters.files, characters.image, strict=True)
    }
    return [arrays[name] for name in names]


def test_a_step_that_is_spoilt(
    campaign: Campaign,
    whole: tuple[list[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The batch is named picture by picture; from the checkpoint on, all is as if never spoilt."""
    settings, undisturbed = whole
    spoiler = Spoiler(monkeypatch)
    for number in campaign.trials(24, 3):
        folder, kind = tmp_path / str(number), ("nan", "inf", "gradient")[number % 3]
        step = int(campaign.random.integers(1, EPOCHS * STEPS))
        one = partial(spoilt, settings, undisturbed, folder, spoiler, step, kind)
        with campaign.trial(f"loss or gradient that is {'inf' if kind == 'gradient' else kind}"):
            found = trained_apart(one)
            assert (found.broke, found.refused) == (None, None)


def spoilt(
    settings: list[str], undisturbed: Path, folder: Path, spoiler: Spoiler, step: int, kind: str
) -> None:
    spoiler.aim(step, kind)
    with pytest.raises(RunError) as error:
        train(compose(settings), folder)
    said, last = str(error.value), folder / "checkpoints/last.ckpt"
    assert "\n" not in said
    assert "learning rate is" in said
    done = (step - 1) // STEPS
    if kind != "gradient":
        place = f"epoch {done + 1}, batch {step - done * STEPS}"
        assert f"the loss is {kind} at step {step} ({place})" in said
        names = re.split(", | and ", said.partition("the batch holds ")[2])
        named = torch.from_numpy(np.stack(pictures(settings, names)))[:, None]
        assert torch.equal(named / 255, spoiler.batch[0])
    elif step % STEPS == 0:
        assert f"is not finite after epoch {done + 1}, step {step}" in said
    else:
        assert f"the loss is nan at step {step + 1} " in said
    assert last.exists() == (done > 0)
    if not done:
        assert "no epoch has ended" in said
        return
    assert str(last) in said
    assert all(value.isfinite().all() for value in weights(last).values())
    spoiler.aim(0, "")
    train(compose([*settings, f"ckpt={last}"]), folder)
    assert figures(folder) == figures(undisturbed)


def test_a_learning_rate_that_is_far_too_large(
    campaign: Campaign, whole: tuple[list[str], Path], tmp_path: Path
) -> None:
    """It is told, or all numbers stay finite, as they do where units die."""
    for number, rate in zip(campaign.trials(4, 1), (1e30, 1e38, 1e20, 1e35), strict=False):
        folder = tmp_path / str(number)
        settings = compose([*whole[0], f"model.lr={rate}"])
        with campaign.trial("learning rate far too large"):
            found = trained_apart(partial(train, settings, folder))
            assert found.broke is None, found.broke
            if found.refused is None:
                assert math.isfinite(figures(folder)["test/loss"])
            else:
                assert re.search("is not finite after|the loss is", found.refused)
                assert "\n" not in found.refused
            for file in folder.rglob("*.ckpt"):
                assert all(value.isfinite().all() for value in weights(file).values())
