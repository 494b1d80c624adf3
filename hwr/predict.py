"""load(path) -> Recognizer: a checkpoint, a forest or an export that reads pictures."""

import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwr import images, paper
from hwr.alphabet import Alphabet
from hwr.errors import DataError, RunError
from hwr.frame import Frame, fit
from hwr.pictures import each, open_picture

BATCH = 256
Placing = Literal["auto", "as_is"]


@dataclass(frozen=True)
class Prediction:
    """What a picture was read as.

    Attributes:
        character: The most probable class.
        probability: Its probability, 0 to 1.
        top: The most probable classes and their probabilities, best first.
    """

    character: str
    probability: float
    top: tuple[tuple[str, float], ...] = field(repr=False)

    def __repr__(self) -> str:
        others = ", ".join(f"{name!r} {share:.1%}" for name, share in self.top[1:])
        return f"<{self.character!r} {self.probability:.1%}{'; ' if others else ''}{others}>"


@dataclass(frozen=True, repr=False)
class Recognizer:
    """Reads pictures with a trained model.

    Pictures are paths, Pillow images, NumPy arrays (H, W), (H, W, 3) or (H, W, 4) or torch tensors
    (H, W), (C, H, W) of numbers from 0 to 255 or floats from 0 to 1, bytes, or open files; one, or
    any iterable of them, which is read in batches, in constant memory.

    Attributes:
        alphabet: The classes.
        size: Height and width of the arrays that the model takes.
        preprocessing: How a picture becomes an array.
        model: The network, the forest, or the session that does the work.
        frame: How ink lies in the training set, None if that is not known.
        about: What the file says of the training, plain values.
    """

    alphabet: Alphabet
    size: tuple[int, int]
    preprocessing: str
    model: Any
    frame: Frame | None
    about: dict[str, Any]
    _scores: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"<Recognizer: {type(self.model).__name__}, {len(self.alphabet)} classes, "
            f"{self.preprocessing!r} arrays of {height} x {width}>"
        )

    def prepare(self, picture: Any, frame: Placing = "auto") -> NDArray[np.uint8]:
        """The array (H, W) that the model is given for a picture, 0 black to 255 white.

        Args:
            picture: One picture.
            frame: `auto` settles polarity and paper, and puts the ink where the training set has
                it; `as_is` takes the picture as it comes.

        Raises:
            DataError: It is no picture, or a broken one.
        """
        if frame not in ("auto", "as_is"):
            raise DataError(f"frame={frame!r} must be 'auto' or 'as_is'")
        grey = open_picture(picture)
        if frame == "auto":
            grey = paper.settle(grey)
            if self.frame is not None:
                return fit(grey, self.frame, self.preprocessing, *self.size)
        return images.PREPARE[self.preprocessing](grey, *self.size)

    def probabilities(self, pictures: Any, frame: Placing = "auto") -> NDArray[np.float32]:
        """Probability of each class for each picture, shape (N, C).

        Raises:
            DataError: A picture is none; the message says which.
        """
        found = list(self._batches(pictures, frame))
        return np.concatenate(found) if found else np.empty((0, len(self.alphabet)), np.float32)

    def predict(self, pictures: Any, top: int = 3, frame: Placing = "auto") -> list[Prediction]:
        """What each picture is read as, in order.

        Args:
            pictures: One picture or many.
            top: How many of the most probable classes a prediction names.
            frame: As for `prepare`.

        Raises:
            DataError: A picture is none; the message says which.
        """
        return [
            row for batch in self._batches(pictures, frame) for row in self.predictions(batch, top)
        ]

    def read(self, picture: Any, frame: Placing = "auto") -> str:
        """The class of one picture.

        Raises:
            DataError: It is no picture, or a broken one.
        """
        return self.predict(picture, 1, frame)[0].character

    def predictions(self, scores: NDArray[np.float32], top: int = 3) -> Iterator[Prediction]:
        """What probabilities (N, C) say."""
        if top < 1:
            raise DataError(f"top={top} must be at least 1")
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        for row, best in zip(scores, order, strict=True):
            named = tuple((self.alphabet.names[k], float(row[k])) for k in best)
            yield Prediction(*named[0], named)

    def scores(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (N, C) of prepared arrays (N, H, W)."""
        return self._scores(images.scale(arrays)[:, None])

    def _batches(self, pictures: Any, frame: Placing) -> Iterator[NDArray[np.float32]]:
        rest = iter(each(pictures))
        number = 0
        with ThreadPoolExecutor() as pool:
            while batch := list(itertools.islice(rest, BATCH)):
                if len(batch) == 1:
                    arrays = [self._numbered(number, batch[0], frame)]
                else:
                    numbers = range(number, number + len(batch))
                    arrays = list(pool.map(self._numbered, numbers, batch, [frame] * len(batch)))
                number += len(batch)
                yield self.scores(np.stack(arrays))

    def _numbered(self, number: int, picture: Any, frame: Placing) -> NDArray[np.uint8]:
        try:
            return self.prepare(picture, frame)
        except DataError as error:
            raise DataError(f"picture {number}: {error}") from error


def load(path: str | os.PathLike[str], device: str = "cpu", by: str | None = None) -> Recognizer:
    """A recogniser from whatever a run has left.

    Args:
        path: A run folder, a checkpoint, a forest's file, an ONNX file, or a folder of runs.
        device: Where a network works, as torch names it.
        by: For a folder of runs: the validation figure that chooses, such as `val/acc`.

    Raises:
        RunError: There is none, it is broken or not to be trusted, or the choice is no fair one.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        place = _run_file(place, by)
    elif by is not None:
        raise RunError(f"by={by!r} chooses among runs, but {place} is a file")
    if not place.is_file():
        raise RunError(f"no run folder or file {place}")
    with place.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            forest = "schema.json" in archive.namelist()
        try:
            return _from_forest(place) if forest else _from_checkpoint(place, device)
        except ImportError as error:  # installed without what only training needs
            raise RunError(f"{place} needs {error.name}, which is not installed") from error
    if start[:1] in (b"\x08", b"\x0a", b"\x12", b"\x3a"):  # fields of an ONNX file
        return _from_onnx(place)
    raise RunError(f"{place} is no checkpoint, forest or ONNX file of hwr")


def _run_file(folder: Path, by: str | None) -> Path:
    """The file to load from a run folder, or from the best run below a folder."""
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "forest.skops"):
        if (folder / name).is_file():
            return folder / name
    runs = sorted(file.parent for file in folder.rglob("metrics.json"))
    if not runs:
        raise RunError(f"{folder} holds no run")
    if by is None:
        raise RunError(
            f"{folder} holds {len(runs)} runs; choose by a validation figure: by='val/acc'"
        )
    if not by.startswith("val/"):
        raise RunError(f"by={by!r} is no validation figure; choose by one, such as by='val/acc'")
    found: list[tuple[float, Path]] = []
    for run in runs:
        figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        if figures.get("val_is_test"):
            raise RunError(f"{run} was validated on its test split, so nothing may be chosen by it")
        if by in figures:
            found.append((figures[by] * (-1 if by.endswith("loss") else 1), run))
    if not found:
        raise RunError(f"no run in {folder} has {by}")
    return _run_file(max(found, key=lambda pair: pair[0])[1], None)


