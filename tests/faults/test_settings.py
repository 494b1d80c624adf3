"""Wrong settings, generated from the schema: one sentence with the key in it, exit code 2."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from campaign import ALL, Campaign
from omegaconf import DictConfig, OmegaConf
from processes import run

from hwr.config.compose import compose
from hwr.errors import ConfigError

COMMANDS = {
    "train": ["hwr-train"],
    "forest": ["hwr-forest"],
    "evaluate": ["hwr-evaluate"],
}
CHOICES = [
    ("train", ["data=english", "split=stratified", "model=mlp", "trainer=default"]),
    ("train", ["data=synthetic", "split=kfold", "model=cnn", "trainer=ddp", "optimizer=sgd"]),
    ("train", ["data=folder", "split=writer", "model=glyphnet", "augment=handwriting"]),
    ("train", ["data=emnist", "split=lockbox", "experiment=best", "scheduler=cosine"]),
    ("forest", ["data=synthetic", "split=stratified"]),
    ("evaluate", ["ckpt_path=somewhere", "data=english"]),
]
"""Between them they hold every setting that there is."""
GROUPS = ("data", "split", "model", "augment", "trainer", "optimizer", "scheduler", "logger")
PAIRS = [
    "split.val_is_test=true split.val_size=0.2",
    "split.val_size=0 monitor=val/loss",
    "split.val_size=0.1 monitor=test/acc",
    "split.val_size=0 optimized_metric=val/acc",
    "split.val_size=0 callbacks=early_stopping",
    "split.val_size=0 scheduler=plateau",
    "experiment=notebook_cnn monitor=val/acc",
    "experiment=notebook_mlp callbacks=[light,early_stopping]",
    "split=kfold split.folds=3 split.fold=3",
    "split=writer split.folds=2 split.fold=2",
    "model=cnn data.height=11",
    "model=cnn data.width=15",
    "experiment=best data.height=15",
    "model=glyphnet model.width_mult=2 model.backbone=lcnet",
    "data.height=5000 data.width=5000",
    "data.preprocessing=ink data.channels=3",
    "data.persistent_workers=true",
    "optimizer.lr=-1",
    "optimizer.lr=nan",
]
"""Settings of hwr-train that contradict each other; a part of the last one is named."""
WORDS = [
    ("hwr-data", "", "action"),
    ("hwr-data", "nonsense", "nonsense"),
    ("hwr-data", "draw", "FOLDER"),
    ("hwr-data", "draw x --writers many", "--writers"),
    ("hwr-data", "draw x --writers 0", "data.writers=0"),
    ("hwr-data", "draw x --writers 1000", "data.writers=1000"),
    ("hwr-data", "draw x --seed 99999999999999999999", "data.seed"),
    ("hwr-data", "draw x --nonsense", "--nonsense"),
    ("hwr-data", "fetch x --from nowhere", "nowhere"),
    ("hwr-data", "fetch x --from ftp://nowhere/x", "ftp://nowhere/x"),
    ("hwr-data", "verify nowhere", "nowhere"),
    ("hwr-data", "show nowhere", "nowhere"),
    ("hwr-data", "show a b", "a and b"),
    ("hwr-data", "show data=nope", "data"),
    ("hwr-data", "show --out x data=synthetic data.writerz=1", "data.writerz"),
    ("hwr-predict", "nowhere x.png", "nowhere"),
    ("hwr-predict", "", "RUN"),
    ("hwr-predict", "nowhere x.png --top 0", "--top 0"),
    ("hwr-predict", "nowhere x.png --frame nope", "nope"),
    ("hwr-export", "nowhere", "nowhere"),
    ("hwr-export", "nowhere --format tflite", "tflite"),
    ("hwr-runs", "nowhere", "nowhere"),
    ("hwr-runs", "x --sort", "--sort"),
    ("hwr-board", "nowhere", "nowhere"),
    ("hwr-board", "--port many", "--port"),
]
"""Commands with arguments of their own, wrong ones, and what must be named."""


@cache
def mistakes() -> list[tuple[str, list[str], str]]:
    """Return commands, their settings with a mistake in them, and the key that must be named."""
    found = {}
    for program, choice in CHOICES:
        config = compose([*choice, "output_dir=run"], program)
        wrong = [("nonsense=1", "nonsense"), ("+nonsense=1", "nonsense"), *_mistakes(config)]
        for group in GROUPS if program == "train" else ():
            wrong += [(f"{group}={name}", group) for name in ("nope", "null", "1", "[1]")]
        for setting, key in wrong:
            found[program, *choice, setting] = (program, [*choice, setting], key)
    for pair in PAIRS:
        key = pair.split()[-1].lstrip("+").partition("=")[0]
        found["train", pair] = ("train", pair.split(), key)
    return list(found.values())


def _mistakes(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield wrong settings of all typed nodes, and their keys."""
    kind = OmegaConf.get_type(node)
    known = {one.name: one for one in fields(kind)} if is_dataclass(kind) else {}
    for key in node:
        name, value = f"{prefix}{key}", node[key]
        if isinstance(value, DictConfig):
            yield from _mistakes(value, f"{name}.")
        elif key in known and key != "_target_" and known[key].type is not Any:
            yield from ((text.format(name), name) for text in ("{}x=1", "+{}.below=1", "~{}"))
            wrong = _values(known[key].type, value, known[key].metadata)
            yield from ((f"{name}={text}", name) for text in wrong)


