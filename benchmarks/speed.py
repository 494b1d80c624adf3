"""Compare the time of fits and inference with Keras and plain PyTorch, and measure peak memory.

Each side runs in a process of its own, and the sides take turns in being first. The table shows
medians over the rounds; a ratio is of two times of one round, since the machine may be shared. Run
it on an idle machine with the real dataset (HWR_DATA):

    python benchmarks/speed.py [--keras PYTHON] [--rows ROW ...] [--rounds 3] [--out FOLDER]

PYTHON is an interpreter with tensorflow-cpu, pandas, pillow and scikit-learn; `make bench` creates
one. Without it, only the times of hwr stand in the rows against Keras. FOLDER gets speed.json and
speed.md after every round. `--small` checks quickly that the benchmark works.
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
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("hwr-train"))
EPOCHS = {"cnn": 30, "mlp": 200}
ARRAYS = 10_000
ROWS = {
    "cnn-plain": (
        "notebook CNN, 30 epochs, validation and logging",
        "plain PyTorch loop, channels-last, same batches",
        "1.15",
    ),
    "cnn-keras": ("notebook CNN, 30 epochs, validation and logging", "Keras `fit`", "0.80"),
    "mlp-plain": ("notebook MLP, 200 epochs", "plain PyTorch loop, fused Adam", "2.4"),
    "mlp-keras": ("notebook MLP, 200 epochs", "Keras `fit`", "0.45"),
    "onnx": ("inference of 10,000 arrays, CNN, ONNX Runtime", "Keras `predict`", "1.0"),
    "command": ("`hwr-train experiment=notebook_cnn`, start to end", "Keras script", ""),
    "memory": ("peak memory of `notebook_cnn`", "", "1,300 MB"),
}
"""What each row measures, against what, and the largest ratio or value that is wanted."""
FROM_COMMAND = {"cnn": {"cnn-keras", "onnx", "command", "memory"}, "mlp": {"mlp-keras"}}
"""Rows that are taken from a run of hwr-train and of the Keras script."""
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "onnxruntime")
WARM_CACHE = "import hwr, hwr.data; hwr.data.load_dataset(hwr.compose().data)"


def run_process(command: Sequence[str], folder: Path) -> tuple[float, float, dict[str, Any]]:
    """Run a command in a folder.

    Returns:
        Wall time in seconds, peak memory in megabytes, and the JSON of its last line, if any.
    """
    files = [(folder / name).open("w+") for name in ("stdout.txt", "stderr.txt")]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=files[0], stderr=files[1], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read())
        file.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {texts[1]}")
    last = texts[0].splitlines()[-1:]
    values = json.loads(last[0]) if last and last[0].startswith("{") else {}
    return seconds, usage.ru_maxrss * 1024 / 1e6, values  # KiB on Linux


def in_turn(turn: int, sides: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all sides, the last one first in odd turns; return their results in the given order."""
    order = range(len(sides))[:: -1 if turn % 2 else 1]
    results = {index: sides[index]() for index in order}
    return [results[index] for index in range(len(sides))]


def fit_hwr(model: str, epochs: int) -> float:
    """Fit a notebook network as hwr-train does; return seconds, after a fit that warms up."""
    import hwr
    from hwr.training.train import train

    def fit(epochs: int) -> float:
        config = hwr.compose([f"experiment=notebook_{model}", f"trainer.max_epochs={epochs}"])
        with tempfile.TemporaryDirectory() as folder:
            return float(train(config, Path(folder))["fit_seconds"])

    fit(1)
    return fit(epochs)