def _from_checkpoint(path: Path, device: str) -> Recognizer:
    import torch

    from hwr import checkpoint

    saved = checkpoint.read(path)
    try:
        model = checkpoint.network(path, saved).to(device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found = model(torch.from_numpy(image).to(device)).softmax(1)
        return np.asarray(found.cpu())

    card = {"frame": None, "about": {}, **saved, **saved["hyper_parameters"]}
    return _recognizer(path, card, model, scores)


def _from_forest(path: Path) -> Recognizer:
    from hwr.forestfile import load_forest

    trees, card = load_forest(path)

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.zeros((len(image), len(card["alphabet"])), np.float32)
        share[:, trees.classes_] = trees.predict_proba(image.reshape(len(image), -1))
        return share

    return _recognizer(path, card, trees, scores)


def _from_onnx(path: Path) -> Recognizer:
    try:
        import onnxruntime
    except ImportError as error:
        raise RunError(f"{path} needs onnxruntime: pip install 'hwr[onnx]'") from error
    try:
        options = onnxruntime.SessionOptions()
        # Weights in other files would be looked for in this folder, which can't exist.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.absolute() / "none")
        )
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        card = json.loads(session.get_modelmeta().custom_metadata_map["hwr"])
    except Exception as error:  # onnxruntime has kinds of its own, without a common one
        raise RunError(f"{path} is no ONNX file of hwr-export") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        (found,) = session.run(None, {"image": image})
        return np.asarray(found)

    return _recognizer(path, card, session, scores)


def _recognizer(
    path: Path,
    card: dict[str, Any],
    model: Any,
    scores: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Recognizer:
    """A recogniser from what a file says of itself."""
    try:
        height, width = card["size"]
        images.PREPARE[card["preprocessing"]]
        return Recognizer(
            alphabet=Alphabet(tuple(card["alphabet"])),
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
