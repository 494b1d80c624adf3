"""Wrong settings, generated from the schema: one sentence with the key in it, exit code 2."""

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from campaign import SEED, Campaign
from victim import run

from hwr.config import compose
from hwr.errors import ConfigError
from hwr.folders import flat

COMMANDS = {
    "train": ["hwr-train"],
    "forest": ["hwr-forest"],
    "evaluate": ["hwr-evaluate"],
    "fetch": ["hwr-data", "fetch", "there"],
}
CHOICES = [
    ("train", ["data=english", "split=stratified", "model=mlp", "trainer=default", "report=full"]),
    ("train", ["data=synthetic", "split=kfold", "model=cnn", "augment=hand", "trainer=ddp"]),
    ("train", ["data=folder", "split=writer", "model=glyphnet", "report=none"]),
    ("train", ["data=emnist", "split=lockbox", "experiment=best"]),
    ("forest", ["data=synthetic", "split=stratified", "report=light"]),
    ("evaluate", ["ckpt=somewhere", "data=english"]),
    ("fetch", []),
]
"""Between them they hold every setting that there is."""
OPEN = {"data.root", "data.csv", "data.cache", "ckpt", "trainer.accelerator"}
OPEN |= {"data.image_column", "data.label_column", "data.writer_column", "trainer.precision"}
OPEN |= {"url", "kaggle"}
"""Texts that may be anything, or that only Lightning knows the values of."""
GROUPS = ("data", "split", "model", "augment", "trainer", "report", "experiment")
PAIRS = [
    ("split.val_is_test=true", "split.val_size=0.2"),
    ("monitor=val/loss", "split.val_size=0"),
    ("split.val_size=0.1", "monitor=test/acc"),
    ("split=kfold split.folds=3", "split.fold=3"),
    ("trainer.devices=2", "data.batch_size=33"),
    ("trainer.num_nodes=3", "data.batch_size=32"),
    ("model=cnn", "data.height=11"),
    ("model=cnn", "data.width=15"),
    ("experiment=best", "data.height=15"),
    ("data.height=5000", "data.width=5000"),
    ("objective=val/acc", "split.val_size=0"),
    ("experiment=notebook_cnn", "monitor=val/acc"),
    ("augment=hand", "augment.drawn_share=0"),
    ("split=writer split.folds=2", "split.fold=2"),
    ("data.image_column=label", "data.label_column=label"),
    ("data.writer_column=image", "data.image_column=image"),
    ("seed=1", "+trainer.max_steps=0"),
    ("seed=1", "+trainer.limit_train_batches=0.0"),
    ("seed=1", "+trainer.accumulate_grad_batches=0"),
    ("seed=1", "+trainer.gradient_clip_val=-1"),
    ("seed=1", "+trainer.gradient_clip_val=nan"),
]
REFUSED = [
    "trainer.accelerator=abacus",
    "trainer.accelerator=tpu",
    "trainer.precision=transformer-engine",
    "trainer.precision=17",
    "+trainer.gradient_clip_algorithm=nope",
    "+trainer.limit_val_batches=2.5",
    "+trainer.limit_train_batches=0.01",
    "+trainer.val_check_interval=1000",
    "+trainer.profiler=nope",
    "+trainer.max_time=nope",
    "+trainer.max_epoch=3",
    "+trainer.logger=true",
]
"""Settings that only Lightning knows to be wrong."""
UNFIT = [
    "accumulate_grad_batches=abc",
    "accumulate_grad_batches={0:2}",
    "accumulate_grad_batches=1.5",
    "log_every_n_steps=abc",
    "max_steps=abc",
    "max_steps=null",
    "max_steps=1.5",
    "max_steps=true",
    "limit_train_batches=abc",
    "limit_train_batches=[1]",
    "limit_train_batches=true",
    "overfit_batches=abc",
    "max_time=0",
    "fast_dev_run=abc",
    "detect_anomaly=abc",
    "min_epochs=abc",
    "sync_batchnorm=abc",
    "inference_mode=1",
]
"""Settings of Lightning's of another kind than it takes."""
WORDS = [
    ("hwr-data", "", "action"),
    ("hwr-data", "nonsense", "nonsense"),
    ("hwr-data", "draw", "FOLDER"),
    ("hwr-data", "draw x --writers many", "--writers"),
    ("hwr-data", "draw x --writers 0", "data.writers=0"),
    ("hwr-data", "draw x --writers -1", "data.writers=-1"),
    ("hwr-data", "draw x --writers 1000", "data.writers=1000"),
    ("hwr-data", "draw x --seed -1", "data.seed=-1"),
    ("hwr-data", "draw x --seed 99999999999999999999", "data.seed"),
    ("hwr-data", "draw x --nonsense", "--nonsense"),
    ("hwr-data", "draw x y", "y"),
    ("hwr-data", "fetch x --from nowhere", "nowhere"),
    ("hwr-data", "fetch x --from ftp://nowhere/x", "ftp://nowhere/x"),
    ("hwr-data", "fetch x --from nowhere urrl=x", "urrl"),
    ("hwr-data", "fetch", "FOLDER"),
    ("hwr-data", "verify nowhere", "nowhere"),
    ("hwr-data", "show nowhere", "nowhere"),
    ("hwr-data", "show a b", "a and b"),
    ("hwr-data", "show data=nope", "data"),
    ("hwr-data", "show data=synthetic data.writers=0", "data.writers"),
    ("hwr-data", "show --out x data=synthetic data.writerz=1", "data.writerz"),
    ("hwr-predict", "nowhere x.png", "nowhere"),
    ("hwr-predict", "", "RUN"),
    ("hwr-predict", "nowhere x.png --top many", "--top"),
    ("hwr-predict", "nowhere x.png --top 0", "--top 0"),
    ("hwr-predict", "nowhere x.png --frame nope", "nope"),
    ("hwr-predict", "nowhere x.png --nonsense", "--nonsense"),
    ("hwr-export", "nowhere", "nowhere"),
    ("hwr-export", "", "RUN"),
    ("hwr-export", "nowhere --format tflite", "tflite"),
    ("hwr-runs", "nowhere", "nowhere"),
    ("hwr-runs", "x --nonsense", "--nonsense"),
    ("hwr-runs", "x --sort", "--sort"),
    ("hwr-runs", "x --compare a", "--compare"),
    ("hwr-board", "nowhere", "nowhere"),
    ("hwr-board", "--port many", "--port"),
    ("hwr-board", "--nonsense", "--nonsense"),
]
"""Commands with settings of their own, wrong words for them, and what must be named."""
USAGE = ("usage:", " ")
"""How lines of usage begin."""


