"""The notebook's preprocessing, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr import images


def notebook(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L").resize((40, 30)))


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
    picture = Image.fromarray(pixels)
    np.testing.assert_array_equal(images.prepare(picture.convert("L"), 30, 40), notebook(picture))


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (30, 40), (1200, 900), (39, 900)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_even_pictures(size: tuple[int, int], grey: int) -> None:
    picture = Image.new("L", size, grey)
    np.testing.assert_array_equal(images.prepare(picture, 30, 40), notebook(picture))


def test_real_pictures(real: Path) -> None:
    for file in sorted((real / "Img").glob("*.png"))[::70]:
        with file.open("rb") as stream:
            found = images.read(stream, 30, 40, 10**7)
        with Image.open(file) as picture:
            np.testing.assert_array_equal(found, notebook(picture))


def test_scale() -> None:
    grey = np.arange(256, dtype=np.uint8)
    expected = grey.astype("float32")
    expected /= 255
    np.testing.assert_array_equal(images.scale(grey), expected)
    assert images.scale(grey).dtype == np.float32
