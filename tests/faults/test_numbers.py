"""A NaN loss and a learning rate that is far too large end a run before they reach a checkpoint."""

import json
import math
import os
from pathlib import Path
from typing import Any

import programs
import pytest
from commands import WHOLE, run, weights
from conftest import Campaign

EPOCHS, STEPS = 3, 5
TINY = f"data=synthetic data.writers=2 trainer.max_epochs={EPOCHS} callbacks=light "
TINY += "split.test_size=0.5 split.val_size=0 hydra.run.dir=run "
SMALL = "data.batch_size=28 model.width_mult=0.25 trainer.precision=32-true"
MODELS = {
    "mlp": "model=mlp data.batch_size=14",
    "cnn": "model=cnn data.batch_size=14 model.width_mult=0.25",
    "glyphnet": f"experiment=best augment.synthetic_writers=3 {SMALL}",
}
RATES = [("sgd", 1e3), ("adamw", 1e30), ("keras_adam", 1e38), ("keras_rmsprop", 1e20)]


def metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of a run, without times; its weights must be finite."""
    for file in folder.rglob("*.ckpt"):
        weights(file)
    values = json.loads((folder / "run/metrics.json").read_text())
    return {name: value for name, value in values.items() if "/" in name}


@pytest.mark.parametrize("model", MODELS if WHOLE else ["mlp"])
def test_a_loss_that_is_nan(campaign: Campaign, tmp_path: Path, model: str) -> None:
    """The last good checkpoint is named, and a resume ends as if nothing had happened."""
    train = f"hwr-train {TINY} {MODELS[model]}"
    undisturbed = run(tmp_path / "undisturbed", train)
    assert undisturbed.code == 0, undisturbed.output
    for number in campaign.trials(6, 2):
        folder = tmp_path / str(number)
        step = int(campaign.random.integers(STEPS + 1 if number else 1, EPOCHS * STEPS))
        epochs = (step - 1) // STEPS
        with campaign.trial("loss that is NaN"):
            spoil = f"+callbacks.spoil={{_target_:commands.Spoil,step:{step}}}"
            line = run(folder, f"{train} {spoil}").expect_one_line()
            assert f"loss is nan at step {step} (epoch {epochs + 1})" in line
            last = folder / "run/checkpoints/last.ckpt"
            assert last.exists() == (epochs > 0)
            assert (str(last) if epochs else "no checkpoint was written yet") in line
            if epochs:
                ended = run(folder, f"{train} ckpt_path={last}")
                assert ended.code == 0, ended.output
                assert metrics(folder) == metrics(tmp_path / "undisturbed")


@pytest.mark.parametrize(("optimizer", "rate"), RATES if WHOLE else RATES[:1])
def test_learning_rates_that_are_far_too_large(
    campaign: Campaign, tmp_path: Path, optimizer: str, rate: float
) -> None:
    """The run is stopped, or all numbers stay finite, as they do where units die."""
    for model in MODELS if WHOLE else ["mlp"]:
        words = f"{MODELS[model]} optimizer={optimizer} optimizer.lr={rate}"
        with campaign.trial("learning rate far too large"):
            ended = run(tmp_path / model, f"hwr-train {TINY} {words}")
            if ended.code:
                assert "NaN or infinite" in (line := ended.expect_one_line()) or "loss is" in line
                assert all(weights(file) for file in tmp_path.rglob("*.ckpt"))
            else:
                assert all(map(math.isfinite, metrics(tmp_path / model).values()))


@pytest.mark.skipif(not WHOLE, reason="starts two processes that import everything")
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_of_two(campaign: Campaign, tmp_path: Path, rank: int) -> None:
    """The other one stops in the same step, and refers to it."""
    words = f"{TINY} {MODELS['mlp']} trainer=ddp trainer.accelerator=cpu "
    words += f"+callbacks.spoil={{_target_:commands.Spoil,step:5,rank:{rank}}}"
    path = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    with campaign.trial("loss that is NaN in one of two processes"):
        done = programs.run(tmp_path, programs.TRAIN, *words.split(), PYTHONPATH=path)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        lines = sorted(x for x in done.stderr.splitlines() if x.startswith("hwr-train: "))
        assert "NaN or infinite on another rank at step 5;" in lines[0]
        assert "loss is nan at step 5 " in lines[1]
        assert all(weights(file) for file in tmp_path.rglob("*.ckpt"))
