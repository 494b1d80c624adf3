"""Datasets of characters in memory, from which whole batches are cut by index."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from hwr.charset import Charset
from hwr.data.cache import hash_of
from hwr.errors import DataError
from hwr.preprocessing.statistics import ImageStatistics

MEASURED = 5000
"""Training images that are measured, at most."""


class CharacterDataset(Dataset[tuple[Tensor, int]]):
    """Images of characters in memory.

    Args:
        name: What the dataset is called in metrics.
        images: Shape (N, C, H, W), 0 black to 255 white.
        labels: Class name of each image.
        files: Name of each image, in the order that splits are drawn in; None: numbers from 0.
        writers: Writer of each image; None where they are unknown.
        charset: The classes; None: those of the labels.
        fingerprint: SHA-256 of names, labels and images; None: computed.
        preprocessing: How the arrays were made of files.

    Attributes:
        images: uint8, shape (N, C, H, W).
        labels: Class indices, int64, shape (N,).
        writers: Numbers of the writers, int64, shape (N,), or None.
    """

    def __init__(
        self,
        name: str,
        images: Tensor | NDArray[np.uint8],
        labels: Sequence[str],
        *,
        files: Sequence[str] | None = None,
        writers: Sequence[Any] | None = None,
        charset: Charset | None = None,
        fingerprint: str | None = None,
        preprocessing: str = "notebook",
    ) -> None:
        self.name, self.preprocessing = name, preprocessing
        self.images = torch.as_tensor(images)
        self.charset = charset or Charset.of(labels)
        self.labels = torch.from_numpy(self.charset.encode(labels))
        self.files = tuple(files) if files is not None else tuple(map(str, range(len(labels))))
        self.writers = None if writers is None else _writer_numbers(writers)
        _, self.channels, self.height, self.width = self.images.shape
        if fingerprint is None:
            pixels = hashlib.sha256(self.images.contiguous().numpy().data).hexdigest()
            fingerprint = hash_of([*self.files, *labels, pixels])
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image (C, H, W) from 0 to 1, and its label."""
        return self.images[index] / 255, int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return a whole batch: images (B, C, H, W) from 0 to 1, and labels (B,)."""
        rows = torch.tensor(indices)
        return self.images.index_select(0, rows) / 255, self.labels[rows]

    def file_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return width and height of the image files of some rows (N,), in pixels, shape (N, 2)."""
        return np.tile((self.width, self.height), (len(rows), 1))

    def statistics(self, rows: NDArray[np.int64], recenter: bool = True) -> dict[str, Any] | None:
        """Measure what some images look like, for the Preprocessor; None for color images.

        Args:
            rows: Of the training images, shape (N,).
            recenter: Whether inference moves the ink of other images to where these have it.

        Returns:
            `ImageStatistics` as plain values.
        """
        if self.channels != 1:
            return None
        rows = rows[:: -(-len(rows) // MEASURED)]
        sizes, aspect = self.file_sizes(rows), self.width / self.height
        if self.preprocessing == "notebook":  # others keep the aspect
            aspect = float(np.median(sizes[:, 0] / sizes[:, 1]))
        arrays = self.images[rows, 0].numpy()
        measured = ImageStatistics.of(arrays, sizes, aspect, recenter)
        return asdict(measured) if measured else None

    @classmethod
    def from_dataset(cls, dataset: Any, name: str | None = None) -> "CharacterDataset":
        """Read any Dataset of (image, label[, writer]) once.

        Args:
            dataset: Its images are tensors (C, H, W) or (H, W), uint8 or from 0 to 1, Pillow
                images or arrays, all of one size. Labels are text, or indices into its attribute
                `classes`.
            name: What it is called; None: as its class.

        Raises:
            DataError: It isn't such a dataset.
        """
        kind = type(dataset).__name__
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"data: {kind} must have __len__ and __getitem__")
        samples = [dataset[index] for index in range(len(dataset))]
        if not samples:
            raise DataError(f"data: {kind} is empty")
        for index, sample in enumerate(samples):
            if not isinstance(sample, tuple | list) or len(sample) not in (2, 3):
                raise DataError(
                    f"data: {kind}[{index}] must be (image, label) or (image, label, writer)"
                )
        images = [_to_uint8(item[0], f"{kind}[{index}]") for index, item in enumerate(samples)]
        if len(sizes := {tuple(image.shape) for image in images}) > 1:
            raise DataError(
                f"data: images of {kind} differ in size, {sorted(sizes)[:2]}; resize them to one"
            )
        labels, charset = _label_names(
            [item[1] for item in samples], getattr(dataset, "classes", None), kind
        )
        return cls(
            name or kind,
            torch.stack(images),
            labels,
            writers=[item[2] for item in samples] if len(samples[0]) == 3 else None,
            charset=charset,
        )


class TrainingDataset(Dataset[tuple[Any, ...]]):
    """Training images in memory, transformed each time that they are requested.

    Args:
        tensors: Images, uint8, shape (N, C, H, W); labels (N,); and writers (N,), if batches are
            to include them.
        transform: Applied to each image (C, H, W) from 0 to 1; returns the same shape.
    """

    def __init__(
        self, tensors: tuple[Tensor, ...], transform: Callable[[Tensor], Any] | None = None
    ) -> None:
        self.tensors, self.transform = tensors, transform

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return an image (C, H, W), its label, and maybe its writer."""
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return a whole batch: images (B, C, H, W), labels (B,), and maybe writers (B,).

        Raises:
            DataError: The transform returns something else than an image of the same shape.
        """
        rows = torch.tensor(indices)
        images, *targets = (tensor.index_select(0, rows) for tensor in self.tensors)
        images = images / 255
        if self.transform is not None:
            images = torch.stack([self._transformed(image) for image in images])
        return images, *targets

    def _transformed(self, image: Tensor) -> Tensor:
        assert self.transform is not None
        result: Tensor = self.transform(image)
        kind = (
            f"{result.dtype} {tuple(result.shape)}"
            if isinstance(result, Tensor)
            else type(result).__name__
        )
        if kind != (expected := f"{image.dtype} {tuple(image.shape)}"):
            raise DataError(f"data.train_transform must return {expected}, but it returned {kind}")
        return result


def _to_uint8(image: Any, where: str) -> Tensor:
    """Convert an image of any kind to a tensor (C, H, W) from 0 to 255."""
    from torchvision.transforms.v2 import functional  # takes a second, and only others need it

    if isinstance(image, Image.Image):
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    elif isinstance(image, np.ndarray):
        image = image.copy()  # torch warns of arrays that can't be written to
    try:
        tensor: Tensor = functional.to_image(image).as_subclass(Tensor)
    except (TypeError, ValueError) as error:
        raise DataError(f"data: the image of {where} is a {type(image).__name__}") from error
    low, high = float(tensor.min()), float(tensor.max())
    scaled = tensor.is_floating_point() and 0 <= low <= high <= 1
    if tensor.shape[0] not in (1, 3) or not (scaled or tensor.dtype == torch.uint8):
        raise DataError(
            f"data: the image of {where} has {tensor.dtype} from {low:g} to {high:g} and shape "
            f"{tuple(tensor.shape)}; it must have uint8, or floats from 0 to 1, and 1 or 3 channels"
        )
    return (tensor * 255).round().to(torch.uint8) if scaled else tensor


def _label_names(
    labels: list[Any], classes: Sequence[Any] | None, kind: str
) -> tuple[list[str], Charset | None]:
    """Return the labels as text, and the charset where classes or numbers give their order."""
    charset = None if classes is None else Charset(tuple(map(str, classes)))
    if isinstance(labels[0], str):
        return labels, charset
    numbers = [int(label) for label in labels]
    if charset is None:
        return list(map(str, numbers)), Charset(tuple(map(str, sorted(set(numbers)))))
    if wrong := [number for number in numbers if not 0 <= number < len(charset)]:
        raise DataError(f"data: {kind} has the label {wrong[0]}, but {len(charset)} classes")
    return [charset.names[number] for number in numbers], charset


def _writer_numbers(writers: Sequence[Any]) -> NDArray[np.int64]:
    """Return the writers' own numbers; where some have names instead, numbers in their order."""
    try:
        return np.array([int(writer) for writer in writers], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.unique(np.array(writers, object), return_inverse=True)[1].astype(np.int64)
