"""A recogniser: what was trained or exported, and how pictures are brought before it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwr import images, paper
from hwr.alphabet import Alphabet
from hwr.errors import DataError
from hwr.frame import Frame, fit
from hwr.pictures import each, open_picture

BATCH = 256
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
            top: How many of the most probable classes a prediction names, at least 1.
            frame: As for `prepare`.

        Raises:
            DataError: A picture is none; the message says which.
        """
        if not isinstance(top, int) or top < 1:
            raise DataError(f"top={top!r} must be a whole number of at least 1")
        return [
            row for batch in self._batches(pictures, frame) for row in self.predictions(batch, top)
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
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        for row, best in zip(scores, order, strict=True):
            named = tuple((self.alphabet.names[k], float(row[k])) for k in best)
            yield Prediction(*named[0], named)

    def scores(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (N, C) of prepared arrays (N, H, W)."""
        return self._scores(images.scale(arrays)[:, None])

    def prepared(
        self, pictures: Iterable[Any], frame: Placing = "auto"
    ) -> Iterator[NDArray[np.uint8] | DataError]:
        """The array of each picture, or why it has none; a few are prepared at a time, in threads.

        Raises:
            DataError: There is no such `frame`.
        """
        if frame not in ("auto", "as_is"):
            raise DataError(f"frame={frame!r} must be 'auto' or 'as_is'")

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
                if isinstance(picture, np.ndarray) and picture.size <= SMALL:
                    done: Future[NDArray[np.uint8] | DataError] = Future()
                    done.set_result(one(picture))
                    waiting.append(done)
                else:
                    waiting.append(pool.submit(one, picture))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batches(self, pictures: Any, frame: Placing) -> Iterator[NDArray[np.float32]]:
        arrays = enumerate(self.prepared(each(pictures), frame))
        while batch := list(islice(arrays, BATCH)):
            for number, array in batch:
                if isinstance(array, DataError):
                    raise DataError(f"picture {number}: {array}") from array
            yield self.scores(np.stack([array for _, array in batch]))  # type: ignore[misc]
