"""Files made to harm: nothing in them is executed, nothing outside is written or read."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import markdown
import numpy as np
import onnx
import pytest
import skops.io
import torch
from campaign import Campaign
from isolated import isolated
from jobs import sentence
from PIL import Image
from processes import limit_onnx, prefer, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hwr
from hwr.config.compose import compose
from hwr.data import load_dataset

MARKUP = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))"]
MARKUP += ["</td></tr></table>", "<!--", "`|`", "&lt;b&gt;", "{{7*7}}", "${HOME}", "%s%n", "$(id)"]
CONTROLS = ["\x1b[2J\x1b[31m", "\x1b]0;owned\x07", "\r", "\n", "\b" * 9, "\u202e", "\x9b2J"]
MANY, HIDDEN = 700_000, 8
"""Units that a file asks for, and that it has."""
SMALL = ["data=folder", "data.height=24", "data.width=32"]
TRAIN = ["model=mlp", f"model.hidden={HIDDEN}", "split.val_size=0", "callbacks=light"]
TRAIN.append("trainer.max_epochs=1")


class Mark:
    """Write a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return Path.touch, (self.file,)


@pytest.fixture(scope="module")
def models(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, as it should be."""
    folder = tmp_path_factory.mktemp("models")
    data = [*SMALL, f"data.root={drawn}", f"data.cache={folder}/cache"]
    for name, words in {
        "hwr-train": [*data, *TRAIN, f"hydra.run.dir={folder}/network"],
        "hwr-forest": [*data, "n_estimators=3", "plots=false", f"hydra.run.dir={folder}/forest"],
        "hwr-export": [f"{folder}/network", "--out", f"{folder}/model.onnx"],
    }.items():
        ended = run(folder, name, words)
        assert ended.code == 0, ended.output
    last = folder / "network/checkpoints/last.ckpt"
    return {"ckpt": last, "skops": folder / "forest/forest.skops", "onnx": folder / "model.onnx"}


def endless(model: onnx.ModelProto, loop: bool) -> None:
    """Put a loop without an end, or one that takes a hundred gigabytes, in place of a model."""
    helper, (image,), (output,) = onnx.helper, model.graph.input, model.graph.output
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT)

    def scalar(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [])

    body = helper.make_graph(
        [helper.make_node("Identity", [one], [f"{one}_"]) for one in ("on", "sum")],
        "body",
        [scalar(name, kind) for name, kind in zip(("turn", "on", "sum"), kinds, strict=True)],
        [scalar("on_", kinds[1]), scalar("sum_", kinds[2])],
    )
    nodes = [helper.make_node("ReduceSum", ["image"], ["ink"], keepdims=0)]
    if loop:
        nodes.append(helper.make_node("Loop", ["turns", "yes", "ink"], [output.name], body=body))
    else:
        nodes.append(helper.make_node("Expand", ["ink", "size"], ["all"]))
        nodes.append(helper.make_node("ReduceSum", ["all"], [output.name], keepdims=0))
    numbers = {"turns": np.array(2**62), "yes": np.array(True), "size": np.array([25 * 10**9])}
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in numbers.items()]
    outputs = [scalar(output.name, kinds[2])]
    model.graph.CopyFrom(helper.make_graph(nodes, "endless", [image], outputs, weights))


def hostile_onnx(kind: str, model: onnx.ModelProto) -> bytes:
    """Return an ONNX file that does harm."""
    if kind == "outside":
        for weight in model.graph.initializer:
            length = str(len(weight.raw_data))
            weight.ClearField("raw_data")
            weight.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": "secret", "offset": "0", "length": length}.items():
                weight.external_data.add(key=key, value=value)
    elif kind == "sparse":
        value = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
        place = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "place")
        sparse = onnx.helper.make_sparse_tensor(value, place, [4 * 10**9])
        model.graph.sparse_initializer.append(sparse)
    else:
        endless(model, kind == "loop")
    return bytes(model.SerializeToString())


def hostile_skops(kind: str, file: Path, forest: Path, mark: Mark) -> None:
    """Write a forest's file that does harm."""
    if kind == "other":
        skops.io.dump({"trees": np.array([str(mark.file)], object), "card": "{}"}, file)
        return
    with zipfile.ZipFile(forest) as archive:
        schema = json.loads(archive.read("schema.json"))
    if kind == "type":
        system = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
        schema |= {**system, "content": {"module_path": "os", "function": "system"}}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "lists":
            archive.writestr("other", os.urandom(10**6))
        lists = "[" + ",".join(["[]"] * 16 * 10**6) + "]"
        archive.writestr("schema.json", lists if kind == "lists" else json.dumps(schema))


def hostile_ckpt(kind: str, saved: dict[str, Any], mark: Mark) -> dict[str, Any]:
    """Change a checkpoint so that it does harm where it is trusted."""
    node, weights = saved["hwr"]["model"], saved["state_dict"]
    command = {"_target_": "os.system", "command": f"touch {mark.file}"}
    match kind:
        case "planted":
            saved["surprise"] = mark
        case "instead of a weight":
            weights["x"] = mark
        case "target":
            saved["hwr"]["model"] = command
        case "target of a package of ours":
            saved["hwr"]["model"] = {
                **command,
                "_target_": "hwr.inference.checkpoint.torch.os.system",
            }
        case "target in an argument":
            node["hidden"] = command
        case "target in a list":
            node["hidden"] = [{"_target_": "hwr.models.MLP", "x": command}]
        case "positional arguments":
            node["_args_"] = [command]
        case "too many units":
            node["hidden"] = MANY
        case "too many classes":
            node["num_classes"] = MANY
        case "one number":
            node["hidden"] = MANY
            for name, one in weights.items():
                shape = [MANY if side == HIDDEN else side for side in one.shape]
                weights[name] = torch.zeros(1).expand(shape)
    return saved


def planted(kind: str, models: dict[str, Path], folder: Path) -> Path:
    """Write a file that does harm where it is trusted: a file `mark` in the folder."""
    suffix, _, kind = kind.partition(" ")
    mark, file = Mark(folder / "mark"), folder / f"bad.{suffix}"
    (folder / "secret").write_bytes(bytes(4 * 10**6))
    if kind == "pickle":
        file.write_bytes(pickle.dumps(mark))
    elif kind == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(400_000_000))
            archive.writestr("schema.json", b"[" * 400_000_000)
    elif kind in ("link", "device"):
        file.symlink_to("/etc/passwd" if kind == "link" else "/dev/zero")
    elif suffix == "onnx":
        file.write_bytes(hostile_onnx(kind, onnx.load(models["onnx"])))
    elif suffix == "skops":
        hostile_skops(kind, file, models["skops"], mark)
    else:
        saved = torch.load(models["ckpt"], weights_only=True)
        if kind == "old format":
            torch.save({**saved, "x": mark}, file, _use_new_zipfile_serialization=False)
        else:
            torch.save(hostile_ckpt(kind, saved, mark), file)
    return file


