"""How well runs read their test pictures after what happens to pictures, as they come and settled.

python benchmarks/robustness.py RUN...   (runs on pictures of black on white; several are pooled)

How a picture is settled was chosen with --set on folds of the training pictures; docs/reading.md.
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
from hwr import frame, paper

MODULES = {"frame": frame, "paper": paper}
Change = Callable[[Image.Image], Image.Image]


def generator(picture: Image.Image) -> np.random.Generator:
    """Random numbers that depend on the picture alone, so that both columns see the same."""
    return np.random.default_rng(zlib.crc32(picture.tobytes()))


def jpeg(picture: Image.Image) -> Image.Image:
    """Quality 50."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=50)
    return Image.open(file)


def alpha(picture: Image.Image) -> Image.Image:
    """Black ink on nothing."""
    clear = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    clear.putalpha(ImageOps.invert(picture))
    return clear


def gradient(picture: Image.Image) -> Image.Image:
    """The light falls by 40 % from left to right."""
    light = np.linspace(1, 0.6, picture.width)
    return Image.fromarray((np.asarray(picture) * light).astype(np.uint8))


def noise(picture: Image.Image) -> Image.Image:
    """Gaussian, sigma 15."""
    noisy = np.asarray(picture) + generator(picture).normal(0, 15, (picture.height, picture.width))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def thin(picture: Image.Image) -> Image.Image:
    """The pen, about 58 pixels of 900 wide, eroded to half its width."""
    depth = distance_transform_edt(np.asarray(picture) < 128)
    return Image.fromarray(np.where(depth > 14.5 * picture.height / 900, 0, 255).astype(np.uint8))


def thick(picture: Image.Image) -> Image.Image:
    """The pen twice as wide."""
    away = distance_transform_edt(np.asarray(picture) >= 128)
    return Image.fromarray(np.where(away < 29 * picture.height / 900, 0, 255).astype(np.uint8))


def moved(picture: Image.Image) -> Image.Image:
    """By up to 15 % of the frame in both directions."""
    place = generator(picture).uniform(-0.15, 0.15, 2) * picture.size
    sheet = Image.new("L", picture.size, 255)
    sheet.paste(picture, (round(place[0]), round(place[1])))
    return sheet


CHANGES: dict[str, Change] = {
    "unchanged": lambda picture: picture,
    "inverted": ImageOps.invert,
    "grey paper, 200 of 255": lambda picture: picture.point(lambda value: value * 200 // 255),
    "8-bit palette": lambda picture: picture.convert("P"),
    "transparent paper": alpha,
    "JPEG, quality 50": jpeg,
    "twice the size": lambda picture: picture.resize((2 * picture.width, 2 * picture.height)),
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "light falling by 40 %": gradient,
    "noise of sigma 15": noise,
    "pen half as wide": thin,
    "pen twice as wide": thick,
    "ink moved by up to 15 %": moved,
    "blue ink": lambda picture: ImageOps.colorize(picture, "#0000ff", "#ffffff"),
    "32 x 24 pixels": lambda picture: picture.resize((32, 24)),
    "a dark rim of 20 pixels": lambda picture: ImageOps.expand(picture, 20, 0),
    "cut to the ink": lambda picture: picture.crop(ImageOps.invert(picture).getbbox()),
}


def read(run: Path, change: Change, every: int, frames: tuple[str, ...]) -> np.ndarray:
    """Which test pictures of a run are read rightly, a row for each of the frames."""
    recognizer = hwr.load(run)
    root = Path(json.loads((run / "metrics.json").read_text())["config"]["data"]["root"])
    rows = [line.split(",") for line in (run / "predictions.csv").read_text().splitlines()[1:]]
    rows = rows[::every]
    label = np.array([row[1] for row in rows])
    pictures = [Image.open(root / row[0]).convert("L") for row in rows]
    found = [recognizer.predict(map(change, pictures), 1, placing) for placing in frames]
    return np.array([[one.character for one in read] == label for read in found])


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE", help="as named")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of each N pictures one")
    parser.add_argument("--set", nargs="+", default=[], metavar="paper.BLACK=40", dest="constants")
    arguments = parser.parse_args()
    for constant in arguments.constants:
        place, value = constant.split("=")
        module, name = place.split(".")
        assert hasattr(MODULES[module], name), place
        setattr(MODULES[module], name, float(value))
    frames = ("auto",) if arguments.constants else ("as_is", "auto")
    title = " ".join(arguments.constants)
    for number, name in enumerate(arguments.only or CHANGES):
        parts = [read(run, CHANGES[name], arguments.every, frames) for run in arguments.runs]
        right = np.concatenate(parts, axis=1)
        if not number:
            print(f"| {right.shape[1]} test pictures {title} | {' | '.join(frames)} |")
            print(f"|{'---|' * (1 + len(frames))}")
        shares = " | ".join(f"{share:.1%}" for share in right.mean(1))
        print(f"| {name} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