def _values(kind: Any, value: Any, limits: Any) -> Iterator[str]:
    """Yield what a setting of this type and value can't be."""
    yield "{a:1}"
    if kind is bool:
        yield from ("perhaps", "0.5", "[true]")
    elif kind is int:
        yield from ("many", "1.5", "-5", "[1]", "null", "99999999999999999999999999")
    elif kind is float:
        yield from ("much", "-0.5", "nan", "inf", "-inf", "[0.5]", "null", "1e9")
    elif isinstance(value, str | None):
        yield "[1]"
        if {"choices", "pattern"} & limits.keys():
            yield "nonsense"
        if "text" in limits:
            yield ""


@pytest.mark.parametrize("program", COMMANDS)
def test_every_mistake_is_one_sentence(campaign: Campaign, program: str) -> None:
    wrong = [row for row in mistakes() if row[0] == program]
    assert len(wrong) > {"train": 800, "forest": 100, "evaluate": 80}[program]
    for _, settings, key in campaign.some(wrong, 12):
        with campaign.trial(f"wrong settings of {' '.join(COMMANDS[program][:2])}"):
            with pytest.raises(ConfigError) as error:
                compose(settings, program)
            assert key in str(error.value), settings
            assert "\n" not in str(error.value), settings


def test_commands_exit_with_two(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for program, settings, key in campaign.some(mistakes(), 8)[: 200 if ALL else 8]:
        command, *words = COMMANDS[program]
        ended = run(tmp_path / "in", command, [*words, *settings])
        with campaign.trial("exit code after wrong settings"):
            assert ended.code == 2, (settings, ended.output)
            (line,) = ended.output.splitlines()
            assert key in line.removeprefix(f"{command}: "), (settings, line)
            assert not list((tmp_path / "in").iterdir())


def test_wrong_words(campaign: Campaign, tmp_path: Path) -> None:
    """Beside its usage, a command prints one sentence."""
    (tmp_path / "in").mkdir()
    for command, words, key in campaign.some(WORDS, 12):
        ended = run(tmp_path / "in", command, words.split())
        with campaign.trial("exit code after wrong words"):
            assert ended.code == 2, (words, ended.output)
            (line,) = (x for x in ended.output.splitlines() if not x.startswith(("usage:", " ")))
            assert line.startswith(command), line
            assert key in line, (words, line)
            assert not list((tmp_path / "in").iterdir())
