"""Files made to harm: nothing in them is executed, nothing outside is written or read."""

import csv
import io
import json
import pickle
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
import torch
from commands import Job, limit_memory, run
from conftest import Campaign, Undisturbed
from PIL import Image

import hwr
from hwr.errors import UserError

MARKUP = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))"]
MARKUP += ["</td></tr></table>", "<!--", "`|`", "${HOME}", "$(id)"]
CONTROLS = ["\x1b[2J\x1b[31m", "\x1b]0;owned\x07", "\r", "\n", "\b" * 9, "\u202e", "\x9b2J"]


class Touch:
    """Write a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return Path.touch, (self.file,)


Models = Callable[[str], Path]
"""Returns a good file that a command writes."""
Write = Callable[[Path, Touch, Models], Any]


def bomb(file: Path, harm: Touch, models: Models) -> None:
    """Write an archive of 400 KB that unpacks to 450 MB."""
    name = "schema.json" if file.suffix == ".skops" else "archive/data.pkl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"[" * 450_000_000)


def checkpoint(change: Callable[[dict[str, Any], Touch], Any], **settings: Any) -> Write:
    """Write a good checkpoint with a change in it."""

    def write(file: Path, harm: Touch, models: Models) -> None:
        saved = torch.load(models("hwr-train"), weights_only=True)
        change(saved, harm)
        torch.save(saved, file, **settings)

    return write


def node(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    """Write a checkpoint whose model is described by a shell command, or holds one."""

    def change_model(saved: dict[str, Any], harm: Touch) -> None:
        command = {"_target_": "os.system", "command": f"touch {harm.file}"}
        saved["hwr"]["model"].update(change(command))

    return checkpoint(change_model)


def function(file: Path, harm: Touch, models: Models) -> None:
    """Write a forest's file whose object is a function."""
    with zipfile.ZipFile(models("hwr-forest")) as archive:
        schema = json.loads(archive.read("schema.json"))
    schema |= {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
    schema["content"] = {"module_path": "os", "function": "system"}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))


def external_data(file: Path, harm: Touch, models: Models) -> None:
    """Write an ONNX file whose weights lie in another file."""
    secret = file.with_name("secret")
    secret.write_bytes(bytes(4 * 10**6))
    model = onnx.load(models("hwr-export"))
    for weight in model.graph.initializer:
        length = str(len(weight.raw_data))
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": secret.name, "offset": "0", "length": length}.items():
            weight.external_data.add(key=key, value=value)
    file.write_bytes(model.SerializeToString())


OLD = {"_use_new_zipfile_serialization": False}
OUR_SYSTEM = "hwr.models.mlp.torch.os.system"
HARMFUL: dict[str, Write] = {
    "pickle.ckpt": lambda file, harm, _: file.write_bytes(pickle.dumps(harm)),
    "pickle.skops": lambda file, harm, _: file.write_bytes(pickle.dumps(harm)),
    "pickle.onnx": lambda file, harm, _: file.write_bytes(pickle.dumps(harm)),
    "pickle_inside.ckpt": checkpoint(lambda saved, harm: saved.update(x=harm)),
    "pickle_in_old_format.ckpt": checkpoint(lambda saved, harm: saved.update(x=harm), **OLD),
    "pickled_weight.ckpt": checkpoint(lambda saved, harm: saved["state_dict"].update(x=harm)),
    "bomb.ckpt": bomb,
    "bomb.skops": bomb,
    "target.ckpt": node(lambda command: command),
    "target_in_hwr.ckpt": node(lambda command: {**command, "_target_": OUR_SYSTEM}),
    "target_in_argument.ckpt": node(lambda command: {"hidden": command}),
    "target_in_list.ckpt": node(lambda command: {"hidden": [command]}),
    "target_in_args.ckpt": node(lambda command: {"_args_": [command]}),
    "many_units.ckpt": node(lambda command: {"hidden": 700_000}),
    "function.skops": function,
    "external_data.onnx": external_data,
}


@pytest.fixture(scope="module")
def models(undisturbed: Undisturbed) -> Models:
    names = {"hwr-train": "checkpoints/last.ckpt", "hwr-forest": "forest.skops"}
    return lambda name: undisturbed(name)[0].out / names.get(name, "model.onnx")


