"""Recognize images with a trained or exported model."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwr.charset import Charset
from hwr.errors import DataError
from hwr.preprocessing import background as paper
from hwr.preprocessing import images
from hwr.preprocessing.frame import Frame, fit, fit_many
from hwr.preprocessing.inputs import as_arrays, each, is_done, many_in_one, open_picture

BATCH = 256
MANY = 2**20
"""Pixels that `predict` takes at a time, in `BATCH` images or more."""
AHEAD = 8
"""Images that are prepared while the model works."""
SMALL = 10_000
"""Values of an array that is prepared faster than it is handed to a thread."""
Placing = Literal["auto", "as_is"]
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

    def __repr__(self) -> str:
        others = ", ".join(f"{name!r} {share:.1%}" for name, share in self.top[1:])
        return f"<{self.character!r} {self.probability:.1%}{'; ' if others else ''}{others}>"


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
        size: Height and width of the arrays that the model takes.
        preprocessing: How an image becomes an array.
        model: The network, the forest, or the session of ONNX Runtime.
        frame: How ink lies in the training set; None if that is not known.
        about: What the file says of the training, plain values.
        channels: 1 if the model takes gray images, 3 if it takes color.
    """

    charset: Charset
    size: tuple[int, int]
    preprocessing: str
    model: Any
    frame: Frame | None
    about: dict[str, Any]
    _scores: Scores
    _context_scores: ContextScores | None = None
    channels: int = 1

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"<Recognizer: {type(self.model).__name__}, {len(self.charset)} classes, "
            f"{self.preprocessing!r} {'gray' if self.channels == 1 else 'color'} images "
            f"of {height} x {width}>"
        )

    def prepare(self, image: Any, frame: Placing = "auto") -> NDArray[np.uint8]:
        """Make the array that the model takes from an image.

        Args:
            image: One image.
            frame: `auto` normalizes polarity and background, and moves and scales the ink to
                where the training set has it; `as_is` takes the image as it comes. Color images
                are always taken as they come.

        Returns:
            Values from 0 (black) to 255 (white), shape (H, W), in color (3, H, W).

        Raises:
            DataError: It isn't an image, or is broken.
        """
        gray = self.channels == 1
        as_is = frame == "as_is" and self.preprocessing == "notebook"
        if gray and as_is and is_done(image, self.size):
            return np.array(image, order="C")
        with ExitStack() as held:
            opened = open_picture(image, held, self.channels)
            if gray and frame == "auto":
                opened = paper.settle(opened)
                if self.frame is not None:
                    return fit(opened, self.frame, self.preprocessing, *self.size)
            return images.prepare(opened, self.preprocessing, *self.size)

    def probabilities(
        self, images: Any, frame: Placing = "auto", writer: Any = None
    ) -> NDArray[np.float32]:
        """Return the probability of each class for each image, shape (N, classes).

        Args:
            images: One image or many.
            frame: As for `prepare`.
            writer: As for `predict`.

        Raises:
            DataError: Something isn't an image (the message says which), or `writer` is given
                and the model has no writer context, or names more or fewer writers than images.
        """
        found = list(self._batches(images, frame, writer))
        return np.concatenate(found) if found else np.empty((0, len(self.charset)), np.float32)

    def predict(
        self, images: Any, top: int = 3, frame: Placing = "auto", writer: Any = None
    ) -> list[Prediction]:
        """Predict the class of each image, in order.

        Args:
            images: One image or many.
            top: How many of the most probable classes a prediction names, at least 1.
            frame: As for `prepare`.
            writer: Who wrote: one name or number for all images, or a sequence of one for each.
                Images are then predicted with writer context: size and place of the writer's
                other characters tell upper from lower case. All images are held in memory.
                None: each image is predicted alone.

        Raises:
            DataError: As for `probabilities`, or `top` is not a number of at least 1.
        """
        if not isinstance(top, int) or top < 1:
            raise DataError(f"top={top!r} must be a whole number of at least 1")
        return [
            prediction
            for batch in self._batches(images, frame, writer)
            for prediction in self.predictions(batch, top)
        ]

    def read(self, image: Any, frame: Placing = "auto") -> str:
        """Predict the class of one image.

        Raises:
            DataError: It isn't an image, is broken, or there are several.
        """
        found = self.predict(image, 1, frame)
        if len(found) != 1:
            raise DataError(f"read takes one image, not {len(found)}; predict takes many")
        return found[0].character

    def predictions(self, scores: NDArray[np.float32], top: int = 3) -> Iterator[Prediction]:
        """Yield the predictions that probabilities (N, classes) mean."""
        order, names = np.argsort(-scores, axis=1, kind="stable")[:, :top], self.charset.names
        best = np.take_along_axis(scores, order, axis=1)
        for classes, shares in zip(order.tolist(), best.tolist(), strict=True):
            named = tuple(zip([names[k] for k in classes], shares, strict=True))
            yield Prediction(*named[0], named)

    def scores(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (N, classes) of prepared arrays, shape (N, H, W) or (N, 3, H, W)."""
        return self._scores(self._scaled(arrays))

    def scores_with_context(
        self, arrays: NDArray[np.uint8], group: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return probabilities (N, classes) of prepared arrays, predicted with writer context.

        Args:
            arrays: Shape (N, H, W) or (N, 3, H, W).
            group: Shape (N,); images of one writer have the same number.

        Raises:
            DataError: The model has no writer context.
        """
        if self._context_scores is None:
            kind = type(self.model).__name__
            raise DataError(
                f"writer= needs a checkpoint of model=glyphnet; {kind} has no writer context"
            )
        return self._context_scores(self._scaled(arrays), group)

    def prepared(
        self, images: Iterable[Any], frame: Placing = "auto"
    ) -> Iterator[NDArray[np.uint8] | DataError]:
        """Yield the array of each image, or why it has none; threads prepare a few at a time.

        Raises:
            DataError: There is no such `frame`.
        """
        _check(frame)

        def one(image: Any) -> NDArray[np.uint8] | DataError:
            try:
                return self.prepare(image, frame)
            except DataError as error:
                return error

        rest = iter(images)
        first = list(islice(rest, 2))
        if len(first) < 2:  # no threads for a single image
            yield from map(one, first)
            return
        waiting: deque[Future[NDArray[np.uint8] | DataError]] = deque()
        with ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1)) as pool:
            for image in chain(first, rest):
                if isinstance(image, np.ndarray) and image.size <= SMALL and not waiting:
                    yield one(image)
                    continue
                waiting.append(pool.submit(one, image))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batches(
        self, images: Any, frame: Placing, writer: Any = None
    ) -> Iterator[NDArray[np.float32]]:
        stacks = self._stacks(images, frame)
        if writer is None:
            yield from map(self.scores, stacks)
        elif every := list(stacks):
            arrays = np.concatenate(every)
            yield self.scores_with_context(arrays, groups_of(writer, len(arrays)))

    def _scaled(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = images.scale(arrays)
        return scaled[:, None] if self.channels == 1 else scaled

    def _stacks(self, images: Any, frame: Placing) -> Iterator[NDArray[np.uint8]]:
        """Yield the arrays of images, many at a time."""
        _check(frame)
        many = max(BATCH, MANY // (self.size[0] * self.size[1]))
        if self.preprocessing != "notebook" or self.channels > 1 or not many_in_one(images):
            arrays = self._arrays(each(images), frame)
            while batch := list(islice(arrays, many)):
                yield np.stack(batch)
            return
        for start in range(0, len(images), many):
            part = images[start : start + many]
            found, ready = as_arrays(part, self.size), np.ones(len(part), np.bool_)
            if found is not None and frame != "as_is":
                found, ready = fit_many(found, self.frame)
            if found is None or not ready.any():
                found = np.stack(list(self._arrays(part, frame, start)))
            elif not ready.all():
                others = np.flatnonzero(~ready)
                found = np.array(found)
                with ThreadPoolExecutor() as pool:
                    found[others] = list(pool.map(self.prepare, (part[row] for row in others)))
            yield found

    def _arrays(
        self, images: Iterable[Any], frame: Placing, start: int = 0
    ) -> Iterator[NDArray[np.uint8]]:
        for number, array in enumerate(self.prepared(images, frame), start):
            if isinstance(array, DataError):
                raise DataError(f"image {number}: {array}") from array
            yield array


def _check(frame: str) -> None:
    if frame not in ("auto", "as_is"):
        raise DataError(f"frame={frame!r} must be 'auto' or 'as_is'")


def groups_of(writer: Any, count: int) -> NDArray[np.int64]:
    """Number the writers of the images, given one name for all or one for each.

    Raises:
        DataError: There are more or fewer names than images.
    """
    if isinstance(writer, str | bytes) or not isinstance(writer, Iterable):
        return np.zeros(count, np.int64)
    names = [str(name) for name in writer]
    if len(names) != count:
        raise DataError(f"writer= names {len(names)} writers of {count} images; give one for each")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