def fit_plain(model: str, epochs: int) -> float:
    """Fit the same network in a loop as short as one can write; return seconds, after a warm-up."""
    import torch
    from torch.nn import functional

    import hwr
    from hwr import models
    from hwr.data import load_dataset, load_split
    from hwr.training.optimizers import KerasRMSprop

    config = hwr.compose([f"experiment=notebook_{model}"])
    dataset = load_dataset(config.data)
    names = dataset.charset.names
    parts = load_split(config.split).split(dataset.labels.numpy(), dataset.writers, names)
    scaled = dataset.images / 255
    image, label = scaled[parts.train], dataset.labels[parts.train]
    test_image, test_label = scaled[parts.test], dataset.labels[parts.test]
    # Once Lightning is imported, torch asks for a GPU at every step of its fused Adam.
    assert "pytorch_lightning" not in sys.modules

    def fit(epochs: int) -> float:
        network: torch.nn.Module
        optimizer: torch.optim.Optimizer
        if model == "cnn":
            network = models.CNN(len(names)).to(memory_format=torch.channels_last)
            optimizer = KerasRMSprop(network.parameters(), lr=5e-4)
        else:
            network = models.MLP(len(names))
            optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, eps=1e-7, fused=True)
        started = time.perf_counter()
        for _ in range(epochs):
            network.train()
            for rows in torch.randperm(len(label)).split(config.data.batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(network(image[rows]), label[rows]).backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                logits = network(test_image)
                functional.cross_entropy(logits, test_label).item()
                (logits.argmax(1) == test_label).float().mean().item()
        return time.perf_counter() - started

    fit(1)
    return fit(epochs)


def predict_onnx(run: str, count: int) -> float:
    """Predict the dataset's arrays, repeated, with the ONNX file of a run; return seconds."""
    import numpy as np

    import hwr
    from hwr.data import load_dataset
    from hwr.inference.export import export

    images = load_dataset(hwr.compose().data).images[:, 0].numpy()
    arrays = np.resize(images, (count, *images.shape[1:]))
    file = Path(run) / "model.onnx"
    export(Path(run), file)
    recognizer = hwr.load(file)
    recognizer.predict(arrays, normalize="as_is")  # warms up
    times = []
    for _ in range(3):
        started = time.perf_counter()
        recognizer.predict(arrays, normalize="as_is")
        times.append(time.perf_counter() - started)
    return statistics.median(times)


PARTS: dict[str, Callable[..., float]] = {
    "fit_hwr": fit_hwr,
    "fit_plain": fit_plain,
    "predict_onnx": predict_onnx,
}
"""What this script measures in a process of its own, by `--part NAME ARGUMENT NUMBER`."""


def run_part(name: str, argument: str, number: int) -> float:
    """Call a function of PARTS in a process of its own."""
    command = [sys.executable, str(HERE / "speed.py"), "--part", name, argument, str(number)]
    with tempfile.TemporaryDirectory() as folder:
        return float(run_process(command, Path(folder))[2]["seconds"])


def compare_with_plain(model: str, epochs: int, turn: int) -> dict[str, Any]:
    """Measure a fit by hwr and the plain loop."""
    sides = [lambda name=name: run_part(name, model, epochs) for name in ("fit_hwr", "fit_plain")]
    return {f"{model}-plain": in_turn(turn, sides)}


def compare_with_keras(
    model: str, epochs: int, arrays: int, keras: Path | None, turn: int
) -> dict[str, Any]:
    """Measure a run of hwr-train and, where there is Keras, of its script."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        settings = [f"experiment=notebook_{model}", f"trainer.max_epochs={epochs}"]
        commands = [[COMMAND, *settings, f"hydra.run.dir={run}"]]
        if keras:
            script, root = str(HERE / "notebook_keras.py"), os.environ["HWR_DATA"]
            commands.append([str(keras), script, model, root, str(epochs), str(arrays)])
        sides = [lambda command=command: run_process(command, folder) for command in commands]
        (seconds, memory, _), *others = in_turn(turn, sides)
        theirs = others[0][2] if others else {}
        metrics = json.loads((run / "metrics.json").read_text())
        found: dict[str, Any] = {
            "commit": metrics["git_commit"],
            f"{model}-keras": [metrics["fit_seconds"], theirs.get("fit")],
            f"{model} accuracy": [metrics["test/acc"], theirs.get("accuracy")],
        }
        if model == "cnn":
            # The time in which the script predicts arrays is no part of the notebook.
            whole_script = others[0][0] - theirs["after"] if others else None
            found["command"] = [seconds, whole_script]
            found["memory"] = [memory, None]
        if arrays:
            found["onnx"] = [run_part("predict_onnx", str(run), arrays), theirs.get("predict")]
    return found


def measure_round(rows: set[str], keras: Path | None, small: bool, turn: int) -> dict[str, Any]:
    """Measure the chosen rows once: the value of hwr and that of the other side, or None."""
    found: dict[str, Any] = {}
    for model, epochs in EPOCHS.items():
        if f"{model}-plain" in rows:
            found |= compare_with_plain(model, 1 if small else epochs, turn)
        if chosen := rows & FROM_COMMAND[model]:
            few = small or chosen == {"onnx"}  # its time doesn't depend on the weights
            arrays = (100 if small else ARRAYS) if "onnx" in chosen else 0
            found |= compare_with_keras(model, 1 if few else epochs, arrays, keras, turn)
    return found


def table(rows: Sequence[str], rounds: Sequence[dict[str, Any]]) -> list[str]:
    """Format medians, ratios, and the smallest and largest ratio, in Markdown."""
    lines = ["| what | hwr | against | time | ratio | at most |", "|---|---|---|---|---|---|"]
    for name in rows:
        what, against, bound = ROWS[name]
        pairs = [values[name] for values in rounds]
        median = statistics.median(pair[0] for pair in pairs)
        unit, digits = ("MB", 0) if name == "memory" else ("s", 3 if median < 1 else 2)
        time_of_other = ratio = ""
        if pairs[0][1] is not None:
            ratios = sorted(pair[0] / pair[1] for pair in pairs)
            time_of_other = f"{statistics.median(pair[1] for pair in pairs):.{digits}f} s"
            ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        value = f"{median:,.{digits}f} {unit}"
        lines.append(f"| {what} | {value} | {against} | {time_of_other} | {ratio} | {bound} |")
    return lines


def describe_machine(keras: Path | None) -> dict[str, str]:
    """Name processor and versions.

    Nothing large is imported for it: the peak memory of a process counts that of its parent.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processors = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    found = {
        "processor": processors[0] if processors else platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
    if keras:
        code = "import keras, tensorflow; print(keras.__version__, tensorflow.__version__)"
        done = subprocess.run([keras, "-c", code], capture_output=True, text=True, check=True)
        found["Keras, TensorFlow"] = done.stdout.strip()
    return found


def main() -> None:
    """Measure, print a Markdown table, and write it with all values as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--keras", type=Path, metavar="PYTHON", help="has tensorflow-cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/speed"), metavar="FOLDER")
    parser.add_argument("--small", action="store_true", help="a quick check of the benchmark")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        name, argument, number = arguments.part
        print(json.dumps({"seconds": PARTS[name](argument, int(number))}))
        return
    import hwr

    keras, out = arguments.keras and arguments.keras.absolute(), arguments.out.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), hwr.compose().data
        root = Path(data.root).expanduser().absolute()
        if arguments.small:
            root = folder / "drawn"
            draw = str(Path(sys.executable).with_name("hwr-data"))
            run_process([draw, "draw", str(root), "--writers", "4"], folder)
        if not (root / "english.csv").is_file():
            raise SystemExit(f"no english.csv in {root}; HWR_DATA names the folder of the dataset")
        # The processes work in other folders, and start with the dataset decoded.
        cache = Path(data.cache).expanduser().absolute()
        os.environ |= {"HWR_DATA": str(root), "HWR_CACHE": str(cache)}
        run_process([sys.executable, "-c", WARM_CACHE], folder)
        machine, rounds = describe_machine(keras), []
        out.mkdir(parents=True, exist_ok=True)
        for turn in range(1 if arguments.small else arguments.rounds):
            chosen = set(arguments.rows)
            rounds.append(measure_round(chosen, keras, arguments.small, turn))
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
            text = json.dumps({"machine": machine, "rounds": rounds}, indent=2)
            (out / "speed.json").write_text(text + "\n", encoding="utf-8")
            where = ", ".join(f"{name} {value}" for name, value in machine.items())
            lines = [where, "", *table(arguments.rows, rounds)]
            (out / "speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
