"""What a run tells: equal columns for all models, odd classes, parts switched off."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

import hwr
from hwr import figures, hparams, sheets, tensorboard, texts
from hwr.alphabet import Alphabet
from hwr.config import compose
from hwr.forest import forest
from hwr.train import train

TINY = ["data=synthetic", "data.writers=4", "data.batch_size=62"]
SMALL = [*TINY, "split.val_size=0.34", "trainer.max_epochs=2"]
HOSTILE = ["<script>alert(1)</script>", "a|b", "`", "$x$", "\x1b[31m", "字", "long " * 40, " "]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found


def columns(folder: Path) -> dict[str, Any]:
    tag = metadata.SESSION_START_INFO_TAG
    content = events(folder).SummaryMetadata(tag).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}


def page(folder: Path, tag: str) -> str:
    text: bytes = events(folder).Tensors(tag)[0].tensor_proto.string_val[0]
    return text.decode()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of every model."""
    root = tmp_path_factory.mktemp("three")
    for model in ("mlp", "cnn"):
        train(compose([*SMALL, f"model={model}"]), root / model)
    forest(compose([*TINY, "n_estimators=10"], "forest"), root / "forest")
    return {model: root / model for model in ("mlp", "cnn", "forest")}


def test_columns_are_equal_and_of_one_type(three: dict[str, Path]) -> None:
    rows = {model: columns(folder) for model, folder in three.items()}
    first, *others = rows.values()
    for row in others:
        assert row.keys() == first.keys()
        assert [type(row[name]) for name in first] == [type(value) for value in first.values()]
    assert rows["forest"]["lr"] == rows["mlp"]["conv_dropout"] == rows["cnn"]["hidden"] == "-"
    assert rows["mlp"]["hidden"].strip() == "100"
    assert rows["cnn"]["model"] == "cnn"
    for folder in three.values():
        scalars = events(folder)
        for name in ("val_acc", "test_acc", "acc_nocase", "fit_seconds"):
            (point,) = scalars.Scalars(f"hp/{name}")
            assert point.value >= 0


def test_every_model_tells_its_story(three: dict[str, Path]) -> None:
    for model, folder in three.items():
        tags = events(folder).Tags()
        images = {"test/confusion", "test/mistakes", "test/reliability", "test/best_and_worst"}
        images.add("weights/first_layer")
        groups = {
            f"{part}/acc_{group}"
            for part in ("train", "test")
            for group in ("digits", "upper", "lower")
        }
        scalars = groups | {"test/acc", "test/acc_nocase", "test/top3", "test_lookalike/auroc_O"}
        pages = {"run/settings", "run/command", "run/environment", "run/data", "test/confused"}
        tensors = pages | {"test/report", "pr_all/macro", "pr_all/micro", "pr_lookalike/0"}
        if model != "forest":
            images |= {"train/batch", "test/curves"}
            scalars |= {"lr", "grad_norm", "epoch_seconds", "pictures_per_second", "val/acc_upper"}
            tensors |= {"custom_scalars__config__"}
            assert tags["graph"]
        assert images == set(tags["images"])
        assert scalars <= set(tags["scalars"])
        assert tensors <= set(tags["tensors"])
        assert not tags["histograms"]
        assert sum(file.stat().st_size for file in folder.glob("events*")) < 5_000_000
        assert "| precision |" in page(folder, "test/report")
        assert "fingerprint" in page(folder, "run/data")


def test_projector_files(three: dict[str, Path]) -> None:
    for folder in three.values():
        labels = (folder / "projector/labels.tsv").read_text(encoding="utf-8").splitlines()
        assert labels[0].split("\t") == ["picture", "true", "predicted", "outcome"]
        features = np.loadtxt(folder / "projector/features.tsv", delimiter="\t")
        assert len(labels) - 1 == len(features) == 62
        with Image.open(folder / "projector/sprite.png") as sprite:
            assert sprite.size == (8 * 40, 8 * 30)
        assert 'tensor_path: "projector/features.tsv"' in (
            folder / "projector_config.pbtxt"
        ).read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_features_are_what_the_last_layer_gets(model: str) -> None:
    network = {"mlp": hwr.MLP, "cnn": hwr.CNN}[model](["a", "b"]).eval().network
    image = torch.rand(3, 1, 30, 40)
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    assert torch.equal(last(network.features(image)), network(image))


