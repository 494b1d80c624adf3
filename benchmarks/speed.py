"""How fast this is beside what people would use instead: Keras, plain PyTorch, the peak.

Both sides run in turn, several times, most in processes of their own; medians of the ratios of a
round count, since the machine may be shared. Run it on an idle one, with the real set (HWR_DATA):

    python benchmarks/speed.py [--rounds 3] [--keras PYTHON] [--out FOLDER] [--small]

PYTHON is an interpreter that has tensorflow-cpu, pandas, pillow and scikit-learn; `make bench`
makes one. FOLDER gets speed.json and speed.md after every round.
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
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
EPOCHS = {"cnn": 30, "mlp": 200}
PLAIN_EPOCHS = {"cnn": 4, "mlp": 60}
READ = 10_000
LOAD = """
import sys
from hwr import data
from hwr.config import compose
data.load(compose(sys.argv[1:]).data)
"""
ROWS = {
    "cnn fit": ("notebook CNN, 30 epochs with validation and logging", "Keras", "0.6"),
    "mlp fit": ("notebook MLP, 200 epochs", "Keras", "0.32"),
    "cnn plain": ("notebook CNN", "plain PyTorch loop, channels-last", "1.10"),
    "mlp plain": ("notebook MLP", "plain PyTorch loop, fused Adam", "2.0"),
    "cnn peak": (
        "notebook CNN, forward and backward",
        "matrix product at the FLOPs of torch's layers",
        "1.6",
    ),
    "prepare cold": ("preparing the pictures, cold", "the notebook's loop", "0.6"),
    "prepare warm": ("the same, warm", "", "0.5 s"),
    "forest": ("forest, fit and predict", "the notebook's call", "0.6"),
    "cnn whole": ("`hwr-train experiment=notebook_cnn`, start to end", "Keras script", "0.65"),
    "read torch": ("reading 10,000 arrays of the pictures, CNN, torch", "Keras `predict`", "0.7"),
    "read onnx": ("reading 10,000 arrays of the pictures, CNN, ONNX", "Keras `predict`", "0.7"),
    "read settled": ("reading them settled first, torch", "Keras `predict`, as they are", "0.7"),
    "read noise": ("reading 10,000 arrays of noise, torch", "Keras `predict` of pictures", "0.7"),
    "read onnx noise": ("reading 10,000 arrays of noise, ONNX", "likewise", "0.7"),
    "cnn memory": ("peak memory of `notebook_cnn`", "", "1,200 MB"),
    "prepare memory": ("peak memory of preparing, cold", "", "600 MB"),
}
"""What is measured, against what, and the most that it may be."""
OURS = ("torch", "pytorch-lightning", "numpy", "pillow", "scikit-learn", "numba", "onnxruntime")
"""Whose versions are told."""


def process(command: list[str], folder: Path) -> tuple[float, float, dict[str, Any]]:
    """Run a command: its wall seconds, peak megabytes, and the JSON of its last line if any."""
    with (folder / "said.txt").open("w+") as said, (folder / "wrong.txt").open("w+") as wrong:
        started = time.perf_counter()
        running = subprocess.Popen(command, stdout=said, stderr=wrong, cwd=folder)
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - started
        running.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        last = said.read().splitlines()[-1:]
        wrong.seek(0)
        why = wrong.read()
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}: {why}")
    found = json.loads(last[0]) if last and last[0].startswith("{") else {}
    return seconds, usage.ru_maxrss * 1024 / 1e6, found  # KiB on Linux


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(
    turn: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> tuple[float, float]:
    """Wall times of both, in odd turns ours first."""
    took = {work: seconds(work) for work in ((ours, theirs) if turn % 2 else (theirs, ours))}
    return took[ours], took[theirs]


def plain(model: str, epochs: int, side: str) -> dict[str, float]:
    """Fit by hwr-train, or by the least loop that one would write by hand; numba has compiled."""
    import torch
    from torch.nn import functional

    from hwr.config import compose
    from hwr.datamodule import CharacterData
    from hwr.optim import KerasRMSprop
    from hwr.train import build, train

    config = compose([f"experiment=notebook_{model}", f"trainer.max_epochs={epochs}"])
    data = CharacterData(config.data, config.split, config.seed)
    image, label = data.characters.image, data.label
    train_rows, test_rows = (torch.from_numpy(rows) for rows in (data.parts.train, data.parts.test))
    scaled = torch.from_numpy(image)[:, None] / 255
    (image, label), (test, test_label) = (
        (scaled[rows], label[rows]) for rows in (train_rows, test_rows)
    )

    def loop() -> None:
        ours = build(config.model, data.alphabet, config.data).network
        network = torch.nn.Sequential(*stock(ours))
        optimiser: torch.optim.Optimizer
        if model == "mlp":
            optimiser = torch.optim.Adam(network.parameters(), lr=5e-4, eps=1e-7, fused=True)
        else:
            network = network.to(memory_format=torch.channels_last)
            optimiser = KerasRMSprop(network.parameters(), lr=5e-4)
        for _ in range(epochs):
            network.train()
            for rows in torch.randperm(len(label)).split(32):
                optimiser.zero_grad()
                functional.cross_entropy(network(image[rows]), label[rows]).backward()
                optimiser.step()
            network.eval()
            with torch.no_grad():
                logits = network(test)
                float(functional.cross_entropy(logits, test_label))
                float((logits.argmax(1) == test_label).float().mean())

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            found: float = train(config, Path(folder))["fit_seconds"]
            return found

    fit = ours if side == "ours" else lambda: seconds(loop)
    fit()  # warms up
    return {side: fit()}


def stock(network: Any) -> list[Any]:
    """A network's layers as torch has them, without ours and the order they are called in."""
    from torch import nn

    parts = [part if isinstance(part, nn.Sequential) else [part] for part in network.children()]
    layers = [layer for part in parts for layer in part]
    return [nn.Dropout(one.p) if isinstance(one, nn.Dropout) else one for one in layers]