@pytest.mark.parametrize("name", HARMFUL)
def test_model_files(
    campaign: Campaign, models: Models, drawn: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "files" / name
    file.parent.mkdir()
    HARMFUL[name](file, Touch(file.with_name("harm")), models)
    before = sorted(file.parent.iterdir())
    others = ["hwr-evaluate", "hwr-export", *(["hwr-train"] * ("pickle" in name))]
    for command in ["hwr-predict", *campaign.some(others, 0)]:
        job = Job(command, drawn, file, tmp_path / command)
        more = [f"ckpt_path={file}"] if command == "hwr-train" else []
        with campaign.trial(f"hostile model file given to {command}"):
            line = job.start(*more, before=[partial(limit_memory, 400)]).wait().expect_one_line()
            assert file.name in line
            assert sorted(file.parent.iterdir()) == before
            assert not job.out.exists()


@pytest.mark.parametrize("kind", ["hwr-train", "hwr-forest", "hwr-export"])
def test_damaged_model_files(
    campaign: Campaign, models: Models, drawn: Path, tmp_path: Path, kind: str
) -> None:
    """A file that is cut or has flipped bits is rejected, or read as another one."""
    for number in campaign.trials(24, 0 if kind == "hwr-export" else 2):
        content = bytearray(models(kind).read_bytes())
        if number % 3 == 0:
            content = content[: campaign.random.integers(len(content))]
        else:
            place = campaign.random.integers(len(content) if number % 3 == 1 else 4000)
            content[place % len(content)] ^= 1 << campaign.random.integers(8)
        file = tmp_path / f"{number}{models(kind).suffix}"
        file.write_bytes(content)
        with campaign.trial(f"damaged {file.suffix} file"):
            line = ["hwr-predict", file, next(drawn.glob("Img/*.png"))]
            ended = run(tmp_path / "in", line, limit_memory)
            assert ended.code == 0 or file.name in ended.expect_one_line()


ARCHIVES = {
    "parent": ["../Img/img001-001.png", "Img/../../../harm.png"],
    "absolute": ["/tmp/hwr-harm/Img/img001-001.png"],
    "link": ["Img", "Img/img001-001.png"],
    "bomb": ["Img/img001-001.png"],
    "zip": ["../Img/img001-001.png"],
}
"""Members of archives."""


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(campaign: Campaign, tmp_path: Path, kind: str) -> None:
    """An archive that climbs out of its folder, or unpacks to 300 MB, is rejected."""
    file, place, image = tmp_path / "bad", tmp_path / "home", bytes(10)
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(ARCHIVES[kind][0], image)
    else:
        with tarfile.open(file, "w:gz", compresslevel=1) as archive:
            for name in ARCHIVES[kind]:
                member = tarfile.TarInfo(name)
                member.size = 300_000_000 if kind == "bomb" else len(image)
                if name == "Img":
                    member.type, member.size, member.linkname = tarfile.SYMTYPE, 0, str(tmp_path)
                archive.addfile(member, io.BytesIO(bytes(member.size)))
    with campaign.trial("hostile archive"):
        line = run(
            place, ["hwr-data", "fetch", "new", "--from", file], limit_memory
        ).expect_one_line()
        assert file.name in line
        assert not [*place.iterdir(), *tmp_path.rglob("*.png"), *Path("/tmp").glob("hwr-harm*")]


def is_harmless(text: str) -> bool:
    """Tell whether Markdown, rendered as it is, shows the names and nothing more."""
    page = markdown.markdown(text, extensions=["tables", "fenced_code"]).lower()
    tags = ("<script", "<img", "<!--", 'href="javascript', "</td></tr></table></p>")
    return not any(x in page for x in tags) and all(c.isprintable() or c in "\n\t" for c in text)


def test_names_and_labels(campaign: Campaign, tmp_path: Path) -> None:
    """Markup and terminal codes in labels and file names are escaped wherever they are shown."""
    data, place = tmp_path / "data", tmp_path / "in"
    data.mkdir()
    rows = [["image", "label"]]
    controls = [f"{k}{code}x" for k, code in enumerate(CONTROLS)]
    for number, label in enumerate(5 * (MARKUP + controls)):
        rows.append([f"{number}{label}.png".replace("/", "-"), label])
        pixels = campaign.random.integers(0, 255, (24, 32), np.uint8)
        Image.fromarray(pixels).save(data / rows[-1][0])
    with (data / "t.csv").open("w", newline="") as table:
        csv.writer(table, quoting=csv.QUOTE_ALL).writerows(rows)
    job = Job("hwr-train", data, data, place)
    with campaign.trial("hostile names and labels in a run"):
        ended = job.start("callbacks=default").wait()
        assert ended.code == 0, ended.output
        assert is_harmless((job.out / "README.md").read_text(encoding="utf-8"))
    (data / f"{CONTROLS[0]}.png").write_bytes(b"no image")
    shown = run(place, ["hwr-data", "show", data, "--out", "shown"])
    read = run(place, ["hwr-predict", job.out, data])
    for one, code in ((ended, 0), (shown, 0), (read, 1)):
        with campaign.trial("hostile names and labels on a terminal"):
            assert one.code == code, one.output
            assert all(c.isprintable() or c in "\n\t" for c in one.output)


def test_an_image_that_is_a_program(
    campaign: Campaign, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostScript by another name is not given to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/harm\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    head = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n"
    (tmp_path / "bad.png").write_text(head)
    with campaign.trial("image that is a program"):
        with pytest.raises(UserError, match=r"bad\.png cannot be read as an image"):
            hwr.load(trained).read(tmp_path / "bad.png")
        assert not (tmp_path / "harm").exists()
