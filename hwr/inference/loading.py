"""Load a recognizer from a run folder, checkpoint, ONNX file or forest."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.charset import Charset
from hwr.errors import RunError
from hwr.files import expand_user
from hwr.inference.onnxfile import load_onnx
from hwr.inference.recognizer import ContextScores, Recognizer, Scores
from hwr.preprocessing.preprocessor import Preprocessor

FILES = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "forest.skops", "model.onnx")
"""Files of a run folder; the first one that exists is loaded."""
MAX_INPUT = 4_000_000
"""Largest number of values in an image of the size that a file asks for."""


def load(
    path: str | os.PathLike[str],
    device: str = "cpu",
    by: str | None = None,
    trust: Sequence[str] = (),
) -> Recognizer:
    """Load a recognizer from a run, checkpoint, forest or ONNX file. Never unpickles code.

    Args:
        path: A run folder, a checkpoint, a forest's file (`.skops`), an ONNX file (`.onnx`), or a
            folder of runs.
        device: Where a network works, as torch names it.
        by: For a folder of runs: the validation metric that chooses, such as `val/acc`.
        trust: Packages whose model classes a checkpoint may use, such as `["my_pkg"]`.

    Raises:
        RunError: The file is missing, broken or not trusted, or no fair choice is possible.
    """
    file = model_file(expand_user(path) if by is None else _best_run(expand_user(path), by))
    if device != "cpu" and file.suffix in (".skops", ".onnx"):
        raise RunError(f"device={device!r} is for checkpoints; {file} runs on the CPU")
    try:
        if file.suffix == ".onnx":
            recognizer = _from_onnx(file)
        elif file.suffix == ".skops":
            recognizer = _from_forest(file)
        else:
            recognizer = _from_checkpoint(file, device, trust)
    except ImportError as error:  # installed without what only training needs
        raise RunError(f"{file} needs {error.name}, which is not installed") from error
    return replace(recognizer, source=(file.absolute(), device, None, trust))


def model_file(path: Path) -> Path:
    """Return the model's file in a run folder; a file's path stays as it is.

    Raises:
        RunError: There is none.
    """
    files = [path / name for name in FILES] if os.path.isdir(path) else [path]
    for file in files:
        if os.path.isfile(file):  # pathlib raises where a name is too long
            return file
    if len(files) == 1:
        raise RunError(f"no run folder or file {path}")
    raise RunError(
        f"{path} holds none of {', '.join(FILES)}; "
        "of a folder of runs, choose one by a validation metric: by='val/acc'"
    )


def _best_run(folder: Path, by: str) -> Path:
    """Return the best run below a folder by a validation metric."""
    from hwr.runs import records  # brings PyYAML, which a deployment needn't have

    if not by.startswith("val/"):
        raise RunError(f"by={by!r} is not a validation metric; choose by one, such as by='val/acc'")
    runs: dict[Path, dict[str, Any]] = {}
    for file in folder.rglob("metrics.json"):
        record = records.read(file.parent)
        metrics = record.metrics or {} if record else {}
        if metrics.get("val_is_test"):
            raise RunError(f"{file.parent} was validated on its test split; choose among others")
        if math.isfinite(metrics.get(by, math.nan)) and not metrics.get("partial"):
            runs[file.parent] = metrics
    if not runs:
        raise RunError(f"no run in {folder} has {by}")
    if len({metrics.get("data_fingerprint") for metrics in runs.values()}) > 1:
        raise RunError(f"the runs in {folder} are of different datasets, so {by} can't choose")
    choose = min if by == "val/loss" else max
    return choose(runs, key=lambda run: runs[run][by])


def _from_checkpoint(path: Path, device: str, trust: Sequence[str]) -> Recognizer:
    import torch

    from hwr.inference import checkpoint, writer_context

    saved = checkpoint.read(path)
    model = checkpoint.network(path, saved, trust)
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error
    process = os.getpid()

    def on_device(image: NDArray[np.float32]) -> torch.Tensor:
        if os.getpid() != process:  # after a fork, torch would wait for threads of the parent
            torch.set_num_threads(1)
        return torch.from_numpy(image).to(device)

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(checkpoint.logits(model, on_device(image)).softmax(1).cpu())

    def context_scores(image: NDArray[np.float32], group: NDArray[np.int64]) -> NDArray[np.float32]:
        embedded = writer_context.embed(model, on_device(image))
        return np.asarray(writer_context.relate(model, embedded, group).softmax(1).cpu())

    card = saved["hwr"]
    if "epoch" in saved:
        card = {**card, "about": {**card["about"], "epochs": saved["epoch"] + 1}}
    return _recognizer(
        path, model, card, scores, context_scores if hasattr(model, "relate") else None
    )


def _from_onnx(path: Path) -> Recognizer:
    model, card = load_onnx(path)
    return _recognizer(path, model, card, model)


def _from_forest(path: Path) -> Recognizer:
    from hwr.inference.forestfile import load_forest

    trees, card = load_forest(path)

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.zeros((len(image), len(card["charset"])), np.float32)
        share[:, trees.classes_] = trees.predict_proba(image.reshape(len(image), -1))
        return share

    return _recognizer(path, trees, card, scores)


def _recognizer(
    path: Path,
    model: Any,
    card: dict[str, Any],
    scores: Scores,
    context_scores: ContextScores | None = None,
) -> Recognizer:
    """Make a recognizer from what a file says of itself, and try it on a white image."""
    try:
        height, width, channels = card["height"], card["width"], card["channels"]
        if height * width * channels > MAX_INPUT:
            raise ValueError(f"images of {height} x {width} are too large")
        statistics = card["image_statistics"]
        preprocessor = Preprocessor.of(card["preprocessing"], height, width, channels, statistics)
        charset = Charset(tuple(card["charset"]))
        about = dict(card["about"])
        recognizer = Recognizer(charset, preprocessor, model, about, scores, context_scores)
        probability = recognizer.probabilities(np.full((9, 9), 255, np.uint8))
        if probability.shape != (1, len(charset)) or not abs(probability.sum() - 1) < 1e-3:
            raise ValueError(f"it gives no probabilities of its {len(charset)} classes")
    except Exception as error:  # of torch, onnxruntime or scikit-learn, when sizes don't fit
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path} does not fit its own settings ({reason}); was it written by this hwr version?"
        ) from error
    return recognizer