@cache
def wrong() -> list[tuple[str, list[str], str]]:
    """Command, its settings with a mistake in them, and the key that must be named."""
    table = {
        (program, " ".join([*choice, *mistakes])): (program, [*choice, *mistakes], key)
        for program, choice in CHOICES
        for mistakes, key in _mistakes(program, choice)
    }
    for one, other in PAIRS:
        key = other.lstrip("+").partition("=")[0]
        table["train", f"{one} {other}"] = ("train", [*one.split(), other], key)
    return list(table.values())


def _mistakes(program: str, choice: list[str]) -> Iterator[tuple[list[str], str]]:
    config = compose(choice, program)
    yield ["nonsense=1"], "nonsense"
    yield ["+nonsense=1"], "nonsense"
    for group in GROUPS:
        if hasattr(config, group) or (group == "experiment" and program == "train"):
            yield [f"{group}=nope"], group
        for nothing in ("null", "1", "[1]"):
            if hasattr(config, group):
                yield [f"{group}={nothing}"], group
    for key, value in flat(_nested(config)):
        if key.endswith("name") or key in ("data", "split"):
            continue
        for text in _values(key, value):
            yield [f"{key}={text}"], key
        yield [f"{key}x=1"], f"{key}x"
        yield [f"+{key}.below=1"], key
        yield [f"~{key}"], key


def _values(key: str, value: Any) -> Iterator[str]:
    """What a setting with this value can't be."""
    if isinstance(value, bool):
        yield from ("perhaps", "0.5", "[true]")
    elif isinstance(value, int):
        yield from ("many", "1.5", "-5", "[1]", "{a:1}", "null", "99999999999999999999999999")
    elif isinstance(value, float):
        yield from ("much", "-0.5", "nan", "inf", "-inf", "[0.5]", "{a:1}", "null")
        if not key.endswith(("lr", "weight_decay")):  # what is too large for these, training tells
            yield "1e9"
    else:
        yield from ("[1]", "{a:1}")
        if key not in OPEN:
            yield "nonsense"


