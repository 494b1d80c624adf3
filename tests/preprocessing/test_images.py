"""The preprocessings: the notebook's bit for bit, the window on the ink, and color."""

from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from hwr.errors import DataError
from hwr.preprocessing import images
from hwr.preprocessing.background import ink_box
from hwr.preprocessing.inputs import open_picture


def notebook(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((40, 30)))


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_pillow(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 700, 2)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, bottom = np.sort(random.integers(0, height + 1, 2))
    match seed % 4:
        case 0:  # white margins
            pixels[:top] = pixels[bottom:] = 255
        case 1:  # strokes in black and white
            pixels[:] = 255
            pixels[top:bottom, : width // 2] = 0
        case 2:  # nearly white margins
            pixels[:top] = 254
        case _:
            pass
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(images.notebook(image.convert("L"), 30, 40), notebook(image))


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (30, 40), (1200, 900), (39, 900)])
@pytest.mark.parametrize("gray", [0, 128, 255])
def test_blank_images(size: tuple[int, int], gray: int) -> None:
    image = Image.new("L", size, gray)
    np.testing.assert_array_equal(images.notebook(image, 30, 40), notebook(image))


def test_real_images(real: Path) -> None:
    for file in sorted((real / "Img").glob("*.png"))[::70]:
        with file.open("rb") as stream:
            found = images.read(stream, "notebook", 30, 40, 10**7)
        with Image.open(file) as image:
            np.testing.assert_array_equal(found, notebook(image))


def stroke(
    size: tuple[int, int], place: tuple[float, float], length: float, width: int = 60
) -> Image.Image:
    """A image with one slanting line."""
    image = Image.new("L", size, 255)
    (x, y), half = place, length / 2
    line = [(x - half / 2, y - half), (x + half / 2, y + half)]
    ImageDraw.Draw(image).line(line, fill=0, width=width)
    return image


def extent(array: np.ndarray) -> tuple[float, float, float, float]:
    box = ink_box(array)
    assert not np.isnan(box).any()
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def test_ink_lies_in_the_middle_and_keeps_its_size() -> None:
    for length in (200, 400, 800):
        there = stroke((1200, 900), (600, 450), length)
        array = images.ink(there, 48, 48)
        assert array.shape == (48, 48)
        x, y, _, high = extent(array)
        assert (x, y) == pytest.approx((0.5, 0.5), abs=0.01)
        # The window is 960 pixels high; 2 % of the ink at both ends do not count.
        assert high == pytest.approx(0.96 * length / 960, abs=0.06)
        for other in (
            stroke((1200, 900), (300, 500), length),
            ImageOps.invert(there),
            there.point(lambda value: 90 + value * 110 // 255),
            there.resize((2400, 1800)),
            there.resize((600, 450)),
        ):
            close = np.abs(images.ink(other, 48, 48).astype(int) - array)
            assert close.mean() < 4


def test_the_window_grows_with_ink_that_it_cannot_hold() -> None:
    image = Image.new("L", (1200, 900), 255)
    ImageDraw.Draw(image).line([(20, 450), (1180, 450)], fill=0, width=60)
    array = images.ink(image, 48, 48)
    assert array[:, 0].min() == array[:, -1].min() == 255
    assert extent(array)[2] == pytest.approx(1 / 1.1, abs=0.01)
    wide = images.ink(image.crop((0, 300, 1200, 600)), 32, 96)
    assert wide.shape == (32, 96)
    assert extent(wide)[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (28, 28), (3, 400), (900, 1200)])
def test_ink_of_any_size(size: tuple[int, int]) -> None:
    image = stroke((1200, 900), (600, 450), 500).resize(size)
    assert images.ink(image, 20, 30).shape == (20, 30)
    assert (images.ink(Image.new("L", size, 255), 20, 30) == 255).all()


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA", "CMYK", "I", "I;16", "I;16B", "F"])
def test_a_large_image_is_converted_in_strips(
    monkeypatch: pytest.MonkeyPatch, mode: str, turned: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    image, kinds = (
        Image.fromarray(values),
        {"I": "<i4", "I;16": "<u2", "I;16B": ">u2", "F": "<f4"},
    )
    if mode in kinds:
        wide = values[..., 0].astype(np.uint16) * (1 if mode == "F" else 257)
        image = Image.fromarray(wide.astype(kinds[mode]))
    elif mode != "RGBA":
        image = image.convert("RGB" if mode == "CMYK" else mode).convert(mode)
    assert image.mode == mode
    image.getexif()[0x0112] = turned
    gray, color = (np.asarray(open_picture(image, channels=channels)) for channels in (1, 3))
    monkeypatch.setattr(images, "STRIP", 300)
    np.testing.assert_array_equal(np.asarray(open_picture(image)), gray)
    np.testing.assert_array_equal(np.asarray(open_picture(image, channels=3)), color)
    assert gray.shape == ((37, 53) if turned == 1 or mode == "F" else (53, 37))
    assert color.shape == (*gray.shape, 3)


def test_formats_that_take_much_memory_may_have_half_the_pixels() -> None:
    for side, kind, rejected in ((100, "PNG", False), (70, "WEBP", False), (71, "WEBP", True)):
        file = BytesIO()
        Image.new("L", (side, side)).save(file, kind)
        with pytest.raises(images.TooLarge, match="in a WEBP") if rejected else nullcontext():
            images.read(file, "notebook", 9, 9, 10_000)


def test_scale() -> None:
    gray = np.arange(256, dtype=np.uint8)
    expected = gray.astype("float32")
    expected /= 255
    np.testing.assert_array_equal(images.scale(gray), expected)
    assert images.scale(gray).dtype == np.float32


@pytest.mark.parametrize("seed", range(6))
def test_color_is_resized_as_pillow_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 300, 2)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((40, 30))).transpose(2, 0, 1)
    file = BytesIO()
    image.save(file, "PNG")
    np.testing.assert_array_equal(images.read(file, "notebook", 30, 40, 10**6, 3), expected)
    np.testing.assert_array_equal(images.prepare(image, "notebook", 30, 40), expected)
    with pytest.raises(DataError, match="preprocessing=ink is for gray images"):
        images.prepare(image, "ink", 30, 40)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "F"])
def test_gray_images_in_color_are_three_times_the_same(mode: str) -> None:
    gray = np.random.default_rng(0).integers(0, 2, (90, 120)) * 255
    kinds = {"1": bool, "L": np.uint8, "I;16": np.uint16, "F": np.float32}
    image = Image.fromarray(gray.astype(kinds[mode]))
    assert image.mode == mode
    color = images.prepare(open_picture(image, channels=3), "notebook", 30, 40)
    plain = images.prepare(open_picture(image), "notebook", 30, 40)
    np.testing.assert_array_equal(color, np.stack([plain] * 3))


def test_what_is_transparent_is_white_and_exif_turns() -> None:
    image = Image.new("RGBA", (4, 2), (200, 0, 0, 255))
    image.putpixel((3, 0), (0, 0, 0, 0))
    image.getexif()[0x0112] = 6  # a quarter turn clockwise
    color = np.asarray(images.convert(image, 3))
    assert color.shape == (4, 2, 3)
    assert color[3, 1].tolist() == [255, 255, 255]
    assert color[0, 0].tolist() == [200, 0, 0]
    ink = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    ink.putpixel((1, 1), (255, 255, 255, 255))  # white ink on nothing
    expected = np.full((2, 4), 255)
    expected[1, 1] = 0
    np.testing.assert_array_equal(np.asarray(images.convert(ink)), expected)
    np.testing.assert_array_equal(np.asarray(images.convert(ink, 3))[..., 2], expected)
