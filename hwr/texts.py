"""What TensorBoard says of a run in words: Markdown, in which any class name is harmless."""

import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from hwr.alphabet import Alphabet
from hwr.data import Characters
from hwr.errors import printable
from hwr.modelcard import cell
from hwr.schema import DataConfig
from hwr.split import Split

PACKAGES = (
    *("hwr", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "scikit-learn"),
    *("numpy", "hydra-core", "tensorboard"),
)
MOST_CLASSES = 200


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells that come from outside must have been through `cell`."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def block(text: str) -> str:
    """Text as it stands, in a block of code."""
    lines = (printable(line) for line in text.splitlines())
    return "\n".join(f"    {line}" for line in lines)


def settings(config: dict[str, Any]) -> str:
    """The composed settings."""
    return block(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def command() -> str:
    """What was typed, and the command for this run alone."""
    program = Path(sys.argv[0]).name
    if not HydraConfig.initialized():
        return f"Called from Python, by {cell(program)}."
    typed = shlex.join([program, *sys.argv[1:]])
    alone = shlex.join([program, *HydraConfig.get().overrides.task])
    return f"What was typed:\n\n{block(typed)}\n\nThis run alone:\n\n{block(alone)}"


def environment(commit: str | None) -> str:
    """Versions, processor, graphics cards and git commit."""
    rows = [("commit", commit or "none: an installed wheel"), ("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            continue
    rows += [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("processor", f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"),
    ]
    cards = [torch.cuda.get_device_name(card) for card in range(torch.cuda.device_count())]
    rows.append(("graphics", ", ".join(cards) or "none"))
    return table(("what", "which"), ((name, cell(value, 100)) for name, value in rows))


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def data(config: DataConfig, characters: Characters, parts: Split) -> str:
    """Which pictures, how many for what, and their fingerprint."""
    writers = "unknown"
    if characters.writer is not None:
        writers = f"{len(np.unique(characters.writer)):,}"
    rows = [
        ("data set", cell(config.name)),
        ("fingerprint", cell(characters.fingerprint, 64)),
        ("pictures", f"{len(characters.label):,} of {config.height} x {config.width} pixels"),
        ("classes", f"{len(characters.alphabet):,}"),
        ("writers", writers),
        ("training", f"{len(parts.train):,}"),
        ("validation", f"{len(parts.val):,}"),
        ("test", f"{len(parts.test):,}"),
    ]
    return table(("what", "which"), rows)


def confused(label: NDArray[np.int64], guess: NDArray[np.int64], alphabet: Alphabet) -> str:
    """The fifteen most confused pairs of classes; labels and predictions have shape (N,)."""
    wrong = guess != label
    pairs = Counter(zip(label[wrong].tolist(), guess[wrong].tolist(), strict=True))
    if not pairs:
        return "No test picture was read wrongly."
    total = np.bincount(label, minlength=len(alphabet))
    rows = [
        (cell(alphabet.names[one]), cell(alphabet.names[other]), count, f"{count / total[one]:.0%}")
        for (one, other), count in pairs.most_common(15)
    ]
    return table(("is", "read as", "times", "share of the class"), rows)


def report(label: NDArray[np.int64], guess: NDArray[np.int64], alphabet: Alphabet) -> str:
    """Precision, recall, F1 and number of test pictures of each class, and their means.

    Of more than two hundred classes those with the lowest F1 are listed.
    """
    classes = np.arange(len(alphabet))
    scores = precision_recall_fscore_support(label, guess, labels=classes, zero_division=0)
    support = scores[3]
    present = np.flatnonzero(support)
    listed = present
    if many := len(present) > MOST_CLASSES:
        listed = present[np.argsort(scores[2][present], kind="stable")][:MOST_CLASSES]
    rows = [
        (cell(alphabet.names[row]), *(f"{part[row]:.3f}" for part in scores[:3]), support[row])
        for row in listed
    ]
    means: list[tuple[object, ...]] = []
    for name, weight in (("mean of classes", None), ("weighted by pictures", support[present])):
        averages = (np.average(part[present], weights=weight) for part in scores[:3])
        means.append((f"**{name}**", *(f"{value:.3f}" for value in averages), support.sum()))
    note = f"\n\nThe {MOST_CLASSES} classes with the lowest F1." if many else ""
    head = ("class", "precision", "recall", "F1", "pictures")
    return table(head, [*means, *rows]) + note
