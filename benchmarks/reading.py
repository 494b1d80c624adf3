"""Measure how fast a run is loaded and predicts: medians in milliseconds.

python benchmarks/reading.py RUN [--forest FOREST] [--image IMAGE] [--rounds 5]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import hwr
from hwr.data import synthetic
from hwr.inference import export


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median wall time of a call, after a first one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def process(code: str, rounds: int) -> float:
    """Return the median wall time of an interpreter that runs this code, start and end included."""
    command = [sys.executable, "-c", code]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True), rounds)


def timed(before: str, code: str, rounds: int) -> float:
    """Return the median wall time of the code alone, in fresh interpreters that ran `before`."""
    clock = f"{before}\nimport time\nt=time.perf_counter()\n{code}\nprint(time.perf_counter()-t)"
    command = [sys.executable, "-c", clock]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds + 1)
    ]
    return statistics.median(times[1:])


def main() -> None:
    """Measure, print a Markdown table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a network's run folder")
    parser.add_argument("--forest", type=Path, help="a forest's run folder")
    parser.add_argument("--image", type=Path, help="an image of 1200 x 900; default: drawn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run, rounds = arguments.run.resolve(), arguments.rounds
    recognizer = hwr.load(run)
    prepare = recognizer.preprocessor
    drawn = [one for writer in range(1, 15) for one in synthetic.draw_images(writer, 0)][:853]
    arrays = np.stack([prepare(one) for one in drawn])
    with tempfile.TemporaryDirectory() as folder:
        image, onnx = arguments.image or Path(folder, "a.png"), Path(folder, "model.onnx")
        if not arguments.image:
            drawn[10].convert("RGB").save(image)
        export.export(run, onnx)
        exported = hwr.load(onnx)
        many = 20 * rounds
        rows = {
            "import hwr": timed("", "import hwr", rounds),
            "load a network's run, torch imported": timed(
                "import torch", f"import hwr; hwr.load({str(run)!r})", rounds
            ),
            "one array": seconds(lambda: recognizer.read(arrays[0], normalize="as_is"), many),
            "one array, normalized": seconds(lambda: recognizer.read(arrays[0]), many),
            "one PNG of 1200 x 900": seconds(lambda: recognizer.read(image), many),
            "853 arrays": seconds(lambda: recognizer.predict(arrays, normalize="as_is"), rounds),
            "853 arrays, normalized": seconds(lambda: recognizer.predict(arrays), rounds),
            "one array, ONNX": seconds(lambda: exported.read(arrays[0], normalize="as_is"), many),
            "853 arrays, ONNX": seconds(
                lambda: exported.predict(arrays, normalize="as_is"), rounds
            ),
            "a process that loads ONNX and predicts a PNG": process(
                f"import hwr; hwr.load({str(onnx)!r}).read({str(image)!r})", rounds
            ),
        }
    if arguments.forest:
        forest = str(arguments.forest.resolve())
        code = f"import hwr; hwr.load({forest!r})"
        rows["load a forest's run, torch imported"] = timed("import torch", code, rounds)
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}\n")
    print("| what | ms |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {1000 * value:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