def peak() -> dict[str, Any]:
    """A training step of the CNN, and how long its FLOPs take where all are of one product."""
    import torch
    from torch.nn import functional
    from torch.utils.flop_counter import FlopCounterMode

    from hwr.networks.cnn import CNNNetwork

    network = CNNNetwork(62, (30, 40), 0.25, 0.5).train()
    image, label = torch.rand(32, 1, 30, 40), torch.arange(32)

    def step(network: torch.nn.Module = network) -> None:
        network.zero_grad()
        functional.cross_entropy(network(image), label).backward()

    with FlopCounterMode(display=False) as counter:  # zeros are counted, which ours leaves out
        step(torch.nn.Sequential(*stock(network)))
    one, other = torch.rand(2048, 2048), torch.rand(2048, 2048)
    times = [(seconds(step), seconds(lambda: torch.mm(one, other))) for _ in range(60)][10:]
    mine, product = (statistics.median(column) for column in zip(*times, strict=True))
    flops, rate = counter.get_total_flops(), 2 * 2048**3 / product
    return {"cnn peak": (mine, flops / rate), "GFLOP": flops / 1e9, "GFLOP/s": rate / 1e9}


def prepare(turn: int) -> dict[str, tuple[float, float]]:
    """The notebook's loop, ours without a cache, and with one."""
    import pandas as pd
    from PIL import Image

    from hwr import data
    from hwr.config import compose

    def notebook() -> None:
        root = Path(config.root)
        table = pd.read_csv(root / "english.csv")
        arrays = []
        for name in table["image"]:
            picture = Image.open(root / name).convert("L").resize((40, 30))
            arrays.append(np.asarray(picture))
        np.array(arrays)

    def ours() -> None:
        data._kept.clear()
        data.load(config)

    with tempfile.TemporaryDirectory() as cache:
        config = compose([f"data.cache={cache}"]).data
        cold, warm = in_turn(turn, ours, notebook), seconds(ours)
    return {"prepare cold": cold, "prepare warm": (warm, 1)}


