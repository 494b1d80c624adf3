"""Numbers that are none: a run stops before they reach a checkpoint, and says where they came."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import Campaign
from spoiler import spoil
from test_disk import one_sentence
from test_kill import figures, weights
from victim import run

from hwr import data
from hwr.config import compose
from hwr.schema import SyntheticConfig

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
    ended = run(folder, "hwr-train", [*settings, f"hydra.run.dir={folder}/run"])
    assert ended.code == 0, ended.said
    return settings, folder / "run"


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
    campaign: Campaign, whole: tuple[list[str], Path], tmp_path: Path
) -> None:
    """The batch is named picture by picture; from the checkpoint on, all is as if never spoilt."""
    settings, undisturbed = whole
    for number in campaign.trials(24, 3):
        folder, kind = tmp_path / str(number), ("nan", "inf", "gradient")[number % 3]
        words, last = [*settings, f"hydra.run.dir={folder}"], folder / "checkpoints/last.ckpt"
        step = int(campaign.random.integers(1, EPOCHS * STEPS))
        done = (step - 1) // STEPS
        batch = tmp_path / f"{number}.npy"
        with campaign.trial(f"loss or gradient that is {'inf' if kind == 'gradient' else kind}"):
            ended = run(tmp_path, "hwr-train", words, before=partial(spoil, step, kind, batch))
            said = one_sentence(ended, "hwr-train")
            assert "learning rate is" in said
            if kind != "gradient":
                place = f"epoch {done + 1}, batch {step - done * STEPS}"
                assert f"the loss is {kind} at step {step} ({place})" in said
                names = re.split(", | and ", said.partition("the batch holds ")[2])
                named = np.stack(pictures(settings, names))[:, None]
                np.testing.assert_array_equal(named / np.float32(255), np.load(batch))
            elif step % STEPS == 0:
                assert f"is not finite after epoch {done + 1}, step {step}" in said
            else:
                assert f"the loss is nan at step {step + 1} " in said
            assert last.exists() == (done > 0)
            if not done:
                assert "no epoch has ended" in said
                continue
            assert str(last) in said
            assert all(value.isfinite().all() for value in weights(last).values())
            again = run(tmp_path, "hwr-train", [*words, f"ckpt={last}"])
            assert again.code == 0, again.said
            assert figures(folder) == figures(undisturbed)


def test_a_learning_rate_that_is_far_too_large(
    campaign: Campaign, whole: tuple[list[str], Path], tmp_path: Path
) -> None:
    """It is told, or all numbers stay finite, as they do where units die."""
    for number, rate in zip(campaign.trials(4, 1), (1e30, 1e38, 1e20, 1e35), strict=False):
        folder = tmp_path / str(number)
        words = [*whole[0], f"model.lr={rate}", f"hydra.run.dir={folder}"]
        with campaign.trial("learning rate far too large"):
            ended = run(tmp_path, "hwr-train", words)
            if ended.code == 0:
                assert math.isfinite(figures(folder)["test/loss"])
            else:
                said = one_sentence(ended, "hwr-train")
                assert re.search("is not finite after|the loss is|/loss is", said)
            for file in folder.rglob("*.ckpt"):
                assert all(value.isfinite().all() for value in weights(file).values())


SPOILT = """
import os
from pathlib import Path
from spoiler import spoil
from hwr.commands import train

if os.environ.get("LOCAL_RANK", "0") == "{rank}":
    spoil({step}, "nan", Path("{batch}"))
train()
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_of_two(campaign: Campaign, tmp_path: Path, rank: int) -> None:
    """The other stops in the same step; the one whose loss it is names its pictures."""
    step = int(campaign.random.integers(STEPS + 1, EPOCHS * STEPS))
    script, batch = tmp_path / "spoilt.py", tmp_path / "batch.npy"
    script.write_text(SPOILT.format(rank=rank, step=step, batch=batch))
    words = [*TINY, *MODELS["mlp"], "trainer=ddp", "trainer.accelerator=cpu", "hydra.run.dir=run"]
    command = [sys.executable, str(script), *words]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with campaign.trial("loss of one process that is nan"):
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        said = [line for line in done.stderr.splitlines() if line.startswith("hwr-train: ")]
        assert len(said) == 2, done.stderr
        assert "Traceback" not in done.stderr
        (one,) = (line for line in said if "the loss of another process" in line)
        (other,) = (line for line in said if "the loss is nan" in line)
        assert f"at step {step} " in one
        assert f"at step {step} " in other
        named = other.partition("the batch holds ")[2].split(", ")
        array = np.stack(pictures(words[:-1], named))[:, None] / np.float32(255)
        np.testing.assert_array_equal(array, np.load(batch))
        last = tmp_path / "run/checkpoints/last.ckpt"
        assert all(value.isfinite().all() for value in weights(last).values())
