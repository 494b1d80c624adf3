"""Write Markdown tables for TensorBoard's text tab; class names cannot break them."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from hwr.charset import Charset
from hwr.errors import printable

PACKAGES = ("hwr", "torch", "torchvision", "pytorch-lightning", "scikit-learn", "numpy")
MAX_CLASSES = 200


def code(text: str, length: int = 24) -> str:
    """Quote text as code in a table, whatever it is made of, cut off at a length."""
    short = printable(text) if len(text) <= length else f"{printable(text)[: length - 1]}…"
    return "`{}`".format(short.replace("|", "¦").replace("`", "'"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table; text from outside must have been through `code`."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def settings(config: Mapping[str, Any]) -> str:
    """Format settings as a block of YAML."""
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())


def environment() -> str:
    """List the versions, the processor and the GPUs."""
    rows = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            rows[package] = version(package)
        except PackageNotFoundError:  # hwr from a checkout
            continue
    rows["system"] = platform.platform()
    rows["processor"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
    rows["GPUs"] = ", ".join(gpus) or "none"
    return table(("name", "value"), ((name, code(value, 100)) for name, value in rows.items()))


def confused(label: NDArray[np.int64], prediction: NDArray[np.int64], charset: Charset) -> str:
    """List the fifteen most confused pairs of classes.

    Args:
        label: Shape (N,).
        prediction: Shape (N,).
        charset: The classes.
    """
    wrong = prediction != label
    pairs = Counter(zip(label[wrong].tolist(), prediction[wrong].tolist(), strict=True))
    if not pairs:
        return "All test images were predicted correctly."
    total = np.bincount(label, minlength=len(charset))
    rows = [
        (code(charset.names[true]), code(charset.names[other]), count, f"{count / total[true]:.0%}")
        for (true, other), count in pairs.most_common(15)
    ]
    return table(("true", "predicted", "times", "share of the class"), rows)


def per_class(label: NDArray[np.int64], prediction: NDArray[np.int64], charset: Charset) -> str:
    """List precision, recall, F1 and number of images of each class that occurs.

    Arguments as in `confused`. With more than two hundred classes those with the lowest F1 are
    listed.
    """
    present = np.unique(label)
    metrics = precision_recall_fscore_support(label, prediction, labels=present, zero_division=0)
    order = np.arange(len(present))
    if len(present) > MAX_CLASSES:
        order = np.argsort(metrics[2], kind="stable")[:MAX_CLASSES]
    rows = [
        (code(charset.names[present[row]]), *(f"{part[row]:.3f}" for part in metrics[:3]), count)
        for row, count in zip(order, metrics[3][order], strict=True)
    ]
    means = (f"{part.mean():.3f}" for part in metrics[:3])
    note = f"\n\nThe {MAX_CLASSES} classes with the lowest F1." if len(order) < len(present) else ""
    head = ("class", "precision", "recall", "F1", "images")
    return table(head, [("**mean**", *means, len(label)), *rows]) + note
