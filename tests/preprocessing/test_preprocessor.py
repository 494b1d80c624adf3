"""The preprocessings: the notebook's bit for bit, the window on the ink, and color."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from hwr.data.synthetic import draw_images
from hwr.errors import DataError
from hwr.preprocessing.decode import convert, open_file, open_image
from hwr.preprocessing.ink import ink_box, measure_ink
from hwr.preprocessing.preprocessor import Preprocessor
from hwr.preprocessing.statistics import ImageStatistics

NOTEBOOK, INK = Preprocessor("notebook", 30, 40), Preprocessor("ink", 48, 48)


def resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((40, 30)))


def test_notebook_on_real_images(real: Path) -> None:
    for file in sorted((real / "Img").glob("*.png"))[::70]:
        with Image.open(file) as image:
            array = NOTEBOOK(open_image(file))
            np.testing.assert_array_equal(array, resized(image))


def stroke(
    size: tuple[int, int], center: tuple[float, float], length: float, width: int = 60
) -> Image.Image:
    """Draw one slanting line."""
    image = Image.new("L", size, 255)
    (x, y), half = center, length / 2
    line = [(x - half / 2, y - half), (x + half / 2, y + half)]
    ImageDraw.Draw(image).line(line, fill=0, width=width)
    return image


def extent(array: np.ndarray) -> tuple[float, float, float, float]:
    """Return center and size of the ink, as shares of the array."""
    left, top, right, bottom = ink_box(array)
    assert not np.isnan(left)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def test_ink_lies_in_the_middle_and_keeps_its_size() -> None:
    for length in (200, 400, 800):
        image = stroke((1200, 900), (600, 450), length)
        array = INK(image)
        assert array.shape == (48, 48)
        x, y, _, high = extent(array)
        assert (x, y) == pytest.approx((0.5, 0.5), abs=0.01)
        # The window is 960 pixels high; 2 % of the ink at both ends do not count.
        assert high == pytest.approx(0.96 * length / 960, abs=0.06)
        for other in (
            stroke((1200, 900), (300, 500), length),
            ImageOps.invert(image),
            image.point(lambda value: 90 + value * 110 // 255),
            image.resize((2400, 1800)),
            image.resize((600, 450)),
        ):
            assert np.abs(INK(other).astype(int) - array).mean() < 4


def test_the_window_grows_with_ink_that_it_cannot_hold() -> None:
    image = Image.new("L", (1200, 900), 255)
    ImageDraw.Draw(image).line([(20, 450), (1180, 450)], fill=0, width=60)
    array = INK(image)
    assert array[:, 0].min() == array[:, -1].min() == 255
    assert extent(array)[2] == pytest.approx(1 / 1.1, abs=0.01)
    wide = Preprocessor("ink", 32, 96)(image.crop((0, 300, 1200, 600)))
    assert wide.shape == (32, 96)
    assert extent(wide)[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (28, 28), (3, 400), (900, 1200), (3000, 40)])
@pytest.mark.parametrize("preprocessing", ["notebook", "ink"])
def test_images_of_any_size(size: tuple[int, int], preprocessing: str) -> None:
    preprocessor = of([stroke((150, 100), (75, 50), 50, 8)], Preprocessor(preprocessing, 20, 30))
    image = stroke((1200, 900), (600, 450), 500).resize(size)
    blank = Image.new("L", size, 255)
    for normalize in ("as_is", "auto"):
        assert preprocessor(image, normalize).shape == (20, 30)
        assert (preprocessor(blank, normalize) == 255).all()


def test_statistics_against_hand_computed_values() -> None:
    array = np.full((3, 100, 200), 255, np.uint8)
    array[0, 20:60, 50:90] = array[1, 30:70, 70:110] = 0  # squares of 40 pixels
    sizes = np.array([(200, 100), (400, 200)])
    statistics = ImageStatistics.of(array, sizes, aspect=2)
    assert statistics is not None
    assert (statistics.x, statistics.y) == pytest.approx((0.8, 0.45))
    # 2 % of the ink at each end don't count.
    assert statistics.diagonal == pytest.approx([2**0.5 * 0.96 * 0.4] * 3)
    assert statistics.darkness == pytest.approx((1, 1))
    # Twice the area over the outline, which counts two sides at each corner but one.
    outline = 4 * 40 - 2 + 2**0.5
    assert statistics.stroke_width == pytest.approx([2 * 1600 / outline / 100] * 2, rel=0.01)
    assert (statistics.levels, statistics.sizes) == ((255, 0), (200, 100, 400, 200))
    assert np.isnan(measure_ink(array[2], 2)[:3]).all()
    assert ImageStatistics.of(array[2:], sizes, aspect=2) is None
    chalk = ImageStatistics.of(220 - array[:2] // 255 * 170, sizes, aspect=2)  # 220 on 50
    assert chalk is not None
    assert (chalk.levels, chalk.x, chalk.y) == ((50, 220), statistics.x, statistics.y)


def of(
    images: list[Image.Image], preprocessor: Preprocessor, recenter: bool = True
) -> Preprocessor:
    """Return a preprocessor that knows its training images."""
    arrays = np.stack([preprocessor(image) for image in images])
    sizes = np.array([image.size for image in images])
    aspect = 4 / 3 if preprocessor is NOTEBOOK else 1
    return replace(preprocessor, statistics=ImageStatistics.of(arrays, sizes, aspect, recenter))


def test_other_images_are_brought_to_the_training_images() -> None:
    images = [stroke((1200, 900), (x, 450), length) for x, length in ((700, 300), (760, 500))]
    preprocessor = of(images, NOTEBOOK)
    usual = preprocessor.statistics
    assert usual is not None
    for image, zoomed in (
        (stroke((1200, 900), (300, 300), 400), False),
        (stroke((4000, 3000), (900, 2000), 300, 45), True),
        (stroke((900, 1200), (400, 500), 400, 150), False),
    ):
        x, y, diagonal, _, stroke_width = measure_ink(preprocessor(image, "auto"), 4 / 3)
        assert (x, y) == pytest.approx((usual.x, usual.y), abs=0.04)
        assert usual.diagonal[0] / 1.2 < diagonal < 1.2 * usual.diagonal[2]
        assert not zoomed or diagonal == pytest.approx(usual.diagonal[1], rel=0.2)
        assert stroke_width < 1.2 * usual.stroke_width[1]


def test_ink_stays_where_it_is_for_networks_that_find_it() -> None:
    images = [stroke((1200, 900), (x, 450), 300) for x in (400, 800)]
    moves, stays = of(images, NOTEBOOK), of(images, NOTEBOOK, recenter=False)
    image = stroke((600, 450), (125, 175), 150, 30)
    np.testing.assert_array_equal(stays(image, "auto"), NOTEBOOK(image))
    assert np.abs(moves(image, "auto").astype(int) - NOTEBOOK(image)).max() > 100
    tall = image.crop((0, 0, 300, 450))  # of another aspect, so its place says nothing
    np.testing.assert_array_equal(stays(tall, "auto"), moves(tall, "auto"))


def gray(paper: float, ink: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.point(lambda value: round(ink + (paper - ink) * value / 255))


def shaded(image: Image.Image) -> Image.Image:
    """Let the light fall from left to right."""
    light = np.linspace(1, 0.55, image.width)
    return Image.fromarray((np.asarray(image) * light).astype(np.uint8))


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "black on white": lambda image: image,
    "white on black": lambda image: ImageOps.invert(image.resize((28, 28))),
    "gray paper": gray(180, 40),
    "shadow": shaded,
    "chalk": gray(50, 210),
    "12 bits": gray(15, 0),
    "tiny": lambda image: image.resize((16, 12)),
    "huge": lambda image: image.resize((3600, 2700)),
    "cropped": lambda image: image.crop(ImageOps.invert(image).getbbox()),
    "framed": lambda image: ImageOps.expand(image, 60, 20),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", [NOTEBOOK, INK], ids=["notebook", "ink"])
def test_images_of_the_training_kind_give_the_training_array(
    kind: str, plain: Preprocessor
) -> None:
    drawn = [image for writer in (1, 2, 3) for image in draw_images(writer, 0)[::3]]
    images = [KINDS[kind](image) for image in drawn]
    preprocessor = of(images[:42], plain)
    same = [np.array_equal(preprocessor(image, "auto"), plain(image)) for image in images[42:]]
    assert np.mean(same) > 0.85  # of so few images, that don't show all that there is
    assert all(np.array_equal(preprocessor(i, "auto"), plain(i)) for i in images[:42])
    # Those of another kind get the background and the ink of these.
    other = preprocessor(gray(200, 90)(drawn[0]).resize((500, 400)), "auto")
    expected = np.median([np.median(plain(image)) for image in images[:42]])
    assert np.median(other) == pytest.approx(expected, abs=40)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA", "CMYK", "I", "I;16", "I;16B", "F"])
def test_modes(mode: str) -> None:
    black = np.random.default_rng(0).integers(0, 2, (37, 53), dtype=np.uint8) * 255
    if mode in ("I", "I;16", "I;16B", "F"):
        kind = {"I": "<i4", "I;16": "<u2", "I;16B": ">u2", "F": "<f4"}[mode]
        image = Image.fromarray(
            (black.astype(np.uint16) * (1 if mode == "F" else 257)).astype(kind)
        )
    else:
        image = Image.fromarray(black).convert("RGB").convert(mode)
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(open_image(image)), black)
    twelve = open_image(Image.fromarray(black.astype(np.uint16) << 4))
    np.testing.assert_array_equal(np.asarray(twelve), black)
    color = np.asarray(open_image(image, channels=3))
    np.testing.assert_array_equal(color, np.stack([black] * 3, axis=-1))


def test_transparent_is_white_and_exif_rotates() -> None:
    image = Image.new("RGBA", (4, 2), (200, 0, 0, 255))
    image.putpixel((3, 0), (0, 0, 0, 0))
    image.getexif()[0x0112] = 6  # a quarter turn clockwise
    color = np.asarray(convert(image, 3))
    assert color.shape == (4, 2, 3)
    assert color[3, 1].tolist() == [255, 255, 255]
    assert color[0, 0].tolist() == [200, 0, 0]
    assert (image.size, image.getexif()[0x0112]) == ((4, 2), 6)
    ink = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    ink.putpixel((1, 1), (255, 255, 255, 255))  # white ink on nothing
    expected = np.full((2, 4), 255)
    expected[1, 1] = 0
    np.testing.assert_array_equal(np.asarray(convert(ink)), expected)
    np.testing.assert_array_equal(np.asarray(convert(ink, 3))[..., 2], expected)


@pytest.mark.parametrize("seed", range(6))
def test_color_is_resized_as_pillow_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 300, 2)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((40, 30))).transpose(2, 0, 1)
    np.testing.assert_array_equal(Preprocessor("notebook", 30, 40, 3)(image), expected)


def test_images_that_are_rejected(tmp_path: Path) -> None:
    several = BytesIO()
    frames = [Image.new("L", (9, 9), gray) for gray in (0, 9)]
    frames[0].save(several, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("text")
    for source, words in (
        (tmp_path / "absent.png", "absent.png cannot be read as an image: No such file"),
        (tmp_path, "cannot be read as an image: Is a directory"),
        (tmp_path / "text.png", "text.png cannot be read as an image: it is none of PNG, JPEG"),
        (b"", "the image cannot be read as an image: it is none of"),
        (several.getvalue(), "several frames"),
        (5, "an object of type int is not an image; give a path"),
        (np.zeros((0, 3)), "shape .* is not an image"),
        (np.zeros((5, 5, 2)), "shape .* is not an image"),
        (np.full((4, 4), np.nan), "floats must lie between 0 and 1, or 0 and 255"),
        (np.full((4, 4), 70_000), "must be integers from 0 to 255"),
        (np.full((4, 4), -1), "must be integers from 0 to 255"),
    ):
        with pytest.raises(DataError, match=words):
            open_image(source)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    with open_file(tmp_path / "a.png", 10_000) as image:
        assert image.size == (100, 100)
    with pytest.raises(ValueError, match="100 x 100 pixels are more than 9,999"):
        open_file(tmp_path / "a.png", 9_999)
    broken = bytearray((tmp_path / "a.png").read_bytes())
    broken[50] ^= 1
    with pytest.raises(DataError, match="cannot be read as an image"):
        open_image(bytes(broken))
    with pytest.raises(DataError, match="normalize='x' must be 'auto' or 'as_is'"):
        NOTEBOOK(Image.new("L", (9, 9)), "x")  # type: ignore[arg-type]