def _nested(config: Any) -> dict[str, Any]:
    return {
        name: _nested(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in vars(config).items()
    }


def test_there_are_hundreds() -> None:
    assert len(wrong()) > 500
    assert {program for program, _, _ in wrong()} == set(COMMANDS)


@pytest.mark.parametrize("program", COMMANDS)
def test_every_mistake_is_one_sentence(campaign: Campaign, program: str) -> None:
    mine = [row for row in wrong() if row[0] == program]
    count = len(campaign.trials(len(mine), 20))
    mine = random.Random(SEED).sample(mine, min(count, len(mine)))
    for _, settings, key in mine:
        with campaign.trial(f"wrong settings of {' '.join(COMMANDS[program][:2])}"):
            with pytest.raises(ConfigError) as error:
                compose(settings, program)
            assert key in str(error.value), settings
            assert "\n" not in str(error.value), settings


def test_commands_exit_with_two(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for program, settings, key in random.Random(SEED).sample(wrong(), len(campaign.trials(200, 6))):
        command, *words = COMMANDS[program]
        ended = run(tmp_path / "in", command, [*words, *settings])
        with campaign.trial("exit code after wrong settings"):
            assert ended.code == 2, (settings, ended.said)
            (said,) = ended.said.splitlines()
            assert key in said.removeprefix(f"{command}: "), (settings, said)
            assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize("setting", REFUSED)
def test_what_lightning_refuses(campaign: Campaign, tmp_path: Path, setting: str) -> None:
    words = ["data=synthetic", "data.writers=4", "split.val_size=0.5", "model=mlp", setting]
    with campaign.trial("setting that Lightning refuses"):
        ended = run(tmp_path, "hwr-train", [*words, "report=none", "hydra.run.dir=run"])
        assert ended.code == 2, ended.said
        (said,) = ended.said.splitlines()
        name = setting.partition("=")[0].partition(".")[2]
        ours = not setting.startswith("+") and "Lightning's Trainer says" in said
        assert name in said or ours, said


@pytest.mark.parametrize("setting", UNFIT)
def test_what_lightning_would_stumble_over(
    campaign: Campaign, tmp_path: Path, setting: str
) -> None:
    words = ["data=synthetic", "data.writers=4", "split.val_size=0.5", "model=mlp"]
    with campaign.trial("setting of another kind than Lightning takes"):
        ended = run(tmp_path, "hwr-train", [*words, f"+trainer.{setting}", "report=none"])
        assert ended.code == 2, ended.said
        (said,) = ended.said.splitlines()
        assert f"trainer.{setting.partition('=')[0]}=" in said
        assert " must be " in said
        assert not list(tmp_path.rglob("*.yaml"))


def test_what_lightning_takes(campaign: Campaign, tmp_path: Path) -> None:
    words = ["data=synthetic", "data.writers=4", "model=mlp", "split.val_size=0", "report=none"]
    taken = ["limit_train_batches=1", "gradient_clip_val=1", "max_time={hours:0.5}"]
    taken += ["min_epochs=null", "profiler=simple", "benchmark=false", "fast_dev_run=false"]
    with campaign.trial("setting of a kind that Lightning takes"):
        ended = run(tmp_path, "hwr-train", [*words, *(f"+trainer.{one}" for one in taken)])
        assert ended.code == 0, ended.said


@pytest.mark.parametrize("command", sorted({command for command, _, _ in WORDS}))
def test_wrong_words(campaign: Campaign, tmp_path: Path, command: str) -> None:
    """Beside its usage, a command says one sentence."""
    (tmp_path / "in").mkdir()
    for one, words, key in WORDS:
        if one != command:
            continue
        ended = run(tmp_path / "in", command, words.split())
        with campaign.trial("exit code after wrong words"):
            assert ended.code == 2, (words, ended.said)
            (said,) = (line for line in ended.said.splitlines() if not line.startswith(USAGE))
            assert said.startswith(command), said
            assert key in said, (words, said)
            assert not list((tmp_path / "in").iterdir())