def test_parts_are_switched_off(tmp_path: Path) -> None:
    train(compose([*SMALL, "model=mlp", "report=none"]), tmp_path / "none")
    tags = events(tmp_path / "none").Tags()
    assert {tag.partition("/")[0] for tag in tags["scalars"]} == {"train", "val", "test"}
    assert not tags["images"]
    assert not tags["graph"]
    assert tags["tensors"] == ["custom_scalars__config__"]
    assert not list((tmp_path / "none").glob("*.png"))
    light = ["report=light", "report.histograms=true", "report.text=false"]
    train(compose([*SMALL, "model=mlp", *light]), tmp_path / "light")
    tags = events(tmp_path / "light").Tags()
    assert {"lr", "hp/test_acc"} <= set(tags["scalars"])
    assert {"weights/network.hidden.1.weight", "gradients/network.head.bias"} <= set(
        tags["histograms"]
    )
    assert not (tmp_path / "light/projector").exists()


def test_a_run_without_validation_says_so(tmp_path: Path) -> None:
    settings = [*TINY, "model=mlp", "trainer.max_epochs=1", "split.val_size=0", "report=light"]
    train(compose(settings), tmp_path)
    assert math.isnan(events(tmp_path).Scalars("hp/val_acc")[0].value)


@pytest.mark.parametrize("classes", [2, 62, 3000])
def test_figures_with_any_alphabet(classes: int) -> None:
    names = HOSTILE + [f"{chr(97 + i % 26)}{i}" for i in range(classes)]
    alphabet = Alphabet.of(names[:classes])
    random = np.random.default_rng(0)
    label = random.integers(0, classes, 200)
    guess = np.where(random.random(200) < 0.5, label, random.integers(0, classes, 200))
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (label, guess), 1)
    image = random.integers(0, 256, (200, 30, 40)).astype(np.uint8)
    probability = np.full((200, classes), 0.1 / classes, dtype=np.float32)
    probability[np.arange(200), guess] = 0.9
    drawn = [
        figures.png(figures.confusion(counts, alphabet, "a run")),
        sheets.mistakes(image, label, probability, alphabet),
        sheets.extremes(image, label, probability, alphabet),
        sheets.batch(image, label, alphabet, 1),
    ]
    for png in drawn:
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.width < 2000
            assert picture.height < 6000
    for text in (texts.confused(label, guess, alphabet), texts.report(label, guess, alphabet)):
        for line in text.splitlines():
            assert line.count("|") in (0, 5, 6)
            assert "\x1b" not in line
            if "script" in line:
                assert "`<script>" in line


def test_no_mistakes() -> None:
    alphabet, label = Alphabet.of("ab"), np.array([0, 1])
    perfect = np.eye(2, dtype=np.float32)
    image = np.zeros((2, 200, 300), dtype=np.uint8)
    assert sheets.mistakes(image, label, perfect, alphabet).startswith(b"\x89PNG")
    assert figures.png(figures.confusion(np.eye(2, dtype=np.int64), alphabet, "perfect"))
    assert texts.confused(label, label, alphabet) == "No test picture was read wrongly."


def test_numbers_as_text_keep_their_order() -> None:
    numbers = [0, 0.00001, 0.0005, 0.01, 0.25, 1, 2.5, 32, 200, 1000]
    assert sorted(map(hparams.text, numbers)) == list(map(hparams.text, numbers))
    assert [hparams.text(number).strip() for number in (0.00001, 200, None)] == [
        "0.00001",
        "200",
        "-",
    ]


def test_precision_and_recall_count_rightly() -> None:
    from sklearn.metrics import precision_score, recall_score

    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(4), 300).astype(np.float32)
    label = random.integers(0, 4, 300)
    hits, false, spared, missed = tensorboard._counts(probability, label)
    for index, level in [(0, 0), (1, 30), (3, 60)]:
        read = probability[:, index] >= level / 100
        own = label == index
        precision = hits[index, level] / (hits[index, level] + false[index, level])
        recall = hits[index, level] / (hits[index, level] + missed[index, level])
        assert precision == pytest.approx(precision_score(own, read))
        assert recall == pytest.approx(recall_score(own, read))
        assert hits[index, level] + false[index, level] + spared[index, level] + missed[
            index, level
        ] == len(label)
