"""Recognize images with a trained or exported model."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.charset import Charset
from hwr.errors import DataError
from hwr.preprocessing.decode import as_iterable, open_image
from hwr.preprocessing.preprocessor import Normalize, Preprocessor

BATCH = 128
"""Images that a model takes at a time."""
AHEAD = 8
"""Images that are opened and prepared at a time."""
Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Probabilities (N, classes) of prepared images (N, channels, H, W) from 0 to 1."""
ContextScores = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
"""The same with writer context; the second argument (N,) says which images share a writer."""


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        character: The most probable class.
        probability: Its probability, 0 to 1.
        top: The most probable classes and their probabilities, best first.
    """

    character: str
    probability: float
    top: tuple[tuple[str, float], ...] = field(repr=False)


@dataclass(frozen=True, repr=False, eq=False)
class Recognizer:
    """Recognize images with a trained model.

    Images are paths, Pillow images, bytes, open files, and arrays or tensors of numbers from 0 to
    255 (of 16 bits to 65,535) or floats from 0 to 1; one, or any iterable of them, which is
    processed in batches, in constant memory. One image is an array (H, W), (H, W, 1), (H, W, 3) or
    (H, W, 4), or a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W); of one dimension more they are
    many.

    Attributes:
        charset: The classes.
        preprocessor: Makes the arrays that the model takes.
        model: The network, the forest, or an `OnnxModel`.
        about: What the file says of the training, plain values.
        source: The arguments of `hwr.load`, which a copy in another process is loaded with.
    """

    charset: Charset
    preprocessor: Preprocessor
    model: Any
    about: dict[str, Any]
    _scores: Scores
    _context_scores: ContextScores | None = None
    source: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        from hwr.inference.loading import load

        return load, self.source

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the arrays that the model takes."""
        return self.preprocessor.height, self.preprocessor.width

    @property
    def channels(self) -> int:
        """1 if the model takes gray images, 3 if it takes color."""
        return self.preprocessor.channels

    def __repr__(self) -> str:
        model, (height, width) = type(self.model).__name__, self.size
        kind = f"{self.preprocessor.name} images of {height} x {width} x {self.channels}"
        return f"<Recognizer: {model}, {len(self.charset)} classes, {kind}>"

    def prepare(self, image: Any, normalize: Normalize = "auto") -> NDArray[np.uint8]:
        """Make the array that the model takes from an image.

        Args:
            image: One image.
            normalize: `auto` normalizes polarity and background, and moves and scales the ink to
                where the training set has it; `as_is` takes the image as it comes. Color images
                are always taken as they come.

        Returns:
            Values from 0 (black) to 255 (white), shape (H, W), in color (3, H, W).

        Raises:
            DataError: It isn't an image, or is broken.
        """
        return self.preprocessor(open_image(image, self.channels), normalize)

    def probabilities(
        self, images: Any, normalize: Normalize = "auto", writer: Any = None
    ) -> NDArray[np.float32]:
        """Return the probability of each class for each image, shape (N, classes).

        Args:
            images: One image or many.
            normalize: As for `prepare`.
            writer: As for `predict`.

        Raises:
            DataError: Something isn't an image (the message says which), or `writer` is given
                and the model has no writer context, or names more or fewer writers than images.
        """
        batches = self._batches(images, normalize)
        if writer is not None:
            return self._with_context(list(batches), writer)
        scores = [np.empty((0, len(self.charset)), np.float32), *map(self.scores, batches)]
        return np.concatenate(scores)

    def predict(
        self, images: Any, top: int = 3, normalize: Normalize = "auto", writer: Any = None
    ) -> list[Prediction]:
        """Predict the class of each image, in order.

        Args:
            images: One image or many.
            top: How many of the most probable classes a prediction names, at least 1.
            normalize: As for `prepare`.
            writer: Who wrote: one name or number for all images, or a sequence of one for each.
                Images are then predicted with writer context: size and place of the writer's
                other characters tell upper from lower case. None: each image is predicted alone.

        Raises:
            DataError: As for `probabilities`, or `top` is less than 1.
        """
        if top < 1:
            raise DataError(f"top={top!r} must be at least 1")
        return list(self.predictions(self.probabilities(images, normalize, writer), top))

    def read(self, image: Any, normalize: Normalize = "auto") -> str:
        """Predict the class of one image.

        Raises:
            DataError: It isn't an image, is broken, or there are several.
        """
        predictions = self.predict(image, 1, normalize)
        if len(predictions) != 1:
            raise DataError(f"read takes one image, not {len(predictions)}; predict takes many")
        return predictions[0].character

    def predictions(self, scores: NDArray[np.float32], top: int = 3) -> Iterator[Prediction]:
        """Yield the predictions that probabilities (N, classes) mean."""
        order, names = np.argsort(-scores, axis=1, kind="stable")[:, :top], self.charset.names
        best = np.take_along_axis(scores, order, axis=1)
        for classes, shares in zip(order.tolist(), best.tolist(), strict=True):
            ranked = tuple(zip([names[k] for k in classes], shares, strict=True))
            yield Prediction(*ranked[0], ranked)

    def scores(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (N, classes) of prepared arrays, shape (N, H, W) or (N, 3, H, W)."""
        return self._scores(self._scaled(arrays))

    def prepared(
        self, images: Iterable[Any], normalize: Normalize = "auto"
    ) -> Iterator[NDArray[np.uint8] | DataError]:
        """Yield the array of each image, or why it has none; threads prepare a few at a time."""

        def prepare(image: Any) -> NDArray[np.uint8] | DataError:
            try:
                return self.prepare(image, normalize)
            except DataError as error:
                return error

        rest = iter(images)
        with ThreadPoolExecutor(AHEAD) as pool:
            while some := list(islice(rest, AHEAD)):
                yield from pool.map(prepare, some)

    def _batches(self, images: Any, normalize: Normalize) -> Iterator[NDArray[np.uint8]]:
        """Yield the arrays of images, `BATCH` at a time."""
        images = self._unflattened(images)
        if normalize == "as_is" and self._is_prepared(images):
            yield from (images[start : start + BATCH] for start in range(0, len(images), BATCH))
            return
        batch: list[NDArray[np.uint8]] = []
        for number, array in enumerate(self.prepared(as_iterable(images), normalize)):
            if isinstance(array, DataError):
                raise DataError(f"image {number}: {array}") from array
            batch.append(array)
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    def _unflattened(self, images: Any) -> Any:
        """Reshape flattened gray images (N, H * W) or (H * W,), of a table too.

        Raises:
            DataError: They may as well be one image.
        """
        if hasattr(images, "to_numpy"):  # of pandas
            images = images.to_numpy()
        shape, (height, width) = tuple(getattr(images, "shape", ())), self.size
        if len(shape) not in (1, 2) or shape[-1] != height * width or self.channels != 1:
            return images
        if getattr(images.dtype, "kind", "") in ("O", "U"):  # paths
            return images
        rows = shape[0] if len(shape) == 2 else 0
        aspect = rows * width / height / shape[-1]  # 1 for one image with the model's aspect
        if abs(aspect - 1) < 0.02:
            return images
        if 0.25 < aspect < 4:
            raise DataError(
                f"an array of shape {shape} may be one image or {rows} flattened ones; give "
                f"array[None] for one image, or array.reshape(-1, {height}, {width})"
            )
        return images.reshape(-1, height, width)

    def _is_prepared(self, images: Any) -> bool:
        """Return whether images are one array of which `prepare` would change nothing."""
        return (
            (self.channels, self.preprocessor.name) == (1, "notebook")
            and isinstance(images, np.ndarray)
            and (images.dtype, images.shape[1:]) == (np.uint8, self.size)
            and bool((images.max((1, 2)) > 1).all())  # others are masks of 0 and 1
        )

    def _with_context(self, batches: list[NDArray[np.uint8]], writer: Any) -> NDArray[np.float32]:
        """Return probabilities (N, classes) of prepared arrays with writer context."""
        if self._context_scores is None:
            raise DataError(
                f"writer={writer!r} needs a checkpoint of model=glyphnet; "
                f"{type(self.model).__name__} has no writer context"
            )
        if not batches:
            return np.empty((0, len(self.charset)), np.float32)
        arrays = np.concatenate(batches)
        if isinstance(writer, str) or not isinstance(writer, Iterable):
            writer = [writer] * len(arrays)
        names = [str(name) for name in writer]
        if len(names) != len(arrays):
            raise DataError(
                f"writer= names {len(names)} writers of {len(arrays)} images; give one for each"
            )
        group = np.unique(names, return_inverse=True)[1].astype(np.int64)
        return self._context_scores(self._scaled(arrays), group)

    def _scaled(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = np.divide(arrays, 255, dtype=np.float32)
        return scaled[:, None] if self.channels == 1 else scaled
