"""NaN and infinite numbers stop a run before they reach a checkpoint, in one sentence."""

import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from campaign import ALL, Campaign
from jobs import sentence
from processes import import_from, run

from hwr.inference import checkpoint

EPOCHS, STEPS = 3, 5
TINY = ["data=synthetic", "data.writers=2", f"trainer.max_epochs={EPOCHS}", "callbacks=light"]
TINY += ["split.test_size=0.5", "split.val_size=0", "hydra.run.dir=run"]
MODELS = {
    "mlp": ["model=mlp", "data.batch_size=14"],
    "cnn": ["model=cnn", "model.width_mult=0.25", "data.batch_size=14"],
    "glyphnet": ["experiment=best", "model.width_mult=0.25", "data.batch_size=28"],
}
MODELS["glyphnet"] += ["trainer.precision=32-true", "augment.synthetic_writers=3"]
RATES = [("adamw", 1e30), ("sgd", 1e3), ("keras_adam", 1e38), ("keras_rmsprop", 1e20)]
HERE = Path(__file__).parent


def metrics(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "run/metrics.json").read_text()).items()
    return {name: value for name, value in found if "/" in name}


def last(folder: Path) -> Path:
    """Return the last checkpoint, whose weights are finite if it is there."""
    for file in folder.rglob("*.ckpt"):
        weights = checkpoint.read(file)["state_dict"].values()
        assert all(weight.isfinite().all() for weight in weights)
    return folder / "run/checkpoints/last.ckpt"


@pytest.mark.parametrize("model", MODELS)
def test_a_spoilt_step(campaign: Campaign, tmp_path: Path, model: str) -> None:
    """The last good checkpoint is named, and a resume ends as if nothing had been spoilt."""
    settings = [*TINY, *MODELS[model]]
    whole = tmp_path / "whole"
    whole.mkdir()
    for number in campaign.trials(24, 1):
        pixel = ("nan", "inf", "null")[int(campaign.random.integers(3))]  # null: a gradient
        pixel = "null" if model == "glyphnet" else pixel  # which looks for the ink in an image
        step = int(campaign.random.integers(1, EPOCHS * STEPS))
        folder = tmp_path / str(number)
        folder.mkdir()
        spoil = ["+callbacks.spoil._target_=spoil.Spoil", f"+callbacks.spoil.step={step}"]
        spoil.append(f"+callbacks.spoil.pixel={pixel}")
        with campaign.trial(f"{'gradient' if pixel == 'null' else 'loss'} NaN or infinite"):
            spoilt = run(folder, "hwr-train", [*settings, *spoil], partial(import_from, HERE))
            line = sentence(spoilt, "hwr-train")
            assert "learning rate is" in line
            if pixel != "null":
                assert f"loss is nan at step {step} (epoch {(step - 1) // STEPS + 1})" in line
            elif step % STEPS == 0:
                assert f"is NaN or infinite after epoch {step // STEPS}" in line
            else:
                assert f"loss is nan at step {step + 1} " in line
            saved, done = last(folder), (step - 1) // STEPS
            assert saved.exists() == (done > 0)
            if not done:
                assert "no checkpoint was written yet" in line
                continue
            assert f"the last good checkpoint is {saved}" in line
            again = run(folder, "hwr-train", [*settings, f"ckpt_path={saved}"])
            assert again.code == 0, again.output
            if not (whole / "run").exists():
                assert run(whole, "hwr-train", settings).code == 0
            assert metrics(folder) == metrics(whole)


@pytest.mark.parametrize(("optimizer", "rate"), RATES if ALL else RATES[:2])
def test_learning_rates_that_are_far_too_large(
    campaign: Campaign, tmp_path: Path, optimizer: str, rate: float
) -> None:
    """The run is stopped, or all numbers stay finite, as they do where units die."""
    for model in MODELS if ALL else ["mlp"]:
        folder = tmp_path / model
        folder.mkdir()
        words = [*TINY, *MODELS[model], f"optimizer={optimizer}", f"optimizer.lr={rate}"]
        with campaign.trial("learning rate far too large"):
            ended = run(folder, "hwr-train", words)
            if ended.code == 0:
                assert all(map(math.isfinite, metrics(folder).values()))
            else:
                line = sentence(ended, "hwr-train")
                assert re.search("NaN or infinite after|loss is (nan|inf)", line)
            last(folder)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_of_two(campaign: Campaign, tmp_path: Path, rank: int) -> None:
    """The other stops in the same step, and refers to it."""
    step = int(campaign.random.integers(4, 9))  # of three in each epoch
    words = [*TINY, *MODELS["mlp"], "trainer=ddp", "trainer.accelerator=cpu"]
    words += ["+callbacks.spoil._target_=spoil.Spoil", f"+callbacks.spoil.step={step}"]
    words += ["+callbacks.spoil.pixel=nan", f"+callbacks.spoil.rank={rank}"]
    with campaign.trial("loss of one process that is nan"):
        done = subprocess.run(
            [Path(sys.executable).with_name("hwr-train"), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        lines = sorted(x for x in done.stderr.splitlines() if x.startswith("hwr-train: "))
        assert len(lines) == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert f"NaN or infinite on another rank at step {step};" in lines[0]
        assert f"loss is nan at step {step} " in lines[1]
        last(tmp_path)
