"""A recogniser: what was trained or exported, and how pictures are brought before it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwr import images, paper
from hwr.alphabet import Alphabet
from hwr.errors import DataError
from hwr.frame import Frame, fit, fit_many
from hwr.pictures import as_arrays, each, is_done, many_in_one, open_picture

BATCH = 256
MANY = 2**20
"""Pixels that are read at a time where nobody waits for them, in `BATCH` pictures or more."""
AHEAD = 8
"""Pictures that are prepared while others are waited for."""
SMALL = 10_000
"""Numbers in an array that is sooner prepared than handed to a thread."""
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


@dataclass(frozen=True, repr=False, eq=False)
class Recognizer:
    """Reads pictures with a trained model.

    Pictures are paths, Pillow images, bytes, open files, and arrays or tensors of numbers from 0
    to 255 (of 16 bits to 65,535) or floats from 0 to 1; one, or any iterable of them, which is read
    in batches, in constant memory. One picture is an array (H, W), (H, W, 1), (H, W, 3) or
    (H, W, 4), or a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W); of one dimension more they are
    many.

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
    _together: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None

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
        if frame == "as_is" and self.preprocessing == "notebook" and is_done(picture, self.size):
            return np.array(picture, order="C")
        with ExitStack() as held:
            grey = open_picture(picture, held)
            if frame == "auto":
                grey = paper.settle(grey)
                if self.frame is not None:
                    return fit(grey, self.frame, self.preprocessing, *self.size)
            return images.PREPARE[self.preprocessing](grey, *self.size)

    def probabilities(
        self, pictures: Any, frame: Placing = "auto", writer: Any = None
    ) -> NDArray[np.float32]:
        """Probability of each class for each picture, shape (N, C).

        Args:
            pictures: One picture or many.
            frame: As for `prepare`.
            writer: As for `predict`.

        Raises:
            DataError: A picture is none; the message says which. Or the model reads pictures singly
                only, or there are not as many writers as pictures.
        """
        found = list(self._batches(pictures, frame, writer))
        return np.concatenate(found) if found else np.empty((0, len(self.alphabet)), np.float32)

    def predict(
        self, pictures: Any, top: int = 3, frame: Placing = "auto", writer: Any = None
    ) -> list[Prediction]:
        """What each picture is read as, in order.

        Args:
            pictures: One picture or many.
            top: How many of the most probable classes a prediction names, at least 1.
            frame: As for `prepare`.
            writer: Who wrote: one name or number for all pictures, or a sequence of one for each.
                Pictures by one hand are then read in view of each other: its size and place tell
                what is small and what is large. All are held in memory. None: each is read alone.

        Raises:
            DataError: As for `probabilities`, or `top` is no such number.
        """
        if not isinstance(top, int) or top < 1:
            raise DataError(f"top={top!r} must be a whole number of at least 1")
        return [
            row
            for batch in self._batches(pictures, frame, writer)
            for row in self.predictions(batch, top)
        ]

    def read(self, picture: Any, frame: Placing = "auto") -> str:
        """The class of one picture.

        Raises:
            DataError: It is no picture, a broken one, or not one.
        """
        found = self.predict(picture, 1, frame)
        if len(found) != 1:
            raise DataError(f"read takes one picture, not {len(found)}; predict takes many")
        return found[0].character

    def predictions(self, scores: NDArray[np.float32], top: int = 3) -> Iterator[Prediction]:
        """What probabilities (N, C) say."""
        order, names = np.argsort(-scores, axis=1, kind="stable")[:, :top], self.alphabet.names
        best = np.take_along_axis(scores, order, axis=1)
        for classes, shares in zip(order.tolist(), best.tolist(), strict=True):
            named = tuple(zip([names[k] for k in classes], shares, strict=True))
            yield Prediction(*named[0], named)

    def scores(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (N, C) of prepared arrays (N, H, W)."""
        return self._scores(images.scale(arrays)[:, None])

    def scores_together(
        self, arrays: NDArray[np.uint8], group: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Probabilities (N, C) of prepared arrays (N, H, W), each in view of those of its group.

        Args:
            arrays: Shape (N, H, W).
            group: Shape (N,); of more than 256 equal ones, at most 256 are read together,
                cut in their order.

        Raises:
            DataError: The model reads pictures singly only.
        """
        if self._together is None:
            kind = type(self.model).__name__
            raise DataError(
                f"writer= needs a checkpoint of model=glyphnet; {kind} reads pictures one by one"
            )
        found = np.empty((len(arrays), len(self.alphabet)), np.float32)
        for one in np.unique(group):
            rows = np.flatnonzero(group == one)
            for part in np.array_split(rows, -(-len(rows) // BATCH)):
                found[part] = self._together(images.scale(arrays[part])[:, None])
        return found

    def prepared(
        self, pictures: Iterable[Any], frame: Placing = "auto"
    ) -> Iterator[NDArray[np.uint8] | DataError]:
        """The array of each picture, or why it has none; a few are prepared at a time, in threads.

        Raises:
            DataError: There is no such `frame`.
        """
        _check(frame)

        def one(picture: Any) -> NDArray[np.uint8] | DataError:
            try:
                return self.prepare(picture, frame)
            except DataError as error:
                return error

        rest = iter(pictures)
        first = list(islice(rest, 2))
        if len(first) < 2:  # no threads for a single picture
            yield from map(one, first)
            return
        waiting: deque[Future[NDArray[np.uint8] | DataError]] = deque()
        with ThreadPoolExecutor() as pool:
            for picture in chain(first, rest):
                if isinstance(picture, np.ndarray) and picture.size <= SMALL and not waiting:
                    yield one(picture)
                    continue
                waiting.append(pool.submit(one, picture))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batches(
        self, pictures: Any, frame: Placing, writer: Any = None
    ) -> Iterator[NDArray[np.float32]]:
        stacks = self._stacks(pictures, frame)
        if writer is None:
            yield from map(self.scores, stacks)
        elif every := list(stacks):
            arrays = np.concatenate(every)
            yield self.scores_together(arrays, groups_of(writer, len(arrays)))

    def _stacks(self, pictures: Any, frame: Placing) -> Iterator[NDArray[np.uint8]]:
        """The arrays (n, H, W) of pictures, so many at a time."""
        _check(frame)
        many = max(BATCH, MANY // (self.size[0] * self.size[1]))
        if self.preprocessing != "notebook" or not many_in_one(pictures):
            arrays = self._arrays(each(pictures), frame)
            while batch := list(islice(arrays, many)):
                yield np.stack(batch)
            return
        for start in range(0, len(pictures), many):
            part = pictures[start : start + many]
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
        self, pictures: Iterable[Any], frame: Placing, start: int = 0
    ) -> Iterator[NDArray[np.uint8]]:
        for number, array in enumerate(self.prepared(pictures, frame), start):
            if isinstance(array, DataError):
                raise DataError(f"picture {number}: {array}") from array
            yield array


def _check(frame: str) -> None:
    if frame not in ("auto", "as_is"):
        raise DataError(f"frame={frame!r} must be 'auto' or 'as_is'")


def groups_of(writer: Any, count: int) -> NDArray[np.int64]:
    """A number for the writer of each of so many pictures, from one name or one for each.

    Raises:
        DataError: There are not as many as pictures.
    """
    if isinstance(writer, str | bytes) or not isinstance(writer, Iterable):
        return np.zeros(count, np.int64)
    names = [str(name) for name in writer]
    if len(names) != count:
        raise DataError(f"writer= names {len(names)} writers of {count} pictures; one for each")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
