"""Measure fit time, cold start, decoding and peak memory as a dataset grows to a million images.

The notebook's MLP and CNN fit random 40 x 30 arrays of 62 classes, without validation; decoding
reads random PNG files without a cache. Cold start is the time from the launch of a process to its
first batch, imports and the making of the random arrays included. Each size is measured in a
process of its own, since peak memory is that of a process. Run it on an idle machine:

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
from typing import Any

import numpy as np

FIT, SMALL_FIT = (3_410, 34_100, 341_000, 1_000_000), (310, 620)
DECODE, SMALL_DECODE = (3_410, 34_100), (310, 620)
CLASSES = 62
COLUMNS = ("what", "images", "seconds", "microseconds_an_image", "start_seconds", "peak_mib")


def fit(model: str, count: int, launched: float) -> tuple[float, float]:
    """Fit random arrays.

    Args:
        model: `mlp` or `cnn`.
        count: Number of arrays.
        launched: Time at which the process was launched, in seconds since 1970.

    Returns:
        Seconds of the last epoch (the second one; of a large dataset, the first), and seconds from
        the launch to the first batch.
    """
    from pytorch_lightning import Callback, Trainer

    import hwr
    from hwr.data import CharacterDataset, Split
    from hwr.training.memory import keep_freed_memory

    warnings.simplefilter("ignore")  # that there is no validation, and the like
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    keep_freed_memory()

    class Clock(Callback):
        def on_train_start(self, *_: object) -> None:
            self.start = time.time() - launched

        def on_train_epoch_start(self, *_: object) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            self.seconds = time.perf_counter() - self.started

    class TrainOnAll:
        def split(self, labels: Any, writers: Any, names: Any) -> Split:
            rows = np.arange(len(labels))
            return Split(train=rows, val=rows[:0], test=rows[:0])

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 1, 30, 40), np.uint8)
    labels = [f"{number % CLASSES:02d}" for number in range(count)]
    dataset = CharacterDataset("random", images, labels, fingerprint="none")
    data = hwr.CharacterDataModule(dataset, TrainOnAll())
    clock, kind = Clock(), {"mlp": hwr.MLP, "cnn": hwr.CNN}[model]
    trainer = Trainer(
        max_epochs=2 if count < 100_000 else 1,
        accelerator="cpu",
        callbacks=[clock],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(kind(dataset.charset), datamodule=data)
    return clock.seconds, clock.start


def decode(count: int) -> tuple[float, float]:
    """Load a folder of PNG files; return seconds, and NaN for the cold start."""
    from PIL import Image

    from hwr.data import FolderDataset

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root, rows = Path(folder), ["image,label"]
        for number in range(count):
            name = f"{number}.png"
            image = np.kron(random.integers(0, 256, (45, 60), np.uint8), np.ones((5, 5), "uint8"))
            Image.fromarray(image).save(root / name, compress_level=1)
            rows.append(f"{name},{number % CLASSES}")
        (root / "table.csv").write_text("\n".join(rows))
        started = time.perf_counter()
        FolderDataset("random", root, cache=str(root / "cache"))
        return time.perf_counter() - started, math.nan


def measure(what: str, count: int) -> dict[str, object]:
    """Measure one size in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(count), str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, start, peak = json.loads(done.stdout.splitlines()[-1])
    started = "" if math.isnan(start) else round(start, 1)
    values = (what, count, round(seconds, 3), round(1e6 * seconds / count, 1), started, round(peak))
    return dict(zip(COLUMNS, values, strict=True))


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Plot seconds and peak memory over the number of images; dotted: proportional growth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    names = {"seconds": "seconds", "peak_mib": "peak memory, MiB"}
    for axes, (column, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for what in dict.fromkeys(row["what"] for row in rows):
            points = [(row["images"], row[column]) for row in rows if row["what"] == what]
            (line,) = axes.loglog(*zip(*points, strict=True), marker="o", label=what)
            (first, value), (last, _) = points[0], points[-1]
            proportional = [value, value * last / first]
            axes.loglog([first, last], proportional, ":", color=line.get_color(), alpha=0.6)
        axes.set_xlabel("images")
        axes.set_ylabel(name)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(file)


def main() -> None:
    """Measure, print a Markdown table, and write CSV and PNG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quick check of the benchmark")
    parser.add_argument("--out", type=Path, default=Path("outputs/scaling"), metavar="FOLDER")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, count, launched = arguments.one[0], int(arguments.one[1]), float(arguments.one[2])
        times = decode(count) if what == "decode" else fit(what.split()[1], count, launched)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(json.dumps([*times, peak]))
        return
    fits, decoded = (SMALL_FIT, SMALL_DECODE) if arguments.small else (FIT, DECODE)
    todo = [(f"fit {model}", count) for model in ("mlp", "cnn") for count in fits]
    todo += [("decode", count) for count in decoded]
    rows: list[dict[str, Any]] = []
    print("| what | images | seconds | µs an image | cold start, s | peak MiB |")
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
