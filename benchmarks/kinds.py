"""Compare the test accuracy with that of hwr-predict on the same images, for ten kinds of sets.

python benchmarks/kinds.py FOLDER [--kinds KIND ...] [--models MODEL ...] [--writers 30]

Draws a dataset, changes it into sets of other light, size, and format, trains every model on each
set, writes the test images anew under other names, and predicts them with hwr-predict. Prints a
Markdown table: test/acc of metrics.json, and the accuracy of hwr-predict, in percent.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hwr.data.synthetic import draw_images, list_samples

BIN = Path(sys.executable).parent
Change = Callable[[Image.Image, np.random.Generator], Image.Image]
MODELS = {
    "MLP": ["hwr-train", "model=mlp", "optimizer=keras_adam", "trainer.max_epochs=40"],
    "CNN": ["hwr-train", "model=cnn", "trainer.max_epochs=6"],
    "GlyphNet": ["hwr-train", "model=glyphnet", "data.height=48", "data.width=64"],
    "forest": ["hwr-forest", "plots=false"],
}
MODELS["GlyphNet"] += ["optimizer=adamw", "trainer.max_epochs=4"]


def small(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Shrink a drawing to a size that is processed quickly."""
    return image.resize((240, 180), Image.Resampling.BOX)


def light(image: Image.Image, paper: float, ink: float, noise: float, random: np.random.Generator):
    """Give an image another background and ink, and noise."""
    array = ink + (paper - ink) * np.asarray(small(image, random), float) / 255
    array += random.normal(0, noise, array.shape)
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def white_on_black(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Draw white on black, 28 x 28."""
    return ImageOps.invert(image.resize((28, 28), Image.Resampling.BOX))


def gray_paper(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Draw on gray paper."""
    return light(image, random.uniform(150, 210), random.uniform(20, 60), 4, random)


def shadow(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Let the light fall by up to a half in any direction."""
    y, x = np.mgrid[-1:1:180j, -1:1:240j]
    angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.5)
    fall = 1 - depth * (1 + (x * np.cos(angle) + y * np.sin(angle)) / 1.42) / 2
    array = np.asarray(light(image, 235, 40, 3, random)) * fall
    return Image.fromarray(array.astype(np.uint8))


def chalk(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Draw with chalk on a board."""
    return light(image, random.uniform(35, 70), random.uniform(190, 230), 8, random)


def color(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Draw with a colored pen on colored paper."""
    paper, ink = random.integers(190, 256, 3), random.integers(0, 110, 3)
    gray = small(image, random)
    return ImageOps.colorize(gray, tuple(map(int, ink)), tuple(map(int, paper)))


def twelve_bits(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Store 12 bits in files of 16."""
    return Image.fromarray(np.asarray(small(image, random)).astype(np.uint16) << 4)


def tiny(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Shrink to 16 x 12."""
    return image.resize((16, 12), Image.Resampling.BOX)


def huge(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Enlarge to about 2,400 x 1,800."""
    factor = random.uniform(1.9, 2.1)
    return image.resize((round(1200 * factor), round(900 * factor)))


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Crop to the ink and a few pixels."""
    left, top, right, bottom = ImageOps.invert(image).getbbox()
    margin = random.integers(2, 30, 4)
    box = (left - margin[0], top - margin[1], right + margin[2], bottom + margin[3])
    return ImageOps.invert(ImageOps.invert(image).crop(tuple(map(int, box))))


def framed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Put a dark frame around."""
    return ImageOps.expand(small(image, random), int(random.integers(4, 16)), 20)


KINDS: dict[str, Change] = {
    "white on black, 28 x 28": white_on_black,
    "gray paper": gray_paper,
    "shadow": shadow,
    "chalk": chalk,
    "color": color,
    "12-bit": twelve_bits,
    "tiny": tiny,
    "huge": huge,
    "cropped": cropped,
    "framed": framed,
}


def run(*words: str, cwd: Path) -> str:
    """Run a command of hwr; return what it prints on standard error."""
    done = subprocess.run([BIN / words[0], *words[1:]], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return done.stderr


def make_set(folder: Path, change: Change, writers: int) -> None:
    """Write a set of the real one's layout."""
    samples = list_samples(writers)
    (folder / "Img").mkdir(parents=True)
    for writer in range(1, writers + 1):
        images = draw_images(writer, seed=0)
        for image, (file, *_) in zip(images, samples[writer - 1 :: writers], strict=True):
            random = np.random.default_rng([writer, int(file[7:10])])
            change(image, random).save(folder / file)
    rows = "".join(f"{file},{label}\n" for file, label, _ in samples)
    (folder / "english.csv").write_text(f"image,label\n{rows}")


def rewrite_tests(folder: Path, root: Path, tests: Path) -> None:
    """Write the test images of a run anew: other names and another format, a folder a class."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        place = tests / row["label"]
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(root / row["file"]) as image:
            image.save(place / f"{number}.tif", compression="tiff_lzw")


def measure(folder: Path, model: str) -> tuple[float, float, float | None]:
    """Train a model on a set; return test/acc, and accuracies by hwr-predict and by ONNX."""
    name, out = model.lower(), folder / model.lower()
    program, *settings = MODELS[model]
    quick = ["callbacks=light", "logger=none"] if program == "hwr-train" else []
    words = [*settings, *quick, "data=folder", f"data.root={folder / 'set'}"]
    run(program, *words, f"hydra.run.dir={out}", cwd=folder)
    tests = folder / f"tests_{name}"
    rewrite_tests(out, folder / "set", tests)

    def predicted(path: Path) -> float:
        lines = run(
            "hwr-predict", str(path), str(tests), "--label-from-folder", "--csv", cwd=folder
        )
        return float(lines.rpartition("accuracy ")[2].split()[0])

    exported = None
    if program == "hwr-train":
        run("hwr-export", str(out), cwd=folder)
        exported = predicted(out / "model.onnx")
    metrics = json.loads((out / "metrics.json").read_text())
    return metrics["test/acc"], predicted(out), exported


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--writers", type=int, default=30, metavar="N")
    arguments = parser.parse_args()
    print("| set | model | metric | hwr-predict | ONNX |\n|---|---|---|---|---|")
    for number, kind in enumerate(arguments.kinds):
        folder = (arguments.folder / str(number)).resolve()
        make_set(folder / "set", KINDS[kind], arguments.writers)
        for model in arguments.models:
            values = measure(folder, model)
            cells = " | ".join("-" if v is None else f"{100 * v:.1f}" for v in values)
            print(f"| {kind} | {model} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
