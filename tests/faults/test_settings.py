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

COMMANDS = {"train": "hwr-train", "forest": "hwr-forest", "evaluate": "hwr-evaluate"}
CHOICES = [
    ("train", ["data=english", "split=stratified", "model=mlp", "trainer=default", "report=full"]),
    ("train", ["data=synthetic", "split=kfold", "model=cnn", "augment=hand", "trainer=ddp"]),
    ("train", ["data=folder", "split=writer", "model=glyphnet", "report=none"]),
    ("train", ["data=emnist", "split=lockbox", "experiment=best"]),
    ("forest", ["data=synthetic", "split=stratified", "report=light"]),
    ("evaluate", ["ckpt=somewhere", "data=english"]),
]
"""Between them they hold every setting that there is."""
OPEN = {"data.root", "data.csv", "data.cache", "ckpt", "trainer.accelerator"}
OPEN |= {"data.image_column", "data.label_column", "data.writer_column", "trainer.precision"}
OPEN |= {"trainer.deterministic"}
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
]


@cache
def wrong() -> list[tuple[str, list[str], str]]:
    """Command, its settings with a mistake in them, and the key that must be named."""
    table = {
        (program, " ".join([*choice, *mistakes])): (program, [*choice, *mistakes], key)
        for program, choice in CHOICES
        for mistakes, key in _mistakes(program, choice)
    }
    for one, other in PAIRS:
        key = other.partition("=")[0]
        table["train", f"{one} {other}"] = ("train", [*one.split(), other], key)
    return list(table.values())


def _mistakes(program: str, choice: list[str]) -> Iterator[tuple[list[str], str]]:
    config = compose(choice, program)
    yield ["nonsense=1"], "nonsense"
    yield ["+nonsense=1"], "nonsense"
    for group in GROUPS:
        if hasattr(config, group) or (group == "experiment" and program == "train"):
            yield [f"{group}=nope"], group
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
    elif key not in OPEN:
        yield from ("nonsense", "[1]", "{a:1}")


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
    count = len(campaign.trials(300, 20))
    mine = random.Random(SEED).sample(mine, min(count, len(mine)))
    for _, settings, key in mine:
        with campaign.trial(f"wrong settings of hwr-{program}"):
            with pytest.raises(ConfigError) as error:
                compose(settings, program)
            assert key in str(error.value), settings
            assert "\n" not in str(error.value), settings


def test_commands_exit_with_two(campaign: Campaign, tmp_path: Path) -> None:
    for program, settings, key in random.Random(SEED).sample(wrong(), len(campaign.trials(100, 4))):
        ended = run(tmp_path, COMMANDS[program], settings)
        with campaign.trial("wrong settings of a command"):
            assert ended.code == 2, (settings, ended.said)
            (said,) = ended.said.splitlines()
            assert said.startswith(f"hwr-{program}: "), said
            assert key in said, (settings, said)
            assert not list(tmp_path.iterdir())
