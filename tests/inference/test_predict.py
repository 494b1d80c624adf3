"""Recognizers: they load from any file, take any image, and execute nothing."""

import dataclasses
import io
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image, ImageOps

import hwr
from hwr.baselines import forest
from hwr.config.compose import compose
from hwr.data import synthetic
from hwr.errors import DataError, RunError
from hwr.inference import export, loading, onnxfile
from hwr.inference import recognizer as predict
from hwr.preprocessing import images
from hwr.preprocessing.background import ink_box
from hwr.preprocessing.frame import Frame, fit, fit_many
from hwr.preprocessing.inputs import as_arrays
from hwr.training.train import train

DATA = ["data=synthetic", "data.writers=8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "0"
    settings = [*DATA, "model=cnn", "trainer.max_epochs=30", "trainer.accelerator=cpu"]
    train(compose([*settings, "split.val_size=0.2"]), folder)
    return folder


@pytest.fixture(scope="module")
def samples() -> list[Image.Image]:
    return synthetic.draw_images(99, 0)[10:36]


def test_all_kinds_of_images_agree(run: Path, samples: list[Image.Image], tmp_path: Path) -> None:
    recognizer = hwr.load(run)
    image = samples[0]
    file = tmp_path / "a b.png"
    image.convert("RGB").save(file)
    array = np.asarray(image)
    kinds = [
        str(file),
        file,
        file.read_bytes(),
        io.BytesIO(file.read_bytes()),
        image,
        image.convert("RGBA"),
        array,
        array / 255,
        (array / 255).astype(np.float32),
        np.stack([array] * 3, axis=-1),
        np.dstack([array, array, array, np.full_like(array, 255)]),
        array.astype(np.uint16) * 257,
        array > 127,
        array.astype(int),
        torch.from_numpy(array.copy()),
        torch.from_numpy(array / 255).expand(3, -1, -1),
        torch.from_numpy(array / 255)[None],
    ]
    found = recognizer.probabilities(kinds)
    assert found.shape == (len(kinds), 62)
    np.testing.assert_array_equal(found, found[:1].repeat(len(kinds), axis=0))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    for kind in kinds[:3] + kinds[4:]:
        assert recognizer.read(kind) == recognizer.predict(image)[0].character
    batch = np.stack([array, 255 - array])
    assert len(recognizer.predict(batch)) == 2
    assert len(recognizer.predict(torch.from_numpy(batch)[:, None])) == 2
    assert recognizer.predict([]) == []


def test_a_recognizer_says_what_it_is(run: Path) -> None:
    words = "<Recognizer: CNN, 62 classes, 'notebook' gray images of 30 x 40>"
    assert repr(hwr.load(run)) == words


def test_predictions(run: Path, samples: list[Image.Image]) -> None:
    recognizer = hwr.load(run)
    (found,) = recognizer.predict(samples[0], top=2)
    assert found.top[0] == (found.character, found.probability)
    assert len(found.top) == 2
    assert repr(found).startswith(f"<{found.character!r} ")
    with pytest.raises(AttributeError):
        found.character = "x"  # type: ignore[misc]
    with pytest.raises(DataError, match="top=0 must"):
        recognizer.predict(samples[0], top=0)


def test_an_iterator_is_read_in_batches(run: Path) -> None:
    taken = []

    def endless() -> Iterator[np.ndarray]:
        for number in range(2000):
            taken.append(number)
            yield np.full((30, 40), 255, np.uint8)

    recognizer = hwr.load(run)
    ahead = recognizer.prepared(endless())
    next(ahead)
    assert len(taken) < 16  # so large samples don't fill the memory
    assert len(recognizer.predict(endless())) == 2000


def test_as_is_gives_the_runs_own_predictions(run: Path) -> None:
    recognizer = hwr.load(run)
    rows, drawn = drawn_as(run, 8)
    same_predictions(rows, recognizer.predict(drawn, frame="as_is"))


def test_one_array_of_many_reads_as_its_images(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = hwr.load(run)
    export.export(run, tmp_path / "m.onnx")
    _, drawn = drawn_as(run, 8)
    arrays = np.stack([recognizer.prepare(one, "as_is") for one in drawn])
    masks = arrays.copy()
    masks[1] = masks[1] > 127
    readers = recognizer, hwr.load(tmp_path / "m.onnx")
    for many in (arrays, masks, arrays[:0]):
        for reader in readers:
            found = reader.probabilities(many, frame="as_is")
            assert found.shape == (len(many), 62)
            np.testing.assert_array_equal(found, reader.probabilities(list(many), frame="as_is"))
    whole = [reader.probabilities(arrays, frame="as_is") for reader in readers]
    for module, name in ((predict, "BATCH"), (loading, "IMAGES"), (onnxfile, "IMAGES")):
        monkeypatch.setattr(module, name, 3)
    monkeypatch.setattr(predict, "MANY", 7 * 1200)
    monkeypatch.setattr(loading, "PIXELS", 1)
    monkeypatch.setattr(onnxfile, "PIXELS", 1)
    for reader, found in zip(readers, whole, strict=True):
        parts = reader.probabilities(arrays, frame="as_is")
        np.testing.assert_allclose(parts, found, atol=1e-6)


def test_tta_copies_count_among_the_pixels_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "IMAGES", 2)
    monkeypatch.setattr(loading, "PIXELS", 10 * 1200)
    given: list[int] = []

    class Counts(torch.nn.Module):
        tta = 0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            given.append(len(image))
            return image.flatten(1)[:, :3]

    network, image = Counts(), torch.rand(23, 1, 30, 40)
    for network.tta, sizes in ((0, [10, 10, 3]), (2, [3] * 7 + [2]), (100, [2] * 11 + [1])):
        given.clear()
        assert torch.equal(loading.logits(network, image), image.flatten(1)[:, :3])
        assert given == sizes


def test_polarity_paper_and_place(run: Path, samples: list[Image.Image]) -> None:
    recognizer = hwr.load(run)
    plain = [found.character for found in recognizer.predict(samples)]

    def same(changed: list[Image.Image]) -> float:
        found = [found.character for found in recognizer.predict(changed)]
        return float(np.mean([a == b for a, b in zip(plain, found, strict=True)]))

    def moved(image: Image.Image) -> Image.Image:
        sheet = Image.new("L", image.size, 255)
        sheet.paste(image, (90, -60))
        return sheet

    def shaded(image: Image.Image) -> Image.Image:
        light = np.linspace(1, 0.6, 1200)
        return Image.fromarray((np.asarray(image) * light).astype(np.uint8))

    assert same([ImageOps.invert(image) for image in samples]) == 1
    assert same([image.point(lambda v: v * 200 // 255) for image in samples]) >= 0.95
    assert same([image.resize((2400, 1800)) for image in samples]) >= 0.95
    assert same([moved(image) for image in samples]) >= 0.9
    assert same([shaded(image) for image in samples]) >= 0.9
    for size in ((1, 1), (3, 900), (4000, 50)):
        assert recognizer.read(samples[0].resize(size)) in synthetic.CHARACTERS
    assert recognizer.read(Image.new("L", (300, 200), 128)) in synthetic.CHARACTERS


@pytest.mark.parametrize("color", ["#202020", "#0000ff", "#c00000", "#808080", "#d0d0d0"])
def test_ink_of_any_color(run: Path, samples: list[Image.Image], color: str) -> None:
    recognizer = hwr.load(run)
    plain = recognizer.probabilities(samples)
    for size in ((1200, 900), (100, 75)):
        colored = [ImageOps.colorize(p.resize(size), color, "#ffffff") for p in samples]
        assert apart(plain, recognizer.probabilities(colored)) < 0.1


@pytest.mark.parametrize(
    ("size", "most"), [((24, 18), 0.3), ((40, 30), 0.15), ((160, 120), 0.1), ((4800, 3600), 0.05)]
)
def test_images_of_any_size(
    run: Path, samples: list[Image.Image], size: tuple[int, int], most: float
) -> None:
    recognizer = hwr.load(run)
    other = recognizer.probabilities(image.resize(size) for image in samples)
    assert apart(recognizer.probabilities(samples), other) < most


def test_rims_and_transparent_ground(run: Path, samples: list[Image.Image]) -> None:
    recognizer = hwr.load(run)
    plain = recognizer.probabilities(samples)
    for image in samples:
        arrays = [recognizer.prepare(p) for p in (image, ImageOps.expand(image, 20, 0))]
        one, other = map(ink_box, arrays)
        assert (np.abs(one - other) < (1 / 40, 1 / 30, 1 / 40, 1 / 30)).all()  # a pixel
    for ink in (0, 255):  # on nothing
        sheets = []
        for image in samples:
            sheet = Image.new("RGBA", image.size, (ink, ink, ink, 0))
            sheet.putalpha(ImageOps.invert(image))
            sheets.append(sheet)
        assert apart(plain, recognizer.probabilities(sheets)) < 1e-5


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """How far probabilities (N, C) lie apart: 0 the same, 1 nothing in common."""
    return float(np.abs(one - other).sum(axis=1).mean() / 2)


def test_a_users_own_image_is_left_alone(run: Path, samples: list[Image.Image]) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    samples[0].transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif)
    image = Image.open(turned)
    before = (image.size, image.getexif().get(0x0112))
    recognizer = hwr.load(run)
    assert recognizer.read(image) == recognizer.read(samples[0])
    assert (image.size, image.getexif().get(0x0112)) == before


def test_an_array_of_the_right_size_is_taken_as_it_is(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = hwr.load(run)
    full = np.full(recognizer.size[::-1], 9, np.uint8).T
    with monkeypatch.context() as patch:
        patch.delattr("hwr.inference.recognizer.open_picture")
        assert recognizer.prepare(full, "as_is").flags.c_contiguous
    random = np.random.default_rng(0)
    for least, most in ((0, 256), (0, 3), (200, 256), (0, 1), (0, 2)):
        array = random.integers(least, most, recognizer.size, np.uint8)
        found = recognizer.prepare(array, "as_is")
        gray = Image.fromarray(array * (255 if most <= 2 else 1))  # zeros and ones are a mask
        np.testing.assert_array_equal(found, images.notebook(gray, *recognizer.size))
        assert not np.shares_memory(found, array)


def test_images_of_all_kinds_keep_their_order(run: Path, samples: list[Image.Image]) -> None:
    recognizer = hwr.load(run)
    small = [recognizer.prepare(image) for image in samples]
    mixed: list[Any] = [*samples[:2], small[2], samples[3], *small[4:6], *samples[6:9], small[9]]
    found = list(recognizer.prepared(mixed, "as_is"))
    for array, image in zip(found, mixed, strict=True):
        np.testing.assert_array_equal(array, recognizer.prepare(image, "as_is"))


def test_batches_of_arrays(run: Path, samples: list[Image.Image]) -> None:
    recognizer = hwr.load(run)
    plain = recognizer.probabilities(samples[:2])
    array = np.stack([np.asarray(image) for image in samples[:2]])
    for batch in (
        array,
        array[:, None],
        array[:, None].repeat(3, axis=1),
        array[..., None].repeat(3, axis=-1),
        array.astype(np.uint16),  # eight bits in a wider type
        (array < 128).astype(np.int64) ^ 1,
        array / 255 * 1.02,
        torch.from_numpy(array)[:, None].bfloat16(),
    ):
        assert apart(plain, recognizer.probabilities(batch)) < 0.01
    with pytest.raises(DataError, match="takes one image, not 2"):
        recognizer.read(array)
    for top in (0, 1.5, None):
        with pytest.raises(DataError, match="must be a whole number"):
            recognizer.predict([], top=top)  # type: ignore[arg-type]


def test_one_array_of_many_is_settled_as_its_images(run: Path) -> None:
    recognizer = hwr.load(run)
    _, drawn = drawn_as(run, 8)
    random, plain = np.random.default_rng(0), recognizer.prepare
    arrays = np.stack([plain(one, "as_is") for one in drawn])
    parts = np.split(arrays.copy(), range(10, len(arrays), 10))
    assert len(parts) > 11
    parts[0][:] = 255 - parts[0]
    parts[1][:] = random.integers(0, 256, parts[1].shape)
    parts[2][:], parts[2][::2] = 255, 0
    parts[3][:] = [np.roll(one, random.integers(-12, 12, 2), (0, 1)) for one in parts[3]]
    parts[4][:] = (parts[4] + random.integers(-12, 1, parts[4].shape)).clip(0)
    parts[5][:, 2] = 0  # a line along one side
    for side in (np.s_[:, :2], np.s_[:, -2:], np.s_[:, :, :2], np.s_[:, :, -2:]):
        parts[6][side] = 90
        parts[7][side] = 249
    parts[8][:] = 255 - (255 - parts[8]) // 8  # pale
    parts[9][:] = parts[9] > 127  # masks
    parts[10][:, :27:3, :36:3] = 0  # large
    mixed = np.concatenate(parts)
    frame = recognizer.frame
    assert frame is not None
    for usual in (frame, None, dataclasses.replace(frame, centre=False)):
        reader = dataclasses.replace(recognizer, frame=usual)
        found, ready = fit_many(arrays, usual)
        assert ready.mean() > 0.9  # else none of this would save any time
        np.testing.assert_array_equal(found[ready], [reader.prepare(one) for one in arrays[ready]])
        for many in (
            mixed,
            mixed[..., None],
            mixed[:, None] / np.float32(255),
            torch.from_numpy(mixed),
            torch.from_numpy(mixed / 255)[:, None],
        ):
            before = deepcopy(many)
            singly = [reader.prepare(one) for one in many]
            np.testing.assert_array_equal(np.concatenate([*reader._stacks(many, "auto")]), singly)
            assert bool((many == before).all())
    sparse = torch.from_numpy(arrays).to_sparse()
    told = recognizer.probabilities(arrays)
    np.testing.assert_array_equal(recognizer.probabilities(sparse), told)
    with pytest.raises(DataError, match="image 0: a tensor cannot be read"):
        recognizer.predict(torch.empty(5, 30, 40, device="meta"))
    with pytest.raises(DataError, match="frame='x' must be"):
        recognizer.predict(arrays, frame="x")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"image {len(arrays) - 1}: an array of floats must"):
        recognizer.predict(np.concatenate([arrays[:-1] / 255, np.full((1, 30, 40), np.nan)]))


def test_of_narrow_arrays_three_columns_are_no_colors() -> None:
    gray = np.random.default_rng(0).integers(2, 256, (5, 1, 40, 3), np.uint8)
    assert as_arrays(gray, (40, 3)) is None  # each is one line in color
    assert as_arrays(np.moveaxis(gray, 1, 3), (40, 3)) is not None
    assert as_arrays(torch.from_numpy(gray), (40, 3)) is not None


def test_wide_arrays_are_moved_far(run: Path) -> None:
    frame = hwr.load(run).frame
    assert frame is not None
    wide = np.full((3, 32, 400), 255, np.uint8)
    wide[0, 9:20, 2:10] = wide[1, 9:20, -9:-2] = 0
    usual = dataclasses.replace(frame, aspect=12.5, x=6.0, y=0.1)
    found, ready = fit_many(wide, usual)
    assert ready.all()
    for array, one in zip(found, wide, strict=True):
        np.testing.assert_array_equal(
            array, fit(Image.fromarray(one), usual, "notebook", *one.shape)
        )


def drawn_as(run: Path, writers: int) -> tuple[list[list[str]], list[Image.Image]]:
    """The rows of a run's predictions.csv, and their samples."""
    drawn = [synthetic.draw_images(writer, 0) for writer in range(1, writers + 1)]
    rows = [row.split(",") for row in (run / "predictions.csv").read_text().splitlines()[1:]]
    numbers = (row[0][7:].removesuffix(".png").split("-") for row in rows)
    return rows, [drawn[int(writer) - 1][int(number) - 1] for number, writer in numbers]


def same_predictions(rows: list[list[str]], read: list[hwr.Prediction]) -> None:
    assert len(rows) > 100
    for row, found in zip(rows, read, strict=True):
        assert found.character == row[2]
        assert found.probability == pytest.approx(float(row[3]), abs=1e-6)


def test_the_ink_preprocessing_travels_with_the_weights(tmp_path: Path) -> None:
    settings = [*DATA, "data.preprocessing=ink", "data.height=24", "data.width=24", "model=mlp"]
    train(compose([*settings, "trainer.max_epochs=3", "split.val_size=0"]), tmp_path)
    recognizer = hwr.load(tmp_path)
    assert (recognizer.preprocessing, recognizer.size) == ("ink", (24, 24))
    assert recognizer.frame is not None
    assert (recognizer.frame.aspect, recognizer.frame.y) == pytest.approx((1, 0.5), abs=0.02)
    rows, drawn = drawn_as(tmp_path, 8)
    same_predictions(rows, recognizer.predict(drawn, frame="as_is"))
    plain = [recognizer.prepare(image).astype(int) for image in drawn[:30]]
    for change in (
        lambda image: ImageOps.expand(image, 900, 255),  # small in a large frame
        lambda image: image.crop(ImageOps.invert(image).getbbox()),  # cut to the ink
    ):
        other = [recognizer.prepare(change(image)) for image in drawn[:30]]
        low, high = recognizer.frame.spread[0], recognizer.frame.spread[2]
        for array in other:
            box = ink_box(array)
            assert not np.isnan(box).any()
            spread = np.hypot(box[2] - box[0], box[3] - box[1])
            assert 0.8 * low < spread < 1.2 * high
    moved = [recognizer.prepare(ImageOps.expand(p, (150, 0, 0, 90), 255)) for p in drawn[:30]]
    assert np.abs(np.array(moved) - plain).mean() < 15


def test_no_images(run: Path, tmp_path: Path) -> None:
    recognizer = hwr.load(run)
    (tmp_path / "text.png").write_text("text")
    os.mkfifo(tmp_path / "pipe.png")
    for wrong, words in (
        (tmp_path / "absent.png", "no image"),
        (tmp_path / "pipe.png", r"no image .*pipe\.png: it is not a file but a pipe or a device"),
        (tmp_path, "no image .*: it is a folder"),
        (tmp_path / "text.png", "cannot be read as an image"),
        (b"", "cannot be read"),
        (5, "an object of type int is not an image"),
        (np.zeros((0, 3)), "not an image"),
        (np.full((4, 4), np.nan), "floats must lie"),
        (np.full((4, 4), 300), "numbers from 0 to 255"),
    ):
        with pytest.raises(DataError, match=words):
            recognizer.prepare(wrong)
    with pytest.raises(DataError, match="image 1: "):
        recognizer.predict([np.zeros((9, 9), np.uint8), tmp_path / "absent.png"])
    Image.new("L", (40, 30)).save(tmp_path / "there.png")
    (tmp_path / "link.png").symlink_to("there.png")
    assert not recognizer.prepare(str(tmp_path / "link.png"), "as_is").any()


def test_a_checkpoint_moved_alone_loads(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "any.name"
    moved.write_bytes((run / "checkpoints/last.ckpt").read_bytes())
    recognizer = hwr.load(str(moved))
    assert recognizer.size == (30, 40)
    assert "".join(recognizer.charset.names) == synthetic.CHARACTERS
    assert recognizer.about["data"] == "synthetic"
    assert recognizer.about["epochs"] == 30
    assert recognizer.about["hwr_version"]
    assert recognizer.frame is not None
    assert hwr.CNN.load_from_checkpoint(moved).charset == recognizer.charset


def test_a_forest(run: Path, tmp_path: Path, samples: list[Image.Image]) -> None:
    settings = [*DATA, "n_estimators=20"]
    forest.forest(compose(settings, "forest"), tmp_path)
    recognizer = hwr.load(tmp_path)
    assert recognizer.probabilities(samples).shape == (26, 62)
    assert recognizer.frame is not None
    with pytest.raises(RunError, match="is not a network"):
        export.export(tmp_path, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_choice_among_runs_is_by_validation(run: Path, tmp_path: Path) -> None:
    sweep = run.parent
    with pytest.raises(RunError, match=r"choose by a validation metric: by='val/acc'"):
        hwr.load(sweep)
    with pytest.raises(RunError, match="is not a validation metric"):
        hwr.load(sweep, by="test/acc")
    assert hwr.load(sweep, by="val/acc").size == (30, 40)
    with pytest.raises(RunError, match="is one run; leave it out"):
        hwr.load(run, by="val/acc")
    with pytest.raises(RunError, match="no run folder or file"):
        hwr.load(tmp_path / "absent")


def test_a_choice_is_fair_or_refused(run: Path, tmp_path: Path) -> None:
    def runs(*figures: object) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for number, one in enumerate(figures):
            (folder / f"{number}/checkpoints").mkdir(parents=True)
            text = one if isinstance(one, str) else json.dumps(one)
            (folder / f"{number}/metrics.json").write_text(text)
        shutil.copy(run / "checkpoints/last.ckpt", folder / "1/checkpoints/last.ckpt")
        return folder

    fair = {"val_is_test": False, "data_fingerprint": "a"}
    best = runs({**fair, "val/acc": math.nan}, {**fair, "val/acc": 0.6}, {**fair, "val/acc": 0.5})
    assert hwr.load(best, by="val/acc").size == (30, 40)
    low = runs({**fair, "val/loss": 2.0}, {**fair, "val/loss": 1.0}, fair)
    assert hwr.load(low, by="val/loss").size == (30, 40)
    for folder, words in (
        (runs({**fair, "val/acc": 1}, {**fair, "val_is_test": True}), "validated on its test"),
        (runs({**fair, "val/acc": 1, "partial": True}, fair), "no run in .* has val/acc"),
        (runs({**fair, "val/acc": 0.7}, {**fair, "val/acc": 0.6}), "no model in it"),
        (runs(fair, fair), "no run in .* has val/acc"),
        (runs({"val/acc": 1}, fair), "damaged"),
        (runs("{", fair), "damaged"),
        (runs([1], fair), "damaged"),
        (runs({**fair, "val/acc": None}, fair), "damaged"),
        (
            runs({**fair, "val/acc": 1}, {**fair, "val/acc": 1, "data_fingerprint": "b"}),
            "different datasets",
        ),
    ):
        with pytest.raises(RunError, match=words):
            hwr.load(folder, by="val/acc")


def test_files_that_do_not_say_how_they_read(run: Path, tmp_path: Path) -> None:
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    frame = saved["hwr"]["frame"]
    for number, wrong in enumerate(
        (
            {"preprocessing": "new"},
            {"frame": {**frame, "new": 1.0}},
            {"frame": {**frame, "x": "left"}},
            {"frame": [1]},
            {"frame": {**frame, "x": math.nan}},
            {"frame": {**frame, "spread": [0.1, 0.2]}},
            {"frame": {**frame, "spread": [0.0, 0.0, 0.0]}},
            {"frame": {**frame, "spread": [0.1, -0.5, 0.9]}},
            {"frame": {**frame, "aspect": 1e6}},
            {"about": 3},
            {"channels": 2},
            {"channels": None},
            {"preprocessing": "ink", "channels": 3},
            {"height": "30"},
            {"height": 10**9},
            {"charset": list(range(62))},
            {"charset": ["a"] * 62},
        )
    ):
        torch.save({**saved, "hwr": {**saved["hwr"], **wrong}}, tmp_path / str(number))
        with pytest.raises(RunError, match="does not say how images are prepared"):
            hwr.load(tmp_path / str(number))


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

    def __reduce__(self) -> object:
        return Path.touch, (self.file,)


def test_nothing_in_a_file_is_executed(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    files = {name: tmp_path / name for name in ("pickle", "planted", "cut", "text", "bomb", "few")}
    files["pickle"].write_bytes(pickle.dumps(Mark(mark)))
    torch.save({**saved, "surprise": Mark(mark)}, files["planted"])
    files["cut"].write_bytes((run / "checkpoints/last.ckpt").read_bytes()[:-5000])
    files["text"].write_text("text")
    with zipfile.ZipFile(files["bomb"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    torch.save({**saved, "hwr": {**saved["hwr"], "charset": ["a", "b"]}}, files["few"])
    for file in files.values():
        with pytest.raises(RunError) as error:
            hwr.load(file)
        assert "\n" not in str(error.value)
    assert not mark.exists()


TELEMETRY = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"}
"""What it depends on whether onnxruntime tells its makers of a model, and where it notes that."""


def test_an_export_reads_the_same_without_torch(
    run: Path, tmp_path: Path, samples: list[Image.Image]
) -> None:
    file = tmp_path / "model.onnx"
    assert export.export(run, file) < 1e-5
    network, exported = hwr.load(run), hwr.load(file)
    for count in (1, 26):
        np.testing.assert_allclose(
            exported.probabilities(samples[:count]),
            network.probabilities(samples[:count]),
            atol=1e-5,
        )
    assert exported.about == network.about
    assert exported.frame == network.frame
    samples[0].save(tmp_path / "a.png")
    code = (
        "import sys, hwr; print(hwr.load('model.onnx').read('a.png'));"
        "assert not {'torch', 'pandas', 'scipy', 'sklearn', 'hydra'} & set(sys.modules)"
    )
    away = {name: value for name, value in os.environ.items() if name not in TELEMETRY}
    away["HOME"] = str(tmp_path / "home")
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=away, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == network.read(samples[0])
    assert not (tmp_path / "home").exists()  # onnxruntime's telemetry would keep a number there
    model = onnx.load(file)
    (card,) = (json.loads(entry.value) for entry in model.metadata_props)
    for wrong in ({"charset": ["a", "b"]}, {"height": 20}, {"height": 10**5, "width": 10**5}):
        onnx.helper.set_model_props(model, {"hwr": json.dumps({**card, **wrong})})
        onnx.save(model, tmp_path / "wrong.onnx")
        with pytest.raises(RunError, match=r"wrong\.onnx (does not|gives no)"):
            hwr.load(tmp_path / "wrong.onnx")
    onnx.helper.set_model_props(model, {"hwr": json.dumps(card)})
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(RunError, match="weights elsewhere"):
        hwr.load(tmp_path / "apart.onnx")
    with pytest.raises(RunError, match="device='cuda' is for checkpoints"):
        hwr.load(file, device="cuda")
    with pytest.raises(DataError, match="is not a file"):
        export.export(run, tmp_path)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(RunError, match="is not an ONNX file"):
        hwr.load(cut)


def test_command(run: Path, tmp_path: Path, samples: list[Image.Image]) -> None:
    program = str(Path(sys.executable).with_name("hwr-predict"))
    for name, image in zip("AB", samples, strict=False):
        (tmp_path / "set" / name).mkdir(parents=True)
        image.save(tmp_path / "set" / name / "1.png")

    def read(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [program, str(run), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, input=stdin, check=False
        )

    done = read("set", "--json", "--label-from-folder")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == ["set/A/1.png", "set/B/1.png"]
    right = np.mean([row["prediction"] == row["file"][4] for row in rows])
    assert done.stderr == f"accuracy {right:.4f} of 2 images\n"
    (tmp_path / "bad.png").write_text("text")
    some = read("set/A/1.png", "bad.png", "-", "--csv", stdin="set/B/1.png\n")
    assert some.returncode == 1
    assert some.stderr.count("\n") == 1
    assert "bad.png cannot be read" in some.stderr
    assert len(some.stdout.splitlines()) == 3
    assert read("set", "--top", "0").returncode == 2
    absent = subprocess.run(
        [program, "absent", "x.png"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    inside = subprocess.run(
        [program, str(run), "1.png", "--label-from-folder"],
        cwd=tmp_path / "set/A",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "of 1 images" in inside.stderr
    (tmp_path / "odd").mkdir()
    shutil.copy(tmp_path / "set/A/1.png", tmp_path / "odd/1.png")
    assert "its folder 'odd' is not a class" in read("odd", "--label-from-folder").stderr
    assert read("-", stdin="set/A/1.png\r\nset/B\n").stdout.count("\n") == 2
    (tmp_path / "empty").mkdir()
    assert (read("empty").returncode, read("empty").stderr.count("\n")) == (1, 1)
    shutil.copy(tmp_path / "set/A/1.png", os.fsencode(tmp_path) + b"/odd/caf\xe9.png")
    for kind in ("--json", "--csv"):
        done = subprocess.run(
            [program, str(run), "odd", kind],
            cwd=tmp_path,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"caf\\udce9.png" in done.stdout
    full = subprocess.run(
        f"{program} {run} set > /dev/full",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.stderr == "hwr-predict: No space left on device: standard output\n"
    many = "set/A/1.png\n" * 3000
    piped = subprocess.run(
        f"{program} {run} - | head -n 1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        input=many.encode(),
        check=False,
    )
    assert piped.stderr == b""
    assert piped.stdout.count(b"\n") == 1


def test_ink_stays_where_it_is_for_networks_that_find_it() -> None:
    box = {"aspect": 4 / 3, "x": 0.6, "y": 0.5, "spread": (0.1, 0.5, 1.4)}
    usual = {**box, "weight": (0.1, 0.5), "pen": (0.05, 0.4)}
    sheet = Image.new("L", (120, 90), 255)
    sheet.paste(0, (10, 10, 40, 60))
    left = Frame(**usual, centre=False)
    there = fit(sheet, left, "notebook", 30, 40)
    np.testing.assert_array_equal(there, images.notebook(sheet, 30, 40))
    moved = fit(sheet, Frame(**usual), "notebook", 30, 40)
    assert np.abs(moved.astype(int) - there).max() > 100
    tall = sheet.crop((0, 0, 60, 90))  # of another aspect, so its place says nothing
    np.testing.assert_array_equal(
        fit(tall, left, "notebook", 30, 40), fit(tall, Frame(**usual), "notebook", 30, 40)
    )
    plain = json.loads(json.dumps(dataclasses.asdict(left)))
    kept = Frame.from_plain(plain)
    assert kept is not None
    assert not kept.centre
    plain.pop("centre")  # as files from before had it
    found = Frame.from_plain(plain)
    assert found is not None
    assert found.centre
    with pytest.raises(ValueError, match="neither true nor false"):
        Frame.from_plain({**plain, "centre": 1})


def test_odd_names(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (40, 30), 255).save("~nosuchuser.png")
    recognizer = hwr.load(run)
    assert len(recognizer.predict("~nosuchuser.png")) == 1
    with pytest.raises(RunError, match="no run folder or file ~nosuchuser/x"):
        hwr.load("~nosuchuser/x")
    with pytest.raises(RunError, match="no run folder or file xxx"):
        hwr.load("x" * 300)
    command = [Path(sys.executable).with_name("hwr-predict"), run, "x" * 300, "~nosuchuser.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("~nosuchuser.png")
    assert "File name too long" in done.stderr


def test_color(tmp_path: Path) -> None:
    settings = ["data=folder", f"data.root={draw_colors(tmp_path / 'letters')}", "model=cnn"]
    settings += ["data.channels=3", "split.val_size=0", "trainer.max_epochs=20"]
    train(compose([*settings, "trainer.accelerator=cpu"]), tmp_path / "run")
    recognizer = hwr.load(tmp_path / "run")
    assert recognizer.channels == 3
    assert repr(recognizer).endswith("'notebook' color images of 30 x 40>")
    rows = [row.split(",") for row in (tmp_path / "run/predictions.csv").read_text().splitlines()]
    files = [tmp_path / "letters" / row[0] for row in rows[1:]]
    found = recognizer.predict(files)
    assert [one.character for one in found] == [row[2] for row in rows[1:]]
    assert [one.probability for one in found] == pytest.approx(
        [float(row[3]) for row in rows[1:]], abs=1e-6
    )
    assert [one.character for one in found] == [row[1] for row in rows[1:]]  # by color alone
    array = recognizer.prepare(files[0])
    with Image.open(files[0]) as image:
        expected = np.asarray(image.resize((40, 30))).transpose(2, 0, 1)
        every = [
            *(files[0], image, np.asarray(image), np.asarray(image) / 255, array),
            *(torch.from_numpy(array), torch.from_numpy(array / 255), image.convert("RGBA")),
        ]
        np.testing.assert_array_equal(array, expected)
        for one in every:
            np.testing.assert_allclose(recognizer.prepare(one), array, atol=2)
    many = np.stack([recognizer.prepare(file) for file in files])
    plain = recognizer.probabilities(files)
    np.testing.assert_allclose(recognizer.scores(many), plain, atol=1e-6)
    np.testing.assert_allclose(recognizer.probabilities(torch.from_numpy(many)), plain, atol=1e-6)
    assert recognizer.prepare(np.full((9, 9), 7, np.uint8)).shape == (3, 30, 40)
    export.export(tmp_path / "run", tmp_path / "m.onnx")
    exported = hwr.load(tmp_path / "m.onnx")
    assert exported.channels == 3
    np.testing.assert_allclose(exported.probabilities(files), plain, atol=1e-5)


def draw_colors(folder: Path) -> Path:
    """Draw strokes of the same shapes in two colors, a folder for each."""
    for label, color in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            image = Image.new("RGB", (80, 60), "white")
            image.paste(color, (10 + number, 20, 30 + number, 40))
            image.save(folder / label / f"{number}.png")
    return folder