CARDS = ["target", "target of a package of ours", "target in an argument", "target in a list"]
CARDS += ["positional arguments", "too many units", "too many classes"]
KINDS = [f"ckpt {kind}" for kind in CARDS]
"""What only inference reads; a run that is resumed has a model of its own."""
KINDS += ["ckpt pickle", "ckpt planted", "ckpt instead of a weight", "ckpt old format", "ckpt bomb"]
KINDS += ["ckpt one number", "ckpt link", "ckpt device", "skops pickle", "skops bomb"]
KINDS += ["skops type", "skops other", "skops lists", "onnx pickle", "onnx outside"]
KINDS += ["onnx loop", "onnx large", "onnx sparse"]


@pytest.mark.parametrize("kind", KINDS)
def test_model_files(
    campaign: Campaign, models: dict[str, Path], drawn: Path, tmp_path: Path, kind: str
) -> None:
    file = planted(kind, models, tmp_path)
    before = sorted(tmp_path.iterdir())

    def load() -> None:
        limit_onnx()
        os.chdir(tmp_path)
        hwr.load(file)

    with campaign.trial("hostile model file"):
        line = isolated(load).expect_one_sentence(str(file), mebibytes=600)
        assert kind not in ("onnx outside", "onnx loop", "onnx sparse") or "is not run" in line
        assert sorted(tmp_path.iterdir()) == before
    data = [*SMALL, f"data.root={drawn}", f"data.cache={tmp_path.parent}/cache"]
    words = {
        "hwr-train": [*data, *TRAIN, f"ckpt_path={file}"],
        "hwr-evaluate": [*data, f"ckpt_path={file}"],
        "hwr-export": [str(file)],
        "hwr-predict": [str(file), str(drawn)],
    }
    if kind in KINDS[: len(CARDS)]:
        del words["hwr-train"]
    for command in campaign.some(list(words), int(campaign.random.random() < 0.4)):
        place = tmp_path / "in"
        place.mkdir()
        with campaign.trial("hostile model file"):
            line = sentence(run(place, command, words[command], limit_onnx), command)
            assert file.name in line
            assert not [path for path in place.rglob("*") if path.is_file()]
        place.rmdir()
        (tmp_path / "in.txt").unlink()
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
def test_nodes_that_only_training_needs(
    campaign: Campaign, models: dict[str, Path], tmp_path: Path, key: str
) -> None:
    """Optimizers, schedulers and instantiators of a file are never called."""
    command = {"_target_": "os.system", "command": f"touch {tmp_path}/mark"}
    wrong = {"optimizer": command, "scheduler": command, "_instantiator": "os.system"}
    for name, node in wrong.items():
        saved = torch.load(models["ckpt"], weights_only=True)
        saved["hyper_parameters"].pop(name, None)
        saved.setdefault(key, {})[name] = node
        file = tmp_path / "x.ckpt"
        torch.save(saved, file)
        with campaign.trial("foreign node of a checkpoint"):
            assert isolated(partial(hwr.load, file)).rejected is None
            with pytest.raises((hwr.errors.RunError, ValueError), match=r"os\.system"):
                hwr.MLP.load_from_checkpoint(file)
            assert not (tmp_path / "mark").exists()


