"""Load a recognizer from a run folder, checkpoint, ONNX file or forest."""

import json
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.charset import Charset
from hwr.errors import MOST_PIXELS, RunError
from hwr.files import expand_user
from hwr.inference.onnxfile import load_onnx
from hwr.inference.recognizer import ContextScores, Recognizer, Scores
from hwr.preprocessing import images
from hwr.preprocessing.frame import Frame

FILES = (
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "best.ckpt",
    "last.ckpt",
    "forest.skops",
    "model.onnx",
)
"""Files of a run folder; the first one that exists is loaded."""
PIXELS, IMAGES = 2**17, 64
"""A batch for a network: so many pixels, tta copies counted, but no fewer images."""


def load(
    path: str | os.PathLike[str],
    device: str = "cpu",
    by: str | None = None,
    trust: Sequence[str] = (),
) -> Recognizer:
    """Load a recognizer from a run, checkpoint, forest or ONNX file.

    Code in the file is never executed, and classes outside of hwr are used only if their package
    is trusted.

    Args:
        path: A run folder, a checkpoint, a forest's file, an ONNX file, or a folder of runs.
        device: Where a network works, as torch names it.
        by: For a folder of runs: the validation metric that chooses, such as `val/acc`.
        trust: Packages whose model classes a checkpoint may use, such as `["my_pkg"]`.

    Raises:
        RunError: The file is missing, broken or not trusted, or no fair choice is possible.
    """
    place = expand_user(path)
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
        if zipped := start[:2] == b"PK" and zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:
                forest = "schema.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{place} cannot be read: {error}") from error
    if device != "cpu" and (forest or not zipped):
        raise RunError(f"device={device!r} is for checkpoints; {place} runs on the CPU")
    try:
        if zipped:
            return _from_forest(place) if forest else _from_checkpoint(place, device, trust)
    except ImportError as error:  # installed without what only training needs
        raise RunError(f"{place} needs {error.name}, which is not installed") from error
    if start[:1] in (b"\x08", b"\x0a", b"\x12", b"\x3a"):  # fields of an ONNX file
        session, card, scores = load_onnx(place)
        return _recognizer(place, card, session, scores)
    raise RunError(f"{place} is not a checkpoint, forest or ONNX file of hwr")


def _chosen(folder: Path, by: str | None) -> Path:
    """Return the file to load from a run folder, or from the best run below a folder."""
    if file := _file_of(folder):
        if by is not None:
            raise RunError(f"by={by!r} chooses among runs, but {folder} is one run; leave it out")
        return file
    runs = sorted(file.parent for file in folder.rglob("metrics.json"))
    if not runs:
        raise RunError(f"{folder} holds no run")
    if by is None:
        count = "a run" if len(runs) == 1 else f"{len(runs)} runs"
        raise RunError(f"{folder} holds {count}; choose by a validation metric: by='val/acc'")
    if not str(by).startswith("val/"):
        raise RunError(f"by={by!r} is not a validation metric; choose by one, such as by='val/acc'")
    found: list[tuple[float, Path]] = []
    data = set()
    for run in runs:
        try:
            metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            unfair, value = metrics["val_is_test"], float(metrics.get(by, math.nan))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(f"{run}/metrics.json is damaged; nothing was chosen") from error
        if unfair:
            raise RunError(f"{run} was validated on its test split, so nothing may be chosen by it")
        if math.isfinite(value) and not metrics.get("partial"):
            found.append((-value if by == "val/loss" else value, run))
            data.add(metrics.get("data_fingerprint"))
    if len(data) > 1:
        raise RunError(f"the runs in {folder} are of different datasets, so {by} can't choose")
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
    """Return logits (N, classes) of any number of images (N, C, H, W), in inference mode."""
    import torch

    pixels = image.shape[1:].numel() * (1 + getattr(network, "tta", 0))
    parts = torch.split(image, max(IMAGES, PIXELS // pixels))
    with torch.inference_mode():
        return torch.cat([network(part) for part in parts])


def _from_checkpoint(path: Path, device: str, trust: Sequence[str]) -> Recognizer:
    import torch

    from hwr.inference import checkpoint, writer_context

    saved = checkpoint.read(path)
    model = checkpoint.network(path, saved, trust)
    try:
        model = model.to(device)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise RunError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(logits(model, torch.from_numpy(image).to(device)).softmax(1).cpu())

    def context_scores(image: NDArray[np.float32], group: NDArray[np.int64]) -> NDArray[np.float32]:
        embedded = writer_context.embed(model, torch.from_numpy(image).to(device))
        return np.asarray(writer_context.relate(model, embedded, group).softmax(1).cpu())

    has_context = all(hasattr(model, name) for name in ("embed", "augmented", "relate"))
    card = dict(saved["hwr"])
    if isinstance(card.get("about"), dict) and isinstance(saved.get("epoch"), int):
        card["about"] = {**card["about"], "epochs": saved["epoch"] + 1}
    return _recognizer(path, card, model, scores, context_scores if has_context else None)


def _from_forest(path: Path) -> Recognizer:
    from hwr.inference.forestfile import load_forest

    trees, card = load_forest(path)

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.zeros((len(image), len(card["charset"])), np.float32)
        share[:, trees.classes_] = trees.predict_proba(image.reshape(len(image), -1))
        return share

    return _recognizer(path, card, trees, scores)


def _recognizer(
    path: Path,
    card: dict[str, Any],
    model: Any,
    scores: Scores,
    context_scores: ContextScores | None = None,
) -> Recognizer:
    """Make a recognizer from what a file says of itself, and try it on a white image."""
    try:
        names, size = tuple(card["charset"]), (card["height"], card["width"])
        channels, preprocessing = card["channels"], card["preprocessing"]
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError("class names")
        if min(size) < 1 or math.prod(size) > MOST_PIXELS or channels not in (1, 3):
            raise ValueError("size")
        if preprocessing not in images.PREPARE or (channels == 3 and preprocessing != "notebook"):
            raise ValueError("preprocessing")
        recognizer = Recognizer(
            charset=Charset(names),
            size=size,
            preprocessing=preprocessing,
            model=model,
            frame=Frame.from_plain(card["frame"]),
            about=dict(card["about"]),
            _scores=scores,
            _context_scores=context_scores,
            channels=channels,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} does not say how images are prepared for it; another version of hwr may have "
            "written it"
        ) from error
    try:
        found = scores(np.ones((1, channels, *size), np.float32))
        fits = found.shape == (1, len(names)) and abs(float(found.sum()) - 1) < 1e-3
    except Exception as error:  # of torch, onnxruntime or scikit-learn, when sizes don't fit
        raise RunError(f"{path} does not fit its own settings") from error
    if not fits:
        raise RunError(f"{path} gives no probabilities of its {len(names)} classes")
    return recognizer
