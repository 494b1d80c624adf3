"""What the report of a run costs: report=full against report=none, in turn in one process.

Prints what it adds to the fit and after it, and the size of the events. Processor time counts, on
one thread, and the median of the ratios: the machine may be shared.  python benchmarks/report.py
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import hwr.train as train_module
from hwr.config import compose


def measure(settings: list[str]) -> dict[str, float]:
    """Seconds of processor time of the fit and after it, and megabytes of what was written."""
    seconds: dict[str, float] = {}
    fit = train_module._fit

    def timed(*arguments: Any) -> None:
        started = time.process_time()
        fit(*arguments)
        seconds["fit"] = time.process_time() - started
        seconds["after"] = time.process_time()

    train_module._fit = timed
    try:
        with tempfile.TemporaryDirectory() as name:
            train_module.train(compose(settings), Path(name))
            seconds["after"] = time.process_time() - seconds["after"]
            for kind in ("events", "projector/"):
                files = Path(name).glob(f"{kind}*")
                seconds[kind] = sum(file.stat().st_size for file in files) / 1e6
    finally:
        train_module._fit = fit
    return seconds


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="such as data=synthetic")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = ["experiment=notebook_cnn", f"trainer.max_epochs={arguments.epochs}"]
    settings += arguments.settings
    pairs = [
        (measure([*settings, "report=full"]), measure([*settings, "report=none"]))
        for _ in range(arguments.rounds + 1)
    ][1:]  # the first round warms up
    ratios = [full["fit"] / none["fit"] for full, none in pairs]
    after = [full["after"] - none["after"] for full, none in pairs]
    found = {
        "fit_ratio": statistics.median(ratios),
        "fit_ratios": [round(ratio, 3) for ratio in sorted(ratios)],
        "seconds_after_fit": statistics.median(after),
        "event_megabytes": pairs[0][0]["events"],
        "projector_megabytes": pairs[0][0]["projector/"],
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
