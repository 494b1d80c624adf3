"""Measure accuracy on changed test images, taken as they come and normalized.

python benchmarks/robustness.py RUN...   (runs on images of black on white; several are pooled)

The constants of the normalization were chosen with --set on folds of training images:
docs/reading.md.
"""

import argparse
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt

import hwr
from hwr.preprocessing import background, preprocessor

MODULES = {"background": background, "preprocessor": preprocessor}
Change = Callable[[Image.Image], Image.Image]


def generator(image: Image.Image) -> np.random.Generator:
    """Seed a generator by the image alone, so that both columns get the same."""
    return np.random.default_rng(zlib.crc32(image.tobytes()))


def jpeg(image: Image.Image) -> Image.Image:
    """Compress with quality 50."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


def alpha(image: Image.Image) -> Image.Image:
    """Make all but the ink transparent."""
    clear = Image.new("RGBA", image.size, (0, 0, 0, 0))
    clear.putalpha(ImageOps.invert(image))
    return clear


def shaded(image: Image.Image) -> Image.Image:
    """Let the light fall by 40 % from left to right."""
    light = np.linspace(1, 0.6, image.width)
    return Image.fromarray((np.asarray(image) * light).astype(np.uint8))


def noise(image: Image.Image) -> Image.Image:
    """Add Gaussian noise of sigma 15."""
    noisy = np.asarray(image) + generator(image).normal(0, 15, (image.height, image.width))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def thin(image: Image.Image) -> Image.Image:
    """Erode strokes, about 58 pixels of 900 wide, to half their width."""
    depth = distance_transform_edt(np.asarray(image) < 128)
    return Image.fromarray(np.where(depth > 14.5 * image.height / 900, 0, 255).astype(np.uint8))


def thick(image: Image.Image) -> Image.Image:
    """Make strokes twice as wide."""
    away = distance_transform_edt(np.asarray(image) >= 128)
    return Image.fromarray(np.where(away < 29 * image.height / 900, 0, 255).astype(np.uint8))


def moved(image: Image.Image) -> Image.Image:
    """Move the image by up to 15 % of its size in both directions."""
    place = generator(image).uniform(-0.15, 0.15, 2) * image.size
    result = Image.new("L", image.size, 255)
    result.paste(image, (round(place[0]), round(place[1])))
    return result


CHANGES: dict[str, Change] = {
    "unchanged": lambda image: image,
    "inverted": ImageOps.invert,
    "gray background, 200 of 255": lambda image: image.point(lambda value: value * 200 // 255),
    "8-bit palette": lambda image: image.convert("P"),
    "transparent background": alpha,
    "JPEG, quality 50": jpeg,
    "twice the size": lambda image: image.resize((2 * image.width, 2 * image.height)),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "light falling by 40 %": shaded,
    "noise of sigma 15": noise,
    "strokes half as wide": thin,
    "strokes twice as wide": thick,
    "ink moved by up to 15 %": moved,
    "blue ink": lambda image: ImageOps.colorize(image, "#0000ff", "#ffffff"),
    "32 x 24 pixels": lambda image: image.resize((32, 24)),
    "a dark rim of 20 pixels": lambda image: ImageOps.expand(image, 20, 0),
    "cut to the ink": lambda image: image.crop(ImageOps.invert(image).getbbox()),
}


def correct(run: Path, change: Change, every: int, modes: tuple[str, ...]) -> np.ndarray:
    """Tell which test images of a run are correct, shape (modes, images)."""
    recognizer = hwr.load(run)
    root = Path(json.loads((run / "metrics.json").read_text())["config"]["data"]["root"])
    rows = [line.split(",") for line in (run / "predictions.csv").read_text().splitlines()[1:]]
    rows = rows[::every]
    label = np.array([row[1] for row in rows])
    images = [Image.open(root / row[0]).convert("L") for row in rows]
    many = [recognizer.predict(map(change, images), 1, mode) for mode in modes]
    return np.array([[one.character for one in found] == label for found in many])


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE", help="as named")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take one of N images")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="background.BLACK=40", dest="constants"
    )
    arguments = parser.parse_args()
    for constant in arguments.constants:
        place, value = constant.split("=")
        module, name = place.split(".")
        assert hasattr(MODULES[module], name), place
        setattr(MODULES[module], name, float(value))
    modes = ("auto",) if arguments.constants else ("as_is", "auto")
    title = " ".join(arguments.constants)
    for number, name in enumerate(arguments.only or CHANGES):
        runs = [correct(run, CHANGES[name], arguments.every, modes) for run in arguments.runs]
        results = np.concatenate(runs, axis=1)
        if not number:
            print(f"| {results.shape[1]} test images {title} | {' | '.join(modes)} |")
            print(f"|{'---|' * (1 + len(modes))}")
        shares = " | ".join(f"{share:.1%}" for share in results.mean(1))
        print(f"| {name} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
