"""Preparing the real set, cold and warm, against the notebook's own loop, in turn in one process.

Needs the real set (HWR_DATA, else data/english).  python benchmarks/prepare.py [--rounds 3]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hwr import data
from hwr.config import compose


def notebook(root: Path) -> np.ndarray:
    """The notebook's loop."""
    table = pd.read_csv(root / "english.csv")
    arrays = []
    for name in table["image"]:
        arrays.append(np.asarray(Image.open(root / name).convert("L").resize((40, 30))))
    return np.array(arrays)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    root = Path(compose().data.root)
    times = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            config = compose([f"data.cache={cache}"]).data
            theirs = seconds(partial(notebook, root))
            cold, warm = (seconds(partial(data.load, config)) for _ in range(2))
        times.append((theirs, cold, warm))
        print(
            f"notebook {theirs:.2f} s, cold {cold:.2f} s ({cold / theirs:.2f}), warm {warm:.2f} s"
        )
    ratio = statistics.median(cold / theirs for theirs, cold, _ in times)
    warm = statistics.median(warm for _, _, warm in times)
    print(f"median: cold {ratio:.2f} x the notebook's loop, warm {warm:.2f} s")


if __name__ == "__main__":
    main()
