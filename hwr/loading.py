"""load(path) -> Recognizer: from whatever a run has left; nothing in a file is executed."""

import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr import images
from hwr.alphabet import Alphabet
from hwr.errors import MOST_PIXELS, RunError
from hwr.files import expanded
from hwr.frame import Frame
from hwr.onnxfile import load_onnx
from hwr.predict import Recognizer

FILES = (
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "best.ckpt",
    "last.ckpt",
    "forest.skops",
    "model.onnx",
)
"""What is loaded from a run folder, the first that is there."""
PIXELS, PICTURES = 2**20, 64
"""What a network is given at a time: so many pixels, all views counted, but no fewer pictures."""


def load(path: str | os.PathLike[str], device: str = "cpu", by: str | None = None) -> Recognizer:
    """A recogniser from whatever a run has left.

    With a network, memory that the process frees is kept for the next batch; see `hwr.memory`.

    Args:
        path: A run folder, a checkpoint, a forest's file, an ONNX file, or a folder of runs.
        device: Where a network works, as torch names it.
        by: For a folder of runs: the validation figure that chooses, such as `val/acc`.

    Raises:
        RunError: There is none, it is broken or not to be trusted, or the choice is no fair one.
    """
    place = expanded(path)
    if os.path.isdir(place):  # pathlib raises where a name is too long
        place = _chosen(place, by)
    elif by is not None:
        raise RunError(f"by={by!r} chooses among runs, but {place} is a file")
    if not os.path.isfile(place):
        raise RunError(f"no run folder or file {place}")
    try:
        with place.open("rb") as file:
            start = file.read(4)
        forest = False
        if network := start[:2] == b"PK" and zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:
                forest = "schema.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{place} cannot be read: {error}") from error
    if device != "cpu" and (forest or not network):
        raise RunError(f"device={device!r} is for checkpoints; {place} is read on the CPU")
    try:
        if network:
            return _from_forest(place) if forest else _from_checkpoint(place, device)
    except ImportError as error:  # installed without what only training needs
        raise RunError(f"{place} needs {error.name}, which is not installed") from error
    if start[:1] in (b"\x08", b"\x0a", b"\x12", b"\x3a"):  # fields of an ONNX file
        session, card, scores = load_onnx(place)
        return _recognizer(place, card, session, scores)
    raise RunError(f"{place} is no checkpoint, forest or ONNX file of hwr")


def _chosen(folder: Path, by: str | None) -> Path:
    """The file to load from a run folder, or from the best run below a folder."""
    if file := _file_of(folder):
        if by is not None:
            raise RunError(f"by={by!r} chooses among runs, but {folder} is one run; leave it out")
        return file
    runs = sorted(file.parent for file in folder.rglob("metrics.json"))
    if not runs:
        raise RunError(f"{folder} holds no run")
    if by is None:
        count = "a run" if len(runs) == 1 else f"{len(runs)} runs"
        raise RunError(f"{folder} holds {count}; choose by a validation figure: by='val/acc'")
    if not str(by).startswith("val/"):
        raise RunError(f"by={by!r} is no validation figure; choose by one, such as by='val/acc'")
    found: list[tuple[float, Path]] = []
    data = set()
    for run in runs:
        try:
            figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            unfair, figure = figures["val_is_test"], float(figures.get(by, math.nan))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(f"{run}/metrics.json is damaged; nothing was chosen") from error
        if unfair:
            raise RunError(f"{run} was validated on its test split, so nothing may be chosen by it")
        if math.isfinite(figure):
            found.append((-figure if by == "val/loss" else figure, run))
            data.add(figures.get("data_fingerprint"))
    if len(data) > 1:
        raise RunError(f"the runs in {folder} are of different data sets, so {by} can't choose")
    if not found:
        raise RunError(f"no run in {folder} has {by}")
    best = max(found, key=lambda pair: pair[0])[1]
    file = _file_of(best)
    if file is None:
        raise RunError(f"{best} has the best {by}, but no model in it")
    return file


def _file_of(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def logits(network: Any, image: Any) -> Any:
    """Logits (N, C) of any number of images (N, 1, H, W), each read alone, in inference mode."""
    import torch

    each = image.shape[1:].numel() * (1 + network.views)
    with torch.inference_mode():
        return torch.cat([network(part) for part in image.split(max(PICTURES, PIXELS // each))])


def _from_checkpoint(path: Path, device: str) -> Recognizer:
    import torch

    from hwr import checkpoint, memory

    memory.keep()
    saved = checkpoint.read(path)
    model = checkpoint.network(path, saved)
    try:
        model = model.to(device)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise RunError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(logits(model, torch.from_numpy(image).to(device)).softmax(1).cpu())

    def together(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            seen = model.look(model.viewed(torch.from_numpy(image).to(device)))  # type: ignore[operator]
            found = model.relate(*seen, torch.zeros(len(image), device=device))  # type: ignore[operator]
        return np.asarray(found.softmax(1).cpu())

    told = {"frame": saved.get("frame"), "about": saved.get("about", {})}
    made = _recognizer(path, {**saved["hyper_parameters"], **told}, model, scores)
    return dataclasses.replace(made, _together=together if hasattr(model, "relate") else None)


def _from_forest(path: Path) -> Recognizer:
    from hwr.forestfile import load_forest

    trees, card = load_forest(path)

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.zeros((len(image), len(card["alphabet"])), np.float32)
        share[:, trees.classes_] = trees.predict_proba(image.reshape(len(image), -1))
        return share

    return _recognizer(path, card, trees, scores)


def _recognizer(
    path: Path,
    card: dict[str, Any],
    model: Any,
    scores: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Recognizer:
    """A recogniser from what a file says of itself, tried on an empty sheet."""
    try:
        height, width = card["size"]
        names = tuple(card["alphabet"])
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError("class names")
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            raise ValueError("size")
        images.PREPARE[card["preprocessing"]]
        made = Recognizer(
            alphabet=Alphabet(names),
            size=(height, width),
            preprocessing=card["preprocessing"],
            model=model,
            frame=Frame.from_plain(card["frame"]),
            about=dict(card["about"]),
            _scores=scores,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} does not say how it reads pictures; another version of hwr may have written it"
        ) from error
    try:
        found = made.scores(np.full((1, height, width), 255, np.uint8))
        fits = found.shape == (1, len(names)) and abs(float(found.sum()) - 1) < 1e-3
    except Exception as error:  # of torch, onnxruntime or scikit-learn, when sizes don't fit
        raise RunError(f"{path} does not fit its own settings") from error
    if not fits:
        raise RunError(f"{path} gives no probabilities of its {len(names)} classes")
    return made
