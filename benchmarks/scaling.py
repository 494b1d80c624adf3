"""Fit time an epoch, cold start, preparation and peak memory as the data set grows to a million.

Cold start: from the launch of a process to its first batch, imports and the making of the random
arrays included. Random 40 x 30 arrays of 62 classes are fitted by the notebook's MLP and CNN;
preparation reads random PNG pictures from disk, without a cache. Every figure is taken in a process
of its own, so that peak memory is that of this size alone. Run it on an idle machine:

    python benchmarks/scaling.py [--small] [--out FOLDER]     FOLDER gets scaling.csv, scaling.png
"""

import argparse
import csv
import json
import logging
import math
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

FIT, SMALL_FIT = (3_410, 34_100, 341_000, 1_000_000), (310, 620)
PREPARE, SMALL_PREPARE = (3_410, 34_100), (310, 620)
CLASSES = 62
COLUMNS = ("what", "pictures", "seconds", "microseconds_a_picture", "start_seconds", "peak_mib")


def fit(model: str, count: int, launched: float) -> tuple[float, float]:
    """Seconds of the second epoch (of a large set, of the first), and to the first batch."""
    warnings.simplefilter("ignore")  # that there is no validation, and the like
    import torch
    from pytorch_lightning import Callback, Trainer

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    from hwr import memory
    from hwr.batches import Batches
    from hwr.config import compose
    from hwr.train import build

    memory.keep()

    class Clock(Callback):
        def on_train_start(self, *_: object) -> None:
            self.start = time.time() - launched

        def on_train_epoch_start(self, *_: object) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            self.seconds = time.perf_counter() - self.started

    from hwr.alphabet import Alphabet

    config = compose([f"model={model}"])
    random = np.random.default_rng(0)
    image = torch.from_numpy(random.integers(0, 256, (count, 1, 30, 40), np.uint8))
    label = torch.arange(count) % CLASSES
    names = tuple(f"{number:02d}" for number in range(CLASSES))
    network, clock = build(config.model, Alphabet(names), config.data), Clock()
    batches = Batches(image, label, config.data.batch_size, 0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=2 if count < 100_000 else 1,
        accelerator="cpu",
        callbacks=[clock],
        enable_checkpointing=False,
        **quiet,
    )
    trainer.fit(network, batches)
    return clock.seconds, clock.start


def prepare(count: int) -> tuple[float, float]:
    """Seconds to read and decode a folder of pictures, and no cold start."""
    from PIL import Image

    from hwr import data
    from hwr.config import compose

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root, rows = Path(folder), ["image,label"]
        for number in range(count):
            name = f"{number}.png"
            picture = np.kron(random.integers(0, 256, (45, 60), np.uint8), np.ones((5, 5), "uint8"))
            Image.fromarray(picture).save(root / name, compress_level=1)
            rows.append(f"{name},{number % CLASSES}")
        (root / "table.csv").write_text("\n".join(rows))
        config = compose(["data=folder", f"data.root={root}", f"data.cache={root / 'cache'}"]).data
        started = time.perf_counter()
        data.load(config)
        return time.perf_counter() - started, math.nan


def measure(what: str, count: int) -> dict[str, object]:
    """One figure, in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(count), str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, start, peak = json.loads(done.stdout.splitlines()[-1])
    started = "" if math.isnan(start) else round(start, 1)
    values = (what, count, round(seconds, 3), round(1e6 * seconds / count, 1), started, round(peak))
    return dict(zip(COLUMNS, values, strict=True))


def plot(rows: list[dict[str, object]], file: Path) -> None:
    """Seconds and peak memory over the number of pictures; dotted: proportional growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("seconds", "peak_mib"), strict=True):
        for what in dict.fromkeys(row["what"] for row in rows):
            points = [(row["pictures"], row[column]) for row in rows if row["what"] == what]
            (line,) = axes.loglog(*zip(*points, strict=True), marker="o", label=what)
            (first, value), (last, _) = points[0], points[-1]
            straight = [value, value * last / first]
            axes.loglog([first, last], straight, ":", color=line.get_color(), alpha=0.6)
        axes.set_xlabel("pictures")
        axes.set_ylabel({"seconds": "seconds", "peak_mib": "peak memory, MiB"}[column])
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(file)


def main() -> None:
    """Measure, print a Markdown table, and write CSV and PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quick check of the benchmark")
    parser.add_argument("--out", type=Path, default=Path("outputs/scaling"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, count, launched = arguments.one[0], int(arguments.one[1]), float(arguments.one[2])
        took = prepare(count) if what == "prepare" else fit(what.split()[1], count, launched)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(json.dumps([*took, peak]))
        return
    fits, prepared = (SMALL_FIT, SMALL_PREPARE) if arguments.small else (FIT, PREPARE)
    todo = [(f"fit {model}", count) for model in ("mlp", "cnn") for count in fits]
    todo += [("prepare", count) for count in prepared]
    rows = []
    print("| what | pictures | seconds | µs a picture | cold start, s | peak MiB |")
    print("|---|---|---|---|---|---|")
    for what, count in todo:
        rows.append(measure(what, count))
        print(f"| {' | '.join(str(value) for value in rows[-1].values())} |", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "scaling.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    plot(rows, arguments.out / "scaling.png")


if __name__ == "__main__":
    main()