def damages(saved: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return what can be wrong in a checkpoint that does no harm, by its name."""
    card, weights, node = saved["hwr"], saved["state_dict"], saved["hwr"]["model"]
    first = next(iter(weights))
    (timer,) = (state for name, state in saved["callbacks"].items() if name.startswith("Timer"))
    return {
        "no card": lambda: saved.pop("hwr"),
        "card of numbers": lambda: saved.update(hwr=[1]),
        "no model": lambda: card.pop("model"),
        "unknown model": lambda: node.update(_target_="hwr.models.Nope"),
        "model that is none": lambda: card.update(model=7),
        "a tensor as setting": lambda: node.update(hidden=torch.ones(2)),
        "a prefix of numbers": lambda: card.update(state_dict_prefix=7),
        "no charset": lambda: card.pop("charset"),
        "charset of numbers": lambda: card.update(charset=[1, 2]),
        "charset twice": lambda: card.update(charset=["a"] * len(card["charset"])),
        "a huge size": lambda: card.update(height=10**7),
        "no size": lambda: card.pop("width"),
        "five channels": lambda: card.update(channels=5),
        "unknown preprocessing": lambda: card.update(preprocessing="nope"),
        "a frame of words": lambda: card.update(frame={"x": "y"}),
        "nothing about": lambda: card.update(about=None),
        "metrics of words": lambda: card.update(metrics="nope"),
        "a weight less": lambda: weights.pop(first),
        "a weight of another shape": lambda: weights.update({first: torch.ones(3)}),
        "a weight that is none": lambda: weights.update({first: "x"}),
        "no optimizer": lambda: saved.pop("optimizer_states"),
        "an empty optimizer": lambda: saved.update(optimizer_states=[{}]),
        "no schedule": lambda: saved.pop("lr_schedulers"),
        "callbacks of numbers": lambda: saved.update(callbacks=7),
        "no time": lambda: timer.clear(),
        "no loops": lambda: saved.update(loops={}),
        "no epoch": lambda: saved.pop("epoch"),
        "no version": lambda: saved.pop("pytorch-lightning_version"),
    }


@pytest.mark.parametrize("command", ["hwr-train", "hwr-evaluate", "hwr-predict"])
def test_damaged_checkpoints(
    campaign: Campaign, models: dict[str, Path], drawn: Path, tmp_path: Path, command: str
) -> None:
    """One sentence, or what is damaged isn't needed."""
    data = ["data=folder", f"data.root={drawn}", f"data.cache={tmp_path}/cache"]
    names = list(damages(torch.load(models["ckpt"], weights_only=True)))
    for number, name in enumerate(campaign.some(names, 4)):
        saved = torch.load(models["ckpt"], weights_only=True)
        damages(saved)[name]()
        place = tmp_path / str(number)
        place.mkdir()
        torch.save(saved, place / "bad.ckpt")
        words = {
            "hwr-train": [*SMALL, *data, *TRAIN, "trainer.max_epochs=2", "ckpt_path=bad.ckpt"],
            "hwr-evaluate": [*data, "ckpt_path=bad.ckpt"],
            "hwr-predict": ["bad.ckpt", str(next(drawn.glob("Img/*.png")))],
        }[command]
        with campaign.trial(f"damaged checkpoint given to {command}"):
            ended = run(place, command, words)
            assert "Traceback" not in ended.output, (name, ended.output)
            if ended.code:
                assert "bad.ckpt" in sentence(ended, command), name


@pytest.mark.parametrize("kind", ["ckpt", "skops", "onnx"])
def test_flipped_bits(
    campaign: Campaign, models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """A file with flipped bits is rejected, or read as another one; the process never dies."""
    for number in campaign.trials(150, 3):
        content = bytearray(models[kind].read_bytes())
        end = len(content) if number % 2 else min(4000, len(content))
        for place in campaign.random.integers(end, size=number % 3 + 1):
            content[place] ^= 1 << campaign.random.integers(8)
        file = tmp_path / f"flipped.{kind}"
        file.write_bytes(content)
        with campaign.trial(f"flipped bits of a model (.{kind})"):
            outcome = isolated(partial(hwr.load, file))
            assert outcome.crashed is None, (number, outcome.crashed)
            assert "\n" not in (outcome.rejected or "")
            assert outcome.mebibytes < 600, outcome


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "bomb", "long"])
def test_other_things_in_place_of_the_cache(
    campaign: Campaign, drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    """Work goes on without it."""
    node = compose([*SMALL, f"data.root={drawn}", f"data.cache={tmp_path}"]).data
    assert isolated(partial(load_dataset, node)).crashed is None
    (file,) = tmp_path.iterdir()
    size = file.stat().st_size
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case "bomb":
            np.savez_compressed(file, image=np.zeros((300, 10**6), np.uint8))
        case "long":
            np.savez(file, image=np.zeros((300, 10**6), np.uint8))
    with campaign.trial("something else in place of the cache"):
        outcome = isolated(partial(load_dataset, node), seconds=60)
        assert (outcome.crashed, outcome.rejected) == (None, None)
        assert outcome.mebibytes < 200, outcome
        replaced = file.is_file() and file.stat().st_size == size
        assert replaced == (kind in ("bomb", "long"))
        assert ("going on without a cache" in capfd.readouterr().err) != replaced


def odd_name(random: np.random.Generator, for_a_file: bool = False) -> str:
    pieces = [*MARKUP, *CONTROLS]
    name = "".join(pieces[k] for k in random.integers(len(pieces), size=random.integers(1, 3)))
    return name.replace("/", "-") if for_a_file else name


def harmless(text: str) -> bool:
    """Tell whether Markdown, rendered as it is, shows the names and nothing more."""
    page = markdown.markdown(text, extensions=["tables", "fenced_code"]).lower()
    tags = ("<script", "<img", "<!--", 'href="javascript', "</td></tr></table></p>")
    return not any(tag in page for tag in tags) and all(
        c.isprintable() or c in "\n\t" for c in text
    )


def texts(run: Path) -> list[str]:
    """Return the texts that a run wrote for TensorBoard."""
    events = EventAccumulator(str(run)).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith(("run/", "test/"))]
    protos = [event.tensor_proto for tag in tags for event in events.Tensors(tag)]
    return [text.decode() for proto in protos for text in proto.string_val]


