"""Recognizers load from any file, take any image, and execute nothing."""

import base64
import io
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

import hwr
from hwr.baselines import forest
from hwr.config.compose import compose
from hwr.data import synthetic
from hwr.errors import DataError, RunError
from hwr.inference import checkpoint, recognizer
from hwr.inference.export import export
from hwr.preprocessing.ink import ink_box
from hwr.training.train import train

DATA = ["data=synthetic", "data.writers=8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "0"
    settings = [*DATA, "model=cnn", "trainer.max_epochs=30", "trainer.accelerator=cpu"]
    train(compose([*settings, "split.val_size=0.2"]), folder)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> hwr.Recognizer:
    return hwr.load(run)


@pytest.fixture(scope="module")
def samples() -> list[Image.Image]:
    # Of another size than the training images, so that they are brought to these.
    return [image.resize((1000, 750)) for image in synthetic.draw_images(99, 0)[10:36]]


def test_images_of_all_kinds_agree(model: hwr.Recognizer, tmp_path: Path) -> None:
    image = synthetic.draw_images(99, 0)[10]  # black or white, nothing between
    file = tmp_path / "a b.png"
    image.convert("RGB").save(file)
    array = np.asarray(image)
    rotated, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(rotated, "PNG", exif=exif)
    kinds = [
        *(str(file), file, file.read_bytes(), io.BytesIO(file.read_bytes())),
        *(image, image.convert("RGBA"), rotated.getvalue()),
        *(array, array / 255, (array / 255).astype(np.float32), array.astype(int)),
        *(np.stack([array] * 3, axis=-1), array[..., None], array > 127),
        np.dstack([array, array, array, np.full_like(array, 255)]),
        *(array.astype(np.uint16) * 257, torch.from_numpy(array.copy())),
        *(torch.from_numpy(array / 255).expand(3, -1, -1), torch.from_numpy(array / 255)[None]),
    ]
    found = model.probabilities(kinds)
    assert found.shape == (len(kinds), 62)
    np.testing.assert_allclose(found, found[:1].repeat(len(kinds), axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    for kind in kinds[:3] + kinds[4:]:
        assert model.read(kind) == model.predict(image)[0].character


def test_batches(model: hwr.Recognizer, samples: list[Image.Image]) -> None:
    plain = model.probabilities(samples[:2])
    array = np.stack([np.asarray(image) for image in samples[:2]])
    for batch in (
        *(array, array[:, None], array[:, None].repeat(3, axis=1)),
        array[..., None].repeat(3, axis=-1),
        array.astype(np.uint16),  # eight bits in a wider type
        *((array < 128).astype(np.int64) ^ 1, array / 255 * 1.02),
        torch.from_numpy(array)[:, None].bfloat16(),
    ):
        assert distance(plain, model.probabilities(batch)) < 0.01
    assert model.predict([]) == []
    with pytest.raises(DataError, match="takes one image, not 2"):
        model.read(array)
    with pytest.raises(DataError, match=r"image 1: absent\.png cannot be read as an image"):
        model.predict([np.zeros((9, 9), np.uint8), "absent.png"])


def test_flattened_arrays_paths_and_text(
    model: hwr.Recognizer, samples: list[Image.Image], tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    samples[0].resize((40, 30)).save(file)
    array = np.stack([np.asarray(Image.open(file))] * 2)
    expected = model.probabilities(array)
    flat = array.reshape(2, -1)
    url = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    for many in (flat, pd.DataFrame(flat), torch.from_numpy(flat), pd.Series([str(file)] * 2)):
        np.testing.assert_allclose(model.probabilities(many), expected, atol=1e-6)
    for one in (flat[0], url, np.array(file, object), np.array([str(file)])):
        np.testing.assert_allclose(model.probabilities(one), expected[:1], atol=1e-6)
    assert len(model.predict(np.asarray(samples[0].resize((1200, 900))))) == 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((700, 1200)), r"may be one image or 700 flattened ones; give array\[None\]"),
        (np.linspace(-0.42, 2.82, 100).reshape(10, 10), "if they were standardized, undo that"),
        ("http://x.org/a.png", "download the image"),
        ("iVBORw0KGgo" * 50, r"give base64\.b64decode"),
    ],
)
def test_what_is_no_image(model: hwr.Recognizer, image: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        model.predict(image)
    assert len(str(error.value)) < 400


def test_broken_chunks(model: hwr.Recognizer, samples: list[Image.Image], tmp_path: Path) -> None:
    """Exif data that says nothing is ignored; a wrong checksum is named."""
    good, bad = io.BytesIO(), io.BytesIO()
    samples[0].save(good, "PNG")
    samples[0].save(bad, "PNG", exif=b"nonsense")
    expected = model.probabilities(samples[0])
    np.testing.assert_allclose(model.probabilities(bad.getvalue()), expected)
    with pytest.raises(DataError, match=r"broken PNG file .*eXIf"):
        model.read(bad.getvalue().replace(b"nonsense", b"changed!"))


def test_predictions(model: hwr.Recognizer, samples: list[Image.Image]) -> None:
    (found,) = model.predict(samples[0], top=2)
    assert found.top[0] == (found.character, found.probability)
    assert len(found.top) == 2
    with pytest.raises(AttributeError):
        found.character = "x"  # type: ignore[misc]
    with pytest.raises(DataError, match="top=0 must"):
        model.predict(samples[0], top=0)
    assert repr(model) == "<Recognizer: CNN, 62 classes, notebook images of 30 x 40 x 1>"


def test_an_iterator_is_read_in_batches(model: hwr.Recognizer) -> None:
    taken = []

    def many() -> Iterator[np.ndarray]:
        for number in range(500):
            taken.append(number)
            yield np.full((30, 40), 255, np.uint8)

    ahead = model.prepared(many())
    next(ahead)
    assert len(taken) < 16  # so large images don't fill the memory
    assert len(model.predict(many())) == 500


def test_arrays_as_they_come(
    model: hwr.Recognizer, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give the run's own predictions, one by one or as one array, also exported."""
    export(run, tmp_path / "m.onnx")
    rows, images = images_of_the_test(run)
    same_predictions(rows, model.predict(images, normalize="as_is"))
    arrays = np.stack([model.prepare(image, "as_is") for image in images])
    masks = arrays.copy()
    masks[1] = masks[1] > 127
    for reader in (model, hwr.load(tmp_path / "m.onnx")):
        for many in (arrays, masks, arrays[:0]):
            found = reader.probabilities(many, normalize="as_is")
            singly = reader.probabilities(list(many), normalize="as_is")
            np.testing.assert_array_equal(found, singly)
        with monkeypatch.context() as patch:
            patch.setattr(hwr.Recognizer, "prepared", None)
            found = reader.probabilities(arrays, normalize="as_is")  # at once
            patch.setattr(recognizer, "BATCH", 3)
            patch.setattr(checkpoint, "PIXELS", 1)
            parts = reader.probabilities(arrays, normalize="as_is")
        np.testing.assert_allclose(parts, found, atol=1e-6)
    with pytest.raises(DataError, match="normalize='x' must be"):
        model.predict(arrays, normalize="x")  # type: ignore[arg-type]


def test_polarity_background_and_position(
    model: hwr.Recognizer, samples: list[Image.Image]
) -> None:
    plain = [found.character for found in model.predict(samples)]

    def same(change: Callable[[Image.Image], Image.Image]) -> float:
        found = [found.character for found in model.predict(map(change, samples))]
        return float(np.mean([a == b for a, b in zip(plain, found, strict=True)]))

    def moved(image: Image.Image) -> Image.Image:
        canvas = Image.new("L", image.size, 255)
        canvas.paste(image, (75, -50))
        return canvas

    def shaded(image: Image.Image) -> Image.Image:
        light = np.linspace(1, 0.6, 1000)
        return Image.fromarray((np.asarray(image) * light).astype(np.uint8))

    def photo(image: Image.Image) -> Image.Image:
        gray = np.asarray(image.resize((4000, 3000))) * np.linspace(0.5, 0.8, 4000) + 30
        noisy = gray + np.random.default_rng(0).normal(0, 4, gray.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    assert same(ImageOps.invert) == 1
    assert same(lambda image: image.point(lambda value: value * 200 // 255)) >= 0.95
    assert same(lambda image: image.resize((2400, 1800))) >= 0.95
    assert same(moved) >= 0.9
    assert same(shaded) >= 0.9
    assert same(lambda image: ImageOps.expand(image, 20, 0)) >= 0.9
    assert same(photo) >= 0.9
    for size in ((1, 1), (3, 900), (4000, 50)):
        assert model.read(samples[0].resize(size)) in synthetic.CHARACTERS
    assert model.read(Image.new("L", (300, 200), 128)) in synthetic.CHARACTERS


@pytest.mark.parametrize("color", ["#202020", "#0000ff", "#c00000", "#808080", "#d0d0d0"])
def test_ink_of_any_color(model: hwr.Recognizer, samples: list[Image.Image], color: str) -> None:
    plain = model.probabilities(samples)
    for size in ((1000, 750), (100, 75)):
        colored = [ImageOps.colorize(p.resize(size), color, "#ffffff") for p in samples]
        assert distance(plain, model.probabilities(colored)) < 0.1


@pytest.mark.parametrize(
    ("size", "most"), [((24, 18), 0.3), ((40, 30), 0.15), ((160, 120), 0.1), ((4800, 3600), 0.05)]
)
def test_images_of_any_size(
    model: hwr.Recognizer, samples: list[Image.Image], size: tuple[int, int], most: float
) -> None:
    other = model.probabilities(image.resize(size) for image in samples)
    assert distance(model.probabilities(samples), other) < most


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_background(
    model: hwr.Recognizer, samples: list[Image.Image], ink: int
) -> None:
    clear = [Image.new("RGBA", image.size, (ink, ink, ink, 0)) for image in samples]
    for image, sample in zip(clear, samples, strict=True):
        image.putalpha(ImageOps.invert(sample))
    assert distance(model.probabilities(samples), model.probabilities(clear)) < 1e-5


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far probabilities (N, C) differ: 0 the same, 1 nothing in common."""
    return float(np.abs(one - other).sum(axis=1).mean() / 2)


def images_of_the_test(run: Path) -> tuple[list[list[str]], list[Image.Image]]:
    """Return the rows of a run's predictions.csv, and their images."""
    drawn = [synthetic.draw_images(writer, 0) for writer in range(1, 9)]
    rows = [row.split(",") for row in (run / "predictions.csv").read_text().splitlines()[1:]]
    numbers = (row[0][7:].removesuffix(".png").split("-") for row in rows)
    return rows, [drawn[int(writer) - 1][int(number) - 1] for number, writer in numbers]


def same_predictions(rows: list[list[str]], predictions: list[hwr.Prediction]) -> None:
    assert [found.character for found in predictions] == [row[2] for row in rows]
    expected = [float(row[3]) for row in rows]
    assert [found.probability for found in predictions] == pytest.approx(expected, abs=1e-6)


def test_the_ink_preprocessing_travels_with_the_weights(tmp_path: Path) -> None:
    settings = [*DATA, "data.preprocessing=ink", "data.height=24", "data.width=24", "model=mlp"]
    train(compose([*settings, "trainer.max_epochs=3", "split.val_size=0"]), tmp_path)
    reader = hwr.load(tmp_path)
    assert (reader.preprocessor.name, reader.size) == ("ink", (24, 24))
    ink = reader.preprocessor.statistics
    assert ink is not None
    assert (ink.aspect, ink.y) == pytest.approx((1, 0.5), abs=0.02)
    rows, images = images_of_the_test(tmp_path)
    same_predictions(rows, reader.predict(images))
    plain = [reader.prepare(image).astype(int) for image in images[:30]]
    for change in (
        lambda image: ImageOps.expand(image, 900, 255),  # small in a large frame
        lambda image: image.crop(ImageOps.invert(image).getbbox()),  # cut to the ink
    ):
        for array in [reader.prepare(change(image)) for image in images[:30]]:
            left, top, right, bottom = ink_box(array)
            diagonal = np.hypot(right - left, bottom - top)
            assert 0.8 * ink.diagonal[0] < diagonal < 1.2 * ink.diagonal[2]
    moved = [reader.prepare(ImageOps.expand(p, (150, 0, 0, 90), 255)) for p in images[:30]]
    assert np.abs(np.array(moved) - plain).mean() < 15


def test_color(tmp_path: Path) -> None:
    for label, color in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (tmp_path / "letters" / label).mkdir(parents=True)
        for number in range(20):
            image = Image.new("RGB", (80, 60), "white")
            image.paste(color, (10 + number, 20, 30 + number, 40))
            image.save(tmp_path / "letters" / label / f"{number}.png")
    settings = ["data=folder", f"data.root={tmp_path / 'letters'}", "model=cnn"]
    settings += ["data.channels=3", "split.val_size=0", "trainer.max_epochs=20"]
    train(compose([*settings, "trainer.accelerator=cpu"]), tmp_path / "run")
    reader = hwr.load(tmp_path / "run")
    assert reader.channels == 3
    rows = [row.split(",") for row in (tmp_path / "run/predictions.csv").read_text().splitlines()]
    files = [tmp_path / "letters" / row[0] for row in rows[1:]]
    same_predictions(rows[1:], reader.predict(files))
    assert [row[1] for row in rows[1:]] == [row[2] for row in rows[1:]]  # by color alone
    array = reader.prepare(files[0])
    with Image.open(files[0]) as image:
        np.testing.assert_array_equal(array, np.asarray(image.resize((40, 30))).transpose(2, 0, 1))
        for one in (image, np.asarray(image) / 255, array, torch.from_numpy(array / 255)):
            np.testing.assert_allclose(reader.prepare(one), array, atol=2)
    plain = reader.probabilities(files)
    many = torch.from_numpy(np.stack([reader.prepare(file) for file in files]))
    np.testing.assert_allclose(reader.probabilities(many), plain, atol=1e-6)
    assert reader.prepare(np.full((9, 9), 7, np.uint8)).shape == (3, 30, 40)
    export(tmp_path / "run", tmp_path / "m.onnx")
    exported = hwr.load(tmp_path / "m.onnx")
    np.testing.assert_allclose(exported.probabilities(files), plain, atol=1e-5)


def test_a_checkpoint_without_its_run_loads(run: Path, tmp_path: Path) -> None:
    moved = shutil.copy(run / "checkpoints/last.ckpt", tmp_path / "any.name")
    reader = hwr.load(str(moved))
    assert reader.size == (30, 40)
    assert "".join(reader.charset.names) == synthetic.CHARACTERS
    assert (reader.about["data"], reader.about["epochs"]) == ("synthetic", 30)
    assert reader.about["hwr_version"]
    assert hwr.CNN.load_from_checkpoint(moved).charset == reader.charset


def test_a_forest(tmp_path: Path, samples: list[Image.Image]) -> None:
    forest.forest(compose([*DATA, "n_estimators=20"], "forest"), tmp_path)
    reader = hwr.load(tmp_path)
    assert reader.probabilities(samples).shape == (26, 62)
    assert reader.preprocessor.statistics is not None
    with pytest.raises(RunError, match="is not a network"):
        export(tmp_path, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


FORKED = """
import os, pickle, sys
import numpy as np, onnxruntime, torch
import hwr

class Threads(onnxruntime.SessionOptions):
    def __init__(self):
        super().__init__()
        self.intra_op_num_threads = 4

onnxruntime.SessionOptions = Threads
torch.set_num_threads(4)
images = np.random.default_rng(0).integers(0, 256, (200, 30, 40)).astype(np.uint8)
reader = hwr.load(sys.argv[1])
expected = reader.probabilities(images)
copy = pickle.loads(pickle.dumps(reader))
np.testing.assert_array_equal(copy.probabilities(images), expected)
child = os.fork()
np.testing.assert_allclose(reader.probabilities(images), expected, atol=1e-6)
os._exit(os.waitpid(child, 0)[1] if child else 0)
"""


@pytest.mark.parametrize("name", ["cnn", "forest", "model.onnx"])
def test_forks_and_pickles(run: Path, tmp_path: Path, name: str) -> None:
    if name == "cnn":
        (tmp_path / name).symlink_to(run)
    elif name == "forest":
        forest.forest(compose([*DATA, "n_estimators=20"], "forest"), tmp_path / name)
    else:
        export(run, tmp_path / name)
    command = [sys.executable, "-c", FORKED, name]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)


def test_a_choice_among_runs_is_by_validation(run: Path, tmp_path: Path) -> None:
    def runs(*metrics: dict[str, Any]) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for number, values in enumerate(metrics):
            (folder / f"{number}/checkpoints").mkdir(parents=True)
            values = {"val_is_test": False, "data_fingerprint": "a", "config": {}, **values}
            (folder / f"{number}/metrics.json").write_text(json.dumps(values))
        shutil.copy(run / "checkpoints/last.ckpt", folder / "1/checkpoints/last.ckpt")
        return folder

    best = runs({"val/acc": math.nan}, {"val/acc": 0.6}, {"val/acc": 0.5})
    assert hwr.load(best, by="val/acc").size == (30, 40)
    assert hwr.load(runs({"val/loss": 2.0}, {"val/loss": 1.0}, {}), by="val/loss").size == (30, 40)
    assert hwr.load(run.parent, by="val/acc").size == (30, 40)
    damaged = runs({"val/acc": 1}, {})
    (damaged / "1/metrics.json").write_text('{"val/acc": 0.')
    for folder, words in (
        (damaged, r"1/metrics.json can't be read"),
        (runs({"val/acc": 1}, {"val_is_test": True}), "validated on its test split"),
        (runs({"val/acc": 1, "partial": True}, {}), "no run in .* has val/acc"),
        (runs({"val/acc": 0.7}, {"val/acc": 0.6}), "0 holds none of checkpoints"),
        (runs({}, {}), "no run in .* has val/acc"),
        (runs({"val/acc": 1}, {"val/acc": 1, "data_fingerprint": "b"}), "different datasets"),
    ):
        with pytest.raises(RunError, match=words):
            hwr.load(folder, by="val/acc")
    with pytest.raises(RunError, match=r"choose one by a validation metric: by='val/acc'"):
        hwr.load(best)
    with pytest.raises(RunError, match="is not a validation metric"):
        hwr.load(best, by="test/acc")


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocessing": "new"},
        {"image_statistics": {"new": 1.0}},
        {"image_statistics": [1]},
        {"channels": 2},
        {"height": "30"},
        {"height": 10**9},
        {"charset": ["a", "b"]},
        {"charset": None},
    ],
)
def test_settings_that_do_not_fit_the_weights(
    run: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    torch.save({**saved, "hwr": {**saved["hwr"], **wrong}}, tmp_path / "a.ckpt")
    with pytest.raises(RunError, match="does not fit its own settings") as error:
        hwr.load(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)


def test_weights_that_give_no_probabilities(run: Path, tmp_path: Path) -> None:
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    weights = {name: torch.full_like(w, math.nan) for name, w in saved["state_dict"].items()}
    torch.save({**saved, "state_dict": weights}, tmp_path / "nan")
    with pytest.raises(RunError, match="gives no probabilities of its 62 classes"):
        hwr.load(tmp_path / "nan")


class Mark:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_nothing_in_a_file_is_executed(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    files = {name: tmp_path / name for name in ("pickle", "planted", "cut", "text", "bomb")}
    files["pickle"].write_bytes(pickle.dumps(Mark(mark)))
    torch.save({**saved, "surprise": Mark(mark)}, files["planted"])
    files["cut"].write_bytes((run / "checkpoints/last.ckpt").read_bytes()[:-5000])
    files["text"].write_text("text")
    with zipfile.ZipFile(files["bomb"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    for file in list(files.values()):
        for suffix in ("", ".onnx", ".skops"):
            place = shutil.copy(file, f"{file}{suffix}") if suffix else file
            with pytest.raises(RunError, match=file.name) as error:
                hwr.load(place)
            assert "\n" not in str(error.value)
    for absent in (tmp_path / "absent", "~nosuchuser/x", "x" * 300):
        with pytest.raises(RunError, match="no run folder or file"):
            hwr.load(absent)
    assert not mark.exists()


TELEMETRY = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"}
"""What it depends on whether onnxruntime tells its makers of a model, and where it notes that."""


def test_an_exported_model_needs_no_torch(
    model: hwr.Recognizer, run: Path, tmp_path: Path, samples: list[Image.Image]
) -> None:
    file = tmp_path / "model.onnx"
    assert export(run, file) < 1e-5
    exported = hwr.load(file)
    for count in (1, 26):
        np.testing.assert_allclose(
            exported.probabilities(samples[:count]),
            model.probabilities(samples[:count]),
            atol=1e-5,
        )
    assert exported.about == model.about
    for image in samples:
        np.testing.assert_array_equal(exported.prepare(image), model.prepare(image))
    samples[0].save(tmp_path / "a.png")
    code = (
        "import sys, hwr; print(hwr.load('model.onnx').read('a.png'));"
        "assert not {'torch', 'pandas', 'scipy', 'sklearn', 'hydra', 'onnx'} & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in TELEMETRY}
    environment["HOME"] = str(tmp_path / "home")
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == model.read(samples[0])
    assert not (tmp_path / "home").exists()  # onnxruntime's telemetry would keep a number there


def test_onnx_files_that_are_rejected(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, wrong = tmp_path / "model.onnx", tmp_path / "wrong.onnx"
    export(run, file)
    model = onnx.load(file)
    (card,) = (json.loads(entry.value) for entry in model.metadata_props)
    for change in ({"charset": ["a", "b"]}, {"height": 20}, {"height": 10**5, "width": 10**5}):
        onnx.helper.set_model_props(model, {"hwr": json.dumps({**card, **change})})
        onnx.save(model, wrong)
        with pytest.raises(RunError, match=r"wrong\.onnx does not fit its own settings"):
            hwr.load(wrong)
    onnx.helper.set_model_props(model, {"hwr": json.dumps(card)})
    monkeypatch.chdir(tmp_path)  # where weights could be found
    onnx.save(model, "outside.onnx", save_as_external_data=True, size_threshold=0)
    wrong.write_bytes(file.read_bytes()[:-2000])
    for rejected in (wrong, "outside.onnx"):
        with pytest.raises(RunError, match="is not an ONNX file of hwr-export"):
            hwr.load(rejected)
    with pytest.raises(RunError, match="device='cuda' is for checkpoints"):
        hwr.load(file, device="cuda")
    with pytest.raises(DataError, match="is not a file"):
        export(run, tmp_path)


def test_command(run: Path, tmp_path: Path, samples: list[Image.Image]) -> None:
    program = str(Path(sys.executable).with_name("hwr-predict"))
    for name, image in zip("AB", samples, strict=False):
        (tmp_path / "set" / name).mkdir(parents=True)
        image.save(tmp_path / "set" / name / "1.png")

    def predict(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [program, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, input=stdin, check=False
        )

    def shell(command: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            f"{program} {run} {command}",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
        )

    done = predict(str(run), "set", "--json", "--label-from-folder")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == ["set/A/1.png", "set/B/1.png"]
    accuracy = np.mean([row["prediction"] == row["file"][4] for row in rows])
    assert done.stderr == f"accuracy {accuracy:.4f} of 2 images\n"
    (tmp_path / "bad.png").write_text("text")
    some = predict(str(run), "set/A/1.png", "bad.png", "-", "--csv", stdin="set/B/1.png\r\n")
    assert (some.returncode, some.stderr.count("\n")) == (1, 1)
    assert "bad.png cannot be read" in some.stderr
    assert len(some.stdout.splitlines()) == 3
    assert predict(str(run), "set", "--top", "0").returncode == 2
    assert "RUN /dev/stdin < IMAGE" in shell("- < set/A/1.png").stderr
    assert shell("/dev/stdin < set/A/1.png").returncode == 0
    absent = predict("absent", "x.png")
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    (tmp_path / "odd").mkdir()
    shutil.copy(tmp_path / "set/A/1.png", tmp_path / "odd/1.png")
    rejected = predict(str(run), "odd", "--label-from-folder")
    assert "its folder 'odd' is not a class" in rejected.stderr
    linked = tmp_path / "linked" / "A"
    linked.mkdir(parents=True)
    (linked / "1.png").symlink_to(tmp_path / "odd/1.png")
    (linked / "._1.png").touch()
    assert "of 1 images" in predict(str(run), "linked", "--label-from-folder").stderr
    (tmp_path / "empty").mkdir()
    empty = predict(str(run), "empty")
    assert (empty.returncode, empty.stderr.count("\n")) == (1, 1)
    (tmp_path / "odd" / os.fsdecode(b"caf\xe9.png")).write_bytes(
        (tmp_path / "odd/1.png").read_bytes()
    )
    for kind in ("--json", "--csv"):
        done = shell(f"odd {kind}")
        assert (done.returncode, done.stderr) == (0, "")
        assert "caf\\udce9.png" in done.stdout
    full = shell("set > /dev/full")
    assert full.stderr == "hwr-predict: No space left on device: standard output\n"
    piped = shell("- | head -n 1", "set/A/1.png\n" * 1000)
    assert (piped.stderr, piped.stdout.count("\n")) == ("", 1)
