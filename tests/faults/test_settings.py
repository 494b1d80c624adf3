"""Wrong settings, generated from the schema, and wrong words: one sentence that names the key."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import run
from conftest import Campaign
from omegaconf import DictConfig, OmegaConf

import hwr
from hwr.config.overrides import TEXT
from hwr.errors import ConfigError

CHOICES = [
    ("train", "data=english split=stratified model=mlp trainer=default"),
    ("train", "data=synthetic split=kfold model=cnn trainer=ddp optimizer=sgd"),
    ("train", "data=folder split=writer model=glyphnet augment=handwriting"),
    ("train", "data=emnist split=lockbox experiment=best scheduler=cosine"),
    ("forest", "data=synthetic split=stratified"),
    ("evaluate", "ckpt_path=somewhere data=english"),
]
"""Between them they hold every setting."""
GROUPS = ("data", "split", "model", "augment", "trainer", "optimizer", "scheduler", "logger")
WORDS = [
    ("hwr-train split.val_size=0 monitor=val/loss", "monitor"),
    ("hwr-train split.val_size=0 callbacks=early_stopping", "callbacks"),
    ("hwr-train split.val_size=0 scheduler=plateau", "scheduler"),
    ("hwr-train split=kfold split.folds=3 split.fold=3", "split.fold"),
    ("hwr-train model=cnn data.height=11", "data.height"),
    ("hwr-train data.height=5000 data.width=5000", "data.height"),
    ("hwr-train optimizer.lr=nan", "optimizer.lr"),
    ("hwr-train data=synthetic ckpt_path=nowhere", "nowhere"),
    ("hwr-forest n_estimators=many", "n_estimators"),
    ("hwr-evaluate ckpt_path=nowhere", "nowhere"),
    ("hwr-data", "action"),
    ("hwr-data draw", "FOLDER"),
    ("hwr-data draw x --writers many", "--writers"),
    ("hwr-data fetch x --from nowhere", "nowhere"),
    ("hwr-data show nowhere", "nowhere"),
    ("hwr-predict nowhere x.png", "nowhere"),
    ("hwr-predict", "RUN"),
    ("hwr-predict nowhere x.png --top 0", "--top"),
    ("hwr-export nowhere", "nowhere"),
    ("hwr-export nowhere --format tflite", "tflite"),
    ("hwr-runs nowhere", "nowhere"),
    ("hwr-runs x --sort", "--sort"),
    ("hwr-board nowhere", "nowhere"),
    ("hwr-board --port many", "--port"),
]
"""Wrong command lines, and what the sentence must name."""


def mistakes(program: str) -> Iterator[tuple[list[str], str]]:
    """Yield settings of a program with a mistake in the last one, and the key to be named."""
    for choice in [words.split() for name, words in CHOICES if name == program]:
        yield [*choice, "nonsense=1"], "nonsense"
        yield [*choice, "+nonsense=1"], "nonsense"
        for group in GROUPS if program == "train" else ():
            yield from (([*choice, f"{group}={x}"], group) for x in ("nope", "null", "1", "[1]"))
        config = hwr.compose([*choice, "output_dir=run"], program)
        yield from (([*choice, setting], key) for setting, key in wrong_settings(config))


def wrong_settings(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield wrong settings of all typed nodes, and their keys."""
    schema = OmegaConf.get_type(node)
    types = {x.name: x.type for x in fields(schema)} if is_dataclass(schema) else {}
    for key in node:
        name = f"{prefix}{key}"
        if isinstance(node[key], DictConfig):
            yield from wrong_settings(node[key], f"{name}.")
        elif key != "_target_" and types.get(str(key), Any) is not Any:
            yield from ((text.format(name), name) for text in ("{}x=1", "+{}.below=1", "~{}"))
            if name not in TEXT:  # which is taken as it is typed
                yield from ((f"{name}={x}", name) for x in wrong_values(types[str(key)]))


def wrong_values(kind: Any) -> tuple[str, ...]:
    """Return values that no setting of this type can have."""
    if kind is bool:
        return "perhaps", "0.5", "[true]", "{a:1}"
    if kind is int:
        return "many", "1.5", "-5", "[1]", "null", "99999999999999999999999999", "{a:1}"
    if kind is float:
        return "much", "-0.5", "nan", "inf", "-inf", "[0.5]", "null", "1e9", "{a:1}"
    return ("{a:1}",)


@pytest.mark.parametrize(("program", "count"), [("train", 800), ("forest", 100), ("evaluate", 80)])
def test_every_mistake_is_one_sentence(campaign: Campaign, program: str, count: int) -> None:
    wrong = list(mistakes(program))
    assert len(wrong) > count
    for settings, key in campaign.some(wrong, 8):
        with campaign.trial(f"wrong settings of hwr-{program}"):
            with pytest.raises(ConfigError) as error:
                hwr.compose(settings, program)
            assert key in str(error.value), settings
            assert "\n" not in str(error.value), settings


def test_wrong_words(campaign: Campaign, tmp_path: Path) -> None:
    """A command prints one sentence beside its usage, exits with 2, and leaves nothing."""
    for words, key in campaign.some(WORDS, 8):
        with campaign.trial("exit code after wrong words"):
            line = run(tmp_path / "in", words).expect_one_line()
            assert key in line, (words, line)
            assert not list((tmp_path / "in").iterdir())