def test_names_and_labels(campaign: Campaign, tmp_path: Path) -> None:
    """Markup and terminal codes in labels and file names are escaped wherever they are shown."""
    for number in campaign.trials(12, 1):
        place, random = tmp_path / str(number), campaign.random
        own = place / "own"
        own.mkdir(parents=True)
        odd = {odd_name(random) for _ in range(6)} | {MARKUP[0], CONTROLS[0]}
        labels = sorted(label for label in odd if label.strip())
        rows = ["image,label"]
        for row in range(8 * len(labels)):
            file = f"{row}{odd_name(random, for_a_file=True)}.png"
            Image.fromarray(random.integers(0, 255, (24, 32), np.uint8)).save(own / file)
            cells = [cell.replace('"', '""') for cell in (file, labels[row % len(labels)])]
            rows.append('"{}","{}"'.format(*cells))
        (own / "t.csv").write_text("\n".join(rows), newline="")
        words = [*SMALL, *TRAIN, f"data.root={own}", f"data.cache={place}/cache"]
        words += ["callbacks=default", "hydra.run.dir=run"]
        ended = run(place, "hwr-train", words)
        with campaign.trial("hostile names and labels in a run"):
            assert ended.code == 0, ended.output
            assert all(c.isprintable() or c == "\n" for c in ended.output)
            shown = [(place / "run/README.md").read_text(encoding="utf-8"), *texts(place / "run")]
            assert len(shown) > 1
            assert all(map(harmless, shown))
        ended = run(place, "hwr-data", ["show", str(own), "--out", "shown"])
        with campaign.trial("hostile names and labels shown"):
            assert ended.code == 0, ended.output
            assert all(c.isprintable() or c == "\n" for c in ended.output)
        broken = own / f"{odd_name(random, for_a_file=True)}.png"
        broken.write_bytes(b"no image")
        with (own / "t.csv").open("a", newline="") as table:
            table.write('\n"{}",a'.format(broken.name.replace('"', '""')))
        with campaign.trial("hostile names in a message"):
            ended = run(place, "hwr-train", [*words, "hydra.run.dir=again"])
            assert sentence(ended, "hwr-train").isprintable()


@pytest.mark.parametrize("command", ["hwr-train", "hwr-predict"])
def test_an_image_that_is_a_program(
    campaign: Campaign, models: dict[str, Path], tmp_path: Path, command: str
) -> None:
    """PostScript by another name is not given to Ghostscript."""
    programs, bad = tmp_path / "bin", tmp_path / "own/a/2.png"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (programs / "gs").chmod(0o755)
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        Image.new("L", (40, 30), 255).save(tmp_path / "own" / label / "1.png")
    bad.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n")
    words = [*SMALL, f"data.root={tmp_path}/own", f"data.cache={tmp_path}/cache"]
    if command == "hwr-predict":
        words = [str(models["ckpt"]), str(bad)]
    with campaign.trial("an image that is a program"):
        ended = run(tmp_path, command, words, partial(prefer, programs))
        assert ended.code == (2 if command == "hwr-train" else 1), ended.output
        assert "2.png cannot be read as an image" in ended.output
        assert not (tmp_path / "mark").exists()