def forest(turn: int) -> dict[str, tuple[float, float]]:
    """Fit 200 trees and read the test pictures; the accuracy is the same.

    The notebook's call reads them twice, for the classes and for their probabilities.
    """
    from sklearn.ensemble import RandomForestClassifier

    from hwr.config import compose
    from hwr.datamodule import CharacterData
    from hwr.forest import fitted

    config = compose([], "forest")
    data = CharacterData(config.data, config.split)
    flat = data.characters.image.reshape(len(data.label), -1) / np.float32(255)
    label, rows = data.characters.label, data.parts
    right = []

    def ours() -> None:
        trees = fitted(config, flat[rows.train], label[rows.train])
        best = trees.classes_[trees.predict_proba(flat[rows.test]).argmax(1)]
        right.append((best == label[rows.test]).mean())

    def notebook() -> None:
        trees = RandomForestClassifier(200, random_state=0)
        trees.fit(flat[rows.train], label[rows.train])
        right.append((trees.predict(flat[rows.test]) == label[rows.test]).mean())
        trees.predict_proba(flat[rows.test])

    times = in_turn(turn, ours, notebook)
    assert right[0] == right[1], right
    return {"forest": times}


def read(run: str, count: int) -> dict[str, float]:
    """Read the set's arrays, again and again, by a run and its ONNX file, and noise.

    Of one call alone, a fifth may be Python's garbage collection, which walks all of torch.
    """
    import hwr
    from hwr import data, export
    from hwr.config import compose

    image = data.load(compose().data).image
    arrays = np.resize(image, (count, *image.shape[1:]))
    noise = np.random.default_rng(0).integers(0, 256, arrays.shape, np.uint8)
    file = Path(run) / "model.onnx"
    export.export(Path(run), file)
    torch, onnx = hwr.load(run), hwr.load(file)
    found = {}
    for name, recognizer, many, frame in (
        ("torch", torch, arrays, "as_is"),
        ("settled", torch, arrays, "auto"),
        ("noise", torch, noise, "as_is"),
        ("onnx", onnx, arrays, "as_is"),
        ("onnx noise", onnx, noise, "as_is"),
    ):
        work = partial(recognizer.predict, many, frame=frame)
        work()
        found[name] = statistics.median(seconds(work) for _ in range(3))
    return found


