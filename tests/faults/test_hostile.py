"""Files made to harm: nothing in them is executed, nothing outside is written or read."""

import json
import os
import pickle
import stat
import tarfile
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
import test_fetch
import torch
from apart import apart
from campaign import Campaign
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_disk import one_sentence
from test_predict import Mark
from victim import finds, hurried, knows, run

import hwr
from hwr import data
from hwr.config import compose

MARKUP = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))"]
MARKUP += ["</td></tr></table>", "<!--", "`|`", "&lt;b&gt;", "{{7*7}}", "${HOME}", "%s%n", "$(id)"]
CONTROLS = ["\x1b[2J\x1b[31m", "\x1b]0;owned\x07", "\r", "\n", "\b" * 9, "\u202e", "\x9b2J"]
MANY, HIDDEN = 700_000, 8
"""Units that a file asks for, and that it has."""
DATA = [
    "data=folder",
    "data.height=24",
    "data.width=32",
    "data.batch_size=8",
    "split.val_size=0.25",
]


@pytest.fixture(scope="module")
def models(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, as it should be."""
    folder = tmp_path_factory.mktemp("models")
    where = [f"data.root={drawn}", f"data.cache={folder}/cache"]
    small = ["data=folder", "data.height=24", "data.width=32"]
    for name, more in (
        ("hwr-train", ["model=mlp", f"model.hidden={HIDDEN}", "trainer.max_epochs=1"]),
        ("hwr-forest", ["n_estimators=3"]),
    ):
        words = [*small, *where, *more, "report=none", "split.val_size=0"]
        ended = run(folder, name, [*words, f"hydra.run.dir={folder}/{name}"])
        assert ended.code == 0, ended.said
    words = [str(folder / "hwr-train"), "--out", str(folder / "model.onnx")]
    ended = run(folder, "hwr-export", words)
    assert ended.code == 0, ended.said
    (forest,) = (folder / "hwr-forest").glob("*.skops")
    last = folder / "hwr-train/checkpoints/last.ckpt"
    return {"ckpt": last, "skops": forest, "onnx": folder / "model.onnx"}


def endless(model: onnx.ModelProto, loop: bool) -> bytes:
    """A model that would never end, or take a hundred gigabytes, in place of this one."""
    helper, (image,), (output,) = onnx.helper, model.graph.input, model.graph.output

    whole, truth, number = onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT

    def scalar(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [])

    body = helper.make_graph(
        [helper.make_node("Identity", [one], [f"{one}_"]) for one in ("on", "sum")],
        "body",
        [scalar("turn", whole), scalar("on", truth), scalar("sum", number)],
        [scalar("on_", truth), scalar("sum_", number)],
    )
    nodes = [helper.make_node("ReduceSum", ["image"], ["ink"], keepdims=0)]
    if loop:
        nodes.append(helper.make_node("Loop", ["turns", "yes", "ink"], [output.name], body=body))
    else:
        nodes.append(helper.make_node("Expand", ["ink", "size"], ["all"]))
        nodes.append(helper.make_node("ReduceSum", ["all"], [output.name], keepdims=0))
    numbers = {"turns": np.array(2**62), "yes": np.array(True), "size": np.array([25 * 10**9])}
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "endless", [image], [scalar(output.name, number)], weights)
    model.graph.CopyFrom(graph)
    return model.SerializeToString()


def planted(kind: str, models: dict[str, Path], folder: Path) -> Path:
    """A model file that does harm where it is trusted; the harm is a file `mark` in the folder."""
    mark, file = Mark(folder / "mark"), folder / f"bad-{kind}.{kind.partition(' ')[0]}"
    saved = torch.load(models["ckpt"], weights_only=True)
    match kind:
        case "ckpt pickle" | "skops pickle" | "onnx pickle":
            file.write_bytes(pickle.dumps(mark))
        case "ckpt planted":
            torch.save({**saved, "surprise": mark}, file)
        case "ckpt instead of a weight":
            torch.save({**saved, "state_dict": {**saved["state_dict"], "x": mark}}, file)
        case "ckpt old format":
            torch.save({**saved, "surprise": mark}, file, _use_new_zipfile_serialization=False)
        case "ckpt bomb" | "skops bomb":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("archive/data.pkl", bytes(400_000_000))
                archive.writestr("schema.json", b"[" * 400_000_000)
        case "skops lists":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("other", os.urandom(10**6))
                archive.writestr("schema.json", "[" + ",".join(["[]"] * 16 * 10**6) + "]")
        case "skops type":
            with zipfile.ZipFile(models["skops"]) as archive:
                schema = json.loads(archive.read("schema.json"))
            system = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
            schema |= {**system, "content": {"module_path": "os", "function": "system"}}
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("schema.json", json.dumps(schema))
        case "skops other":
            skops.io.dump({"trees": np.array([mark.file], object), "card": "{}"}, file)
        case "onnx outside":
            model = onnx.load(models["onnx"])
            secret = folder / "secret.bin"
            secret.write_bytes(bytes(4 * 10**6))
            for weight in model.graph.initializer:
                size = len(weight.raw_data)
                weight.ClearField("raw_data")
                weight.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (
                    ("location", "secret.bin"),
                    ("offset", "0"),
                    ("length", str(size)),
                ):
                    weight.external_data.add(key=key, value=value)
            file.write_bytes(model.SerializeToString())
        case "ckpt too many units":
            saved["hyper_parameters"]["hidden"] = MANY
            torch.save(saved, file)
        case "ckpt too many classes":
            saved["hyper_parameters"]["alphabet"] = [str(name) for name in range(MANY)]
            torch.save(saved, file)
        case "ckpt of one number":
            saved["hyper_parameters"]["hidden"] = MANY
            saved["state_dict"] = {
                name: torch.zeros(1).expand(
                    [MANY if side == HIDDEN else side for side in one.shape]
                )
                for name, one in saved["state_dict"].items()
            }
            torch.save(saved, file)
        case "onnx sparse":
            model, size = onnx.load(models["onnx"]), 4 * 10**9
            value = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
            place = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "place")
            sparse = onnx.helper.make_sparse_tensor(value, place, [size])
            model.graph.sparse_initializer.append(sparse)
            file.write_bytes(model.SerializeToString())
        case "onnx loop" | "onnx large":
            file.write_bytes(endless(onnx.load(models["onnx"]), kind == "onnx loop"))
        case "ckpt link":
            file.symlink_to("/etc/passwd")
        case "ckpt device":
            file.symlink_to("/dev/zero")
    return file


KINDS = ["ckpt pickle", "skops pickle", "onnx pickle", "ckpt planted", "ckpt instead of a weight"]
KINDS += ["ckpt old format", "ckpt bomb", "skops bomb", "skops type", "skops other"]
KINDS += ["onnx outside", "ckpt link", "ckpt device", "ckpt too many units"]
KINDS += [
    "ckpt too many classes",
    "ckpt of one number",
    "onnx loop",
    "onnx large",
    "onnx sparse",
    "skops lists",
]


@pytest.mark.parametrize("kind", KINDS)
def test_models(
    campaign: Campaign, models: dict[str, Path], drawn: Path, tmp_path: Path, kind: str
) -> None:
    file = planted(kind, models, tmp_path)
    before = sorted(tmp_path.iterdir())
    with campaign.trial("hostile model file"):
        found = apart(lambda: (hurried(), os.chdir(tmp_path), hwr.load(file)))
        assert found.broke is None, found.broke
        assert found.refused is not None
        assert str(file) in found.refused
        assert "\n" not in found.refused
        assert found.mebibytes < 600, found
        if kind in ("onnx outside", "onnx loop", "onnx sparse"):
            assert "it is not run" in found.refused
        assert sorted(tmp_path.iterdir()) == before
    small = [*DATA[:3], f"data.root={drawn}", f"data.cache={tmp_path.parent}/cache"]
    for command, words in {
        "hwr-train": [*small, "model=mlp", "split.val_size=0", f"ckpt={file}"],
        "hwr-evaluate": [*small, f"ckpt={file}"],
        "hwr-export": [str(file)],
    }.items():
        (tmp_path / "in").mkdir()
        with campaign.trial("hostile model file"):
            said = one_sentence(run(tmp_path / "in", command, words, before=hurried), command)
            assert file.name in said
            assert not [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
        (tmp_path / "in.txt").unlink()
        os.rmdir(tmp_path / "in")
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "bomb", "long"])
def test_what_is_no_cache_in_its_place(
    campaign: Campaign, drawn: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    """Work goes on without it."""
    config = compose([*DATA[:3], f"data.root={drawn}", f"data.cache={tmp_path}"]).data
    assert apart(lambda: data.load(config)).broke is None
    (file,) = tmp_path.iterdir()
    size = file.stat().st_size
    file.unlink()
    match what:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case "bomb":
            np.savez_compressed(file, image=np.zeros((300, 10**6), np.uint8), aspect=1)
        case "long":
            np.savez(file, image=np.zeros((300, 10**6), np.uint8), aspect=1)
    with campaign.trial("something else in place of the cache"):
        found = apart(lambda: data.load(config), seconds=60)
        assert found.broke is None, found.broke
        assert found.refused is None
        assert found.mebibytes < 200, found
        file_is_whole = file.is_file() and file.stat().st_size == size
        assert file_is_whole == (what in ("bomb", "long"))
        assert ("going on without a cache" in capfd.readouterr().err) != file_is_whole


def damages(saved: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """What can be wrong in a checkpoint that is loaded without harm, by its name."""
    settings, weights = saved["hyper_parameters"], saved["state_dict"]
    (state,) = (state for name, state in saved["callbacks"].items() if "Recorder" in name)
    first = next(iter(weights))
    return {
        "no identity": lambda: state.pop("identity"),
        "no seconds": lambda: state.pop("fit_seconds"),
        "history of numbers": lambda: state.update(history=[1]),
        "history of words": lambda: state.update(history=[{"train/loss": "x"}]),
        "history is none": lambda: state.update(history=None),
        "callbacks are none": lambda: saved.update(callbacks=7),
        "settings are none": lambda: saved.update(hyper_parameters=[1]),
        "alphabet is none": lambda: settings.update(alphabet=7),
        "a tensor as setting": lambda: settings.update(hidden=torch.ones(2)),
        "a weight less": lambda: weights.pop(first),
        "a weight of another shape": lambda: weights.update({first: torch.ones(3)}),
        "a weight that is none": lambda: weights.update({first: "x"}),
        "no optimiser": lambda: saved.pop("optimizer_states"),
        "an empty optimiser": lambda: saved.update(optimizer_states=[{}]),
        "no schedule": lambda: saved.pop("lr_schedulers"),
        "no loops": lambda: saved.update(loops={}),
        "no epoch": lambda: saved.pop("epoch"),
        "no version": lambda: saved.pop("pytorch-lightning_version"),
        "a huge size": lambda: settings.update(size=[30, 10**7]),
        "no size": lambda: settings.pop("size"),
        "no preprocessing": lambda: settings.pop("preprocessing"),
        "unknown preprocessing": lambda: settings.update(preprocessing="nope"),
        "nothing about": lambda: saved.update(about=None),
        "unknown model": lambda: saved.update(model="nope"),
    }


@pytest.mark.parametrize("command", ["hwr-train", "hwr-evaluate", "hwr-predict"])
def test_damaged_checkpoints(
    campaign: Campaign, models: dict[str, Path], drawn: Path, tmp_path: Path, command: str
) -> None:
    """One sentence, or what is damaged isn't needed."""
    names = list(damages(torch.load(models["ckpt"], weights_only=True)))
    cache = f"data.cache={tmp_path.parent}/cache"
    for name in names if len(campaign.trials(2, 1)) > 1 else names[::3]:
        saved = torch.load(models["ckpt"], weights_only=True)
        damages(saved)[name]()
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        torch.save(saved, folder / "bad.ckpt")
        small = [*DATA[:3], f"data.root={drawn}", cache, "report=none"]
        words = {
            "hwr-train": [*small, "model=mlp", f"model.hidden={HIDDEN}", "split.val_size=0"],
            "hwr-evaluate": [*small[:1], *small[3:5]],
            "hwr-predict": ["bad.ckpt", str(next(drawn.glob("Img/*.png")))],
        }[command]
        if command != "hwr-predict":
            words += ["ckpt=bad.ckpt", "hydra.run.dir=run"]
        with campaign.trial(f"damaged checkpoint given to {command}"):
            ended = run(folder, command, words)
            assert "Traceback" not in ended.said, (name, ended.said)
            if ended.code:
                assert "bad.ckpt" in one_sentence(ended, command), name


@pytest.mark.parametrize("kind", ["ckpt", "skops", "onnx"])
def test_models_of_which_bits_were_flipped(
    campaign: Campaign, models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """They are refused, or read as another file would be; the process never dies of them."""
    whole = models[kind].read_bytes()
    for number in campaign.trials(150, 3):
        content = bytearray(whole)
        end = len(content) if number % 2 else 4000
        for place in campaign.random.integers(min(end, len(content)), size=number % 3 + 1):
            content[place] ^= 1 << campaign.random.integers(8)
        file = tmp_path / f"flipped.{kind}"
        file.write_bytes(content)
        with campaign.trial(f"flipped bits of a model (.{kind})"):
            found = apart(partial(hwr.load, file))
            assert found.broke is None, (number, found.broke)
            assert "\n" not in (found.refused or "")
            assert found.mebibytes < 600, found


def climbing(random: np.random.Generator) -> str:
    """A member's name that leads outside."""
    up = ["../", "..\\", "./../", "Img/../../", "a/../../"][random.integers(5)]
    start = [up * int(random.integers(1, 5)), "/", "//", "C:\\", "\\\\host\\share\\", "~/../"]
    return start[random.integers(len(start))] + "img001-001.png"


def archive(random: np.random.Generator, folder: Path) -> Path:
    """An archive that would write outside, or is more than it looks."""
    members = test_fetch.kaggle()
    kind = random.integers(5)
    if kind == 0:
        return test_fetch.zipped(folder / "bad.zip", {**members, climbing(random): b"bad"})
    if kind == 1:
        return test_fetch.tgz(folder / "bad.tgz", {**members, climbing(random): b"bad"})
    target = ["/etc/passwd", "../../outside", "english.csv", "/dev/zero", "."][random.integers(5)]
    if kind == 2:
        kinds = (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
        )
        info = test_fetch.link(kinds[random.integers(len(kinds))], target)
        return test_fetch.tgz(folder / "bad.tgz", members, info)
    if kind == 4:
        del members["Img/img001-002.png"]
    file = test_fetch.zipped(folder / "bad.zip", members)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as opened:
        entry = zipfile.ZipInfo("Img/img001-003.png")
        if kind == 3:
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(entry, target)
        else:
            opened.writestr("Img/img001-002.png", bytes(int(random.integers(2, 200)) * 10**6))
    return file


def test_archives(campaign: Campaign, tmp_path: Path) -> None:
    digests = {
        name: test_fetch.hashlib.sha256(one).hexdigest()
        for name, one in test_fetch.PICTURES.items()
    }

    for number in campaign.trials(100, 4):
        folder = tmp_path / str(number)
        (folder / "home").mkdir(parents=True)
        source = archive(campaign.random, folder)
        with campaign.trial("hostile archive"):
            words = ["fetch", "english", "--from", str(source)]
            found = run(folder / "home", "hwr-data", words, before=partial(knows, digests))
            one_sentence(found, "hwr-data")
            assert source.name in found.said
            assert not list((folder / "home").iterdir())
            assert {path.name for path in folder.iterdir()} == {"home", "home.txt", source.name}


def odd_name(random: np.random.Generator, for_a_file: bool) -> str:
    pieces = [*MARKUP, *CONTROLS]
    name = "".join(pieces[k] for k in random.integers(len(pieces), size=random.integers(1, 3)))
    return name.replace("/", "-") if for_a_file else name


def harmless(text: str) -> bool:
    """Whether Markdown, rendered by somebody who trusts it, shows the names and nothing more."""
    page = markdown.markdown(text, extensions=["tables", "fenced_code"]).lower()
    tags = ("<script", "<img", "<!--", 'href="javascript', "</td></tr></table></p>")
    return not any(tag in page for tag in tags) and all(
        c.isprintable() or c in "\n\t" for c in text
    )


def test_names(campaign: Campaign, tmp_path: Path) -> None:
    """Markup and terminal codes in labels and file names: escaped wherever they are shown."""
    for number in campaign.trials(12, 1):
        folder, random = tmp_path / str(number), campaign.random
        (folder / "own").mkdir(parents=True)
        odd = {odd_name(random, False) for _ in range(6)} | {MARKUP[0], CONTROLS[0]}
        labels = sorted(label for label in odd if label.strip())
        rows = []
        for row in range(8 * len(labels)):
            file = f"{row}{odd_name(random, True)}.png"
            grey = random.integers(0, 255, (24, 32), np.uint8)
            Image.fromarray(grey).save(folder / "own" / file)
            quoted = [cell.replace('"', '""') for cell in (file, labels[row % len(labels)])]
            rows.append('"{}","{}"'.format(*quoted))
        (folder / "own/t.csv").write_text("\n".join(["image,label", *rows]), newline="")
        words = [*DATA, f"data.root={folder}/own", f"data.cache={folder}/cache", "model=mlp"]
        words += ["trainer.max_epochs=1", f"hydra.run.dir={folder}/run"]
        ended = run(folder, "hwr-train", words)
        with campaign.trial("hostile names and labels in a run"):
            assert ended.code == 0, ended.said
            assert all(c.isprintable() or c == "\n" for c in ended.said)
            card = (folder / "run/README.md").read_text(encoding="utf-8")
            assert harmless(card)
            events = EventAccumulator(str(folder / "run"))
            events.Reload()
            texts = [
                text.decode()
                for tag in events.Tags()["tensors"]
                if tag.startswith(("run/", "test/"))
                for event in events.Tensors(tag)
                for text in event.tensor_proto.string_val
            ]
            assert texts
            assert all(map(harmless, texts))
        shown = run(folder, "hwr-data", ["show", f"{folder}/own", "--out", f"{folder}/shown"])
        with campaign.trial("hostile names and labels shown"):
            assert shown.code == 0, shown.said
            assert all(c.isprintable() or c == "\n" for c in shown.said)
        broken = folder / "own" / f"{odd_name(random, True)}.png"
        broken.write_bytes(b"no picture")
        quoted = broken.name.replace('"', '""')
        with (folder / "own/t.csv").open("a", newline="") as table:
            table.write(f'\n"{quoted}",a')
        ended = run(folder, "hwr-train", [*words, f"hydra.run.dir={folder}/again"])
        with campaign.trial("hostile names in a message"):
            said = one_sentence(ended, "hwr-train")
            assert said.isprintable()


@pytest.mark.parametrize("way", ["hwr-train", "hwr-predict"])
def test_a_picture_that_is_a_program(
    campaign: Campaign, models: dict[str, Path], tmp_path: Path, way: str
) -> None:
    """PostScript by another name; whoever starts Ghostscript leaves a mark."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (tmp_path / "bin/gs").chmod(0o755)
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        Image.new("L", (40, 30), 255).save(tmp_path / "own" / label / "1.png")
    program = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n"
    (tmp_path / "own/a/2.png").write_text(program)
    words = [str(models["ckpt"]), f"{tmp_path}/own/a/2.png"]
    if way == "hwr-train":
        words = [*DATA, f"data.root={tmp_path}/own", f"data.cache={tmp_path}/cache"]
    with campaign.trial("a picture that is a program"):
        ended = run(tmp_path, way, words, before=partial(finds, tmp_path / "bin"))
        assert ended.code == (2 if way == "hwr-train" else 1), ended.said
        assert "2.png cannot be read as a picture" in ended.said
        assert not (tmp_path / "mark").exists()
