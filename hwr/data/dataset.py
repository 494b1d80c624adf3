"""Datasets of characters in memory, from which whole batches are cut by index."""

import hashlib
from collections.abc import Callable, Sequence
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

Transform = Callable[[Tensor], Tensor]


class CharacterDataset(Dataset[tuple[Tensor, int]]):
    """Images of characters in memory.

    Args:
        name: What the dataset is called in metrics.
        images: Shape (N, C, H, W), 0 black to 255 white.
        labels: Class of each image.
        files: Name of each image, in the order that splits are drawn in; None: numbers from 0.
        writers: Writer of each image; None where they are unknown.
        charset: The classes; None: those of the labels.
        aspect: Width over height of the image files, the median; None: of the arrays.
        fingerprint: SHA-256 of names, labels and images; None: computed.
        preprocessing: How the arrays were made of files.

    Attributes:
        images: uint8, shape (N, C, H, W).
        labels: Class indices, int64, shape (N,).
        writers: Numbers of the writers, int64, shape (N,), or None.

    Raises:
        DataError: There are fewer than two classes.
    """

    def __init__(
        self,
        name: str,
        images: Tensor | NDArray[np.uint8],
        labels: Sequence[str],
        *,
        files: Sequence[str] | None = None,
        writers: Sequence[str] | None = None,
        charset: Charset | None = None,
        aspect: float | None = None,
        fingerprint: str | None = None,
        preprocessing: str = "notebook",
    ) -> None:
        self.name, self.preprocessing = name, preprocessing
        self.images = torch.as_tensor(images)
        self.charset = charset or Charset.of(labels)
        if len(self.charset) < 2:
            raise DataError(f"data={name} has one class only, {labels[0]!r}; it takes two")
        self.labels = torch.from_numpy(self.charset.encode(labels))
        self.files = tuple(files) if files is not None else tuple(map(str, range(len(labels))))
        self.writers = None if writers is None else _numbers(writers)
        _, self.channels, self.height, self.width = self.images.shape
        self.aspect = aspect or self.width / self.height
        self.fingerprint = fingerprint or hash_of([*self.files, *labels, _digest(self.images)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image (C, H, W) from 0 to 1, and its label."""
        return self.images[index] / 255, int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return a whole batch: images (B, C, H, W) from 0 to 1, and labels (B,)."""
        rows = torch.tensor(indices)
        return self.images.index_select(0, rows) / 255, self.labels[rows]

    @classmethod
    def from_dataset(cls, dataset: Any, name: str | None = None) -> "CharacterDataset":
        """Read any Dataset of (image, label[, writer]) once.

        Args:
            dataset: Its images are tensors (C, H, W) or (H, W), uint8 or from 0 to 1, Pillow
                images or arrays, all of one size. Labels are text, or numbers that its attribute
                `classes` (or `charset`) gives names to. `files` may name its images.
            name: What it is called; None: as its class.

        Raises:
            DataError: It isn't such a dataset.
        """
        kind = type(dataset).__name__
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"data: {kind} must have __len__ and __getitem__")
        items = [dataset[index] for index in range(len(dataset))]
        if not items:
            raise DataError(f"data: {kind} is empty")
        for index, item in enumerate(items):
            if not isinstance(item, tuple | list) or len(item) not in (2, 3):
                raise DataError(
                    f"data: {kind}[{index}] must be (image, label) or (image, label, writer)"
                )
        images = [_to_uint8(item[0], f"{kind}[{index}]") for index, item in enumerate(items)]
        for index, image in enumerate(images):
            if image.shape != images[0].shape:
                one, other = (" x ".join(map(str, i.shape)) for i in (images[0], image))
                raise DataError(
                    f"data: images of {kind} differ in size, {one} at 0 and {other} at {index}; "
                    "resize them to one size"
                )
        names = getattr(dataset, "charset", None) or getattr(dataset, "classes", None)
        labels, charset = _named([item[1] for item in items], names, kind)
        files = getattr(dataset, "files", None)
        with_writers = all(len(item) == 3 for item in items)
        return cls(
            name or kind,
            torch.stack(images),
            labels,
            files=None if files is None else [str(file) for file in files],
            writers=[_text(item[2]) for item in items] if with_writers else None,
            charset=charset,
        )


class TrainingDataset(Dataset[tuple[Any, ...]]):
    """Training images in memory, transformed each time that they are asked for.

    Args:
        images: uint8, shape (N, C, H, W).
        labels: Class indices, shape (N,).
        writers: Shape (N,), where batches are to tell them.
        transform: Applied to each image (C, H, W) from 0 to 1; returns the same shape.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        writers: Tensor | None = None,
        transform: Transform | None = None,
    ) -> None:
        self.images, self.labels, self.writers = images, labels, writers
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return an image (C, H, W), its label, and its writer if asked for."""
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return a whole batch: images (B, C, H, W), labels (B,), and writers (B,) if asked for.

        Raises:
            DataError: The transform returns something else than an image of the same shape.
        """
        rows = torch.tensor(indices)
        images = self.images.index_select(0, rows) / 255  # a fifth of the time of [rows]
        if self.transform is not None:
            images = torch.stack([self._transformed(image) for image in images])
        batch = images, self.labels[rows]
        return batch if self.writers is None else (*batch, self.writers[rows])

    def _transformed(self, image: Tensor) -> Tensor:
        assert self.transform is not None
        result: Any = self.transform(image)
        if not (isinstance(result, Tensor) and result.is_floating_point()):
            what = str(result.dtype) if isinstance(result, Tensor) else type(result).__name__
        elif result.shape != image.shape:
            what = f"shape {tuple(result.shape)}"
        else:
            return result
        raise DataError(
            f"data.train_transform must return a float tensor of shape {tuple(image.shape)}, "
            f"but it returned {what}"
        )


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
    if tensor.shape[0] not in (1, 3):
        raise DataError(
            f"data: the image of {where} has shape {tuple(tensor.shape)}, not 1 or 3 channels"
        )
    if tensor.dtype == torch.uint8:
        return tensor
    low, high = float(tensor.min()), float(tensor.max())
    if not tensor.is_floating_point() or not 0 <= low <= high <= 1:
        raise DataError(
            f"data: the image of {where} has {tensor.dtype} from {low:g} to {high:g}; "
            "it must have uint8, or floats from 0 to 1"
        )
    return (tensor * 255).round().to(torch.uint8)


def _named(labels: list[Any], names: Any, kind: str) -> tuple[list[str], Charset | None]:
    """Return the labels as text, and the charset where the dataset or its numbers give one."""
    classes = None if names is None else tuple(map(str, getattr(names, "names", names)))
    if any(isinstance(label, str) for label in labels):
        return list(map(str, labels)), Charset(classes) if classes else None
    numbers = [int(label) for label in labels]
    if classes is None:
        return list(map(str, numbers)), Charset(tuple(map(str, sorted(set(numbers)))))
    for number in numbers:
        if not 0 <= number < len(classes):
            raise DataError(f"data: {kind} has the label {number}, but {len(classes)} classes")
    return [classes[number] for number in numbers], Charset(classes)


def _text(writer: Any) -> str:
    return writer if isinstance(writer, str) else str(int(writer))


def _numbers(writers: Sequence[str]) -> NDArray[np.int64]:
    """Return the writers' own numbers; where some have names instead, or longer ones, by order."""
    if all(writer.isdecimal() and len(writer) <= 18 for writer in writers):  # int64 holds these
        return np.array([int(writer) for writer in writers], dtype=np.int64)
    return np.unique(np.array(writers, object), return_inverse=True)[1].astype(np.int64)


def _digest(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().data).hexdigest()