def one_round(keras: Path | None, small: bool, turn: int) -> dict[str, Any]:
    """Every figure once, a pair where there are two sides; who is first takes turns."""
    found: dict[str, Any] = {}
    me = [sys.executable, str(HERE / "speed.py"), "--one"]
    count = 100 if small else READ
    for model, epochs in EPOCHS.items():
        epochs = 1 if small else epochs
        reads = count if model == "cnn" else 0
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words = [f"experiment=notebook_{model}", f"trainer.max_epochs={epochs}"]
            words.append(f"hydra.run.dir={folder / 'run'}")
            sides = [[str(Path(sys.executable).with_name("hwr-train")), *words]]
            if keras:
                script = str(HERE / "notebook_keras.py")
                root = os.environ["HWR_DATA"]
                sides.append([str(keras), script, model, root, str(epochs), str(reads)])
            took = {}
            for who in range(len(sides))[:: 1 if turn % 2 else -1]:
                took[who] = process(sides[who], folder)
            metrics = json.loads((folder / "run/metrics.json").read_text())
            found["commit"] = metrics["git_commit"]
            theirs = took[1][2] if keras else {}
            found[f"{model} fit"] = (metrics["fit_seconds"], theirs.get("fit"))
            found[f"{model} accuracy"] = (metrics["test/acc"], theirs.get("accuracy"))
            if model == "cnn":
                whole = took[1][0] - theirs["after"] if keras else None
                found["cnn whole"] = (took[0][0], whole)
                found["cnn memory"] = (took[0][1], 1)
                mine = process([*me, "read", str(folder / "run"), str(count)], folder)[2]
                for kind, value in mine.items():
                    found[f"read {kind}"] = (value, theirs.get("read"))
            many = "1" if small else str(PLAIN_EPOCHS[model])
            fits: dict[str, float] = {}
            for side in ("ours", "theirs")[:: 1 if turn % 2 else -1]:
                fits |= process([*me, "plain", model, many, side], folder)[2]
            found[f"{model} plain"] = (fits["ours"], fits["theirs"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found |= process([*me, "peak"], folder)[2]
        found |= process([*me, "prepare", str(turn)], folder)[2]
        found |= process([*me, "forest", str(turn)], folder)[2]
        cold = process([sys.executable, "-c", LOAD, "data.cache=cache"], folder)
        found["prepare memory"] = (cold[1], 1)
    return found


def table(rounds: list[dict[str, Any]]) -> list[str]:
    """Medians, ratios and their spread, in Markdown."""
    lines = ["| what | ours | against | theirs | ratio | at most |", "|---|---|---|---|---|---|"]
    for name, (what, against, most) in ROWS.items():
        pairs = [one[name] for one in rounds]
        mine = statistics.median(pair[0] for pair in pairs)
        unit, digits = ("MB", 0) if name.endswith("memory") else ("s", 3 if mine < 1 else 2)
        theirs = ratio = ""
        if against and pairs[0][1]:
            ratios = sorted(pair[0] / pair[1] for pair in pairs)
            theirs = f"{statistics.median(pair[1] for pair in pairs):.{digits}f} {unit}"
            ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        lines.append(
            f"| {what} | {mine:.{digits}f} {unit} | {against} | {theirs} | {ratio} | {most} |"
        )
    return lines


def machine(keras: Path | None) -> dict[str, str]:
    """Where it ran. Nothing large is imported here: peaks of processes count their parent's."""
    cpu = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = cpu[0] if cpu else platform.machine()
    found = {"processor": processor, "cores": str(os.cpu_count())}
    found["python"] = platform.python_version()
    found |= {name: version(name) for name in OURS}
    if keras:
        code = (
            "import keras, tensorflow as t; print(keras.__version__, 'TensorFlow', t.__version__)"
        )
        said = subprocess.run([keras, "-c", code], capture_output=True, text=True, check=True)
        found["Keras"] = said.stdout.strip()
    return found


ONE: dict[str, Callable[..., dict[str, Any]]] = {
    "plain": lambda model, epochs, side: plain(model, int(epochs), side),
    "peak": peak,
    "prepare": lambda turn: prepare(int(turn)),
    "forest": lambda turn: forest(int(turn)),
    "read": lambda run, count: read(run, int(count)),
}


def main() -> None:
    """Measure, print a Markdown table, and write it with all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keras", type=Path, metavar="PYTHON", help="has tensorflow-cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/speed"), metavar="FOLDER")
    parser.add_argument("--small", action="store_true", help="a quick check of the benchmark")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(ONE[arguments.one[0]](*arguments.one[1:])))
        return
    from hwr.config import compose
    from hwr.files import whole

    keras, out = arguments.keras and arguments.keras.absolute(), arguments.out.absolute()
    with tempfile.TemporaryDirectory() as folder:
        config = compose().data
        root = Path(config.root).absolute()
        if arguments.small:
            root = Path(folder, "drawn")
            draw = str(Path(sys.executable).with_name("hwr-data"))
            process([draw, "draw", str(root), "--writers", "4"], Path(folder))
        if not (root / "english.csv").is_file():
            raise SystemExit(f"no english.csv in {root}: HWR_DATA names the real set's folder")
        # Every process finds the same, wherever it works.
        cache = Path(config.cache).expanduser().absolute()
        os.environ |= {"HWR_DATA": str(root), "HWR_CACHE": str(cache)}
        where, rounds = machine(keras), []
        process([sys.executable, "-c", LOAD], Path(folder))  # the cache is warm from here on
        for turn in range(1 if arguments.small else arguments.rounds):
            rounds.append(one_round(keras, arguments.small, turn))
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
            text = json.dumps({"machine": where, "rounds": rounds}, indent=2)
            said = ", ".join(f"{name} {value}" for name, value in where.items())
            lines = [said, "", *table(rounds)]
            for name, content in (("speed.md", "\n".join(lines)), ("speed.json", text)):
                with whole(out / name) as beside:
                    beside.write_text(content + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
