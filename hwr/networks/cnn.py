"""The notebook's CNN."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from hwr.inked import Array, ending, inked
from hwr.networks.base import Network, keras_initialise
from hwr.networks.dropout import Dropout
from hwr.networks.packed import Work, can_pack, hooked, packed
from hwr.networks.pooled import pooled

FEW = 16
"""Pictures whose maps a processor's cache holds."""
MANY = 1024
"""Pictures whose features it holds before the dense layer, which is faster with more."""


class CNNNetwork(Network):
    """Two blocks of two convolutions; 624,766 parameters for 62 classes of 30 x 40 pixels.

    Args:
        classes: C.
        size: Height and width of a picture, at least 12 and 16.
        conv_dropout: Share of values dropped behind each block.
        dense_dropout: Share of values dropped before the last layer.
        width: Times the notebook's 32 and 64 channels and 512 units.
    """

    def __init__(
        self,
        classes: int,
        size: Sequence[int],
        conv_dropout: float,
        dense_dropout: float,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        height, columns = size
        few, many, units = (max(1, round(width * count)) for count in (32, 64, 512))
        # Keras pads for a kernel of width 4 one column on the left and two on the right.
        pad = nn.ZeroPad2d((1, 2, 1, 1))
        # Keras pools behind the ReLU; the other way round is the same, of a twelfth of the numbers.
        self.blocks = nn.Sequential(
            *(pad, nn.Conv2d(1, few, (3, 4)), nn.ReLU(inplace=True)),
            *(pad, nn.Conv2d(few, few, (3, 4)), nn.MaxPool2d((3, 4))),
            *(nn.ReLU(inplace=True), Dropout(conv_dropout)),
            *(nn.Conv2d(few, many, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(many, many, 3), nn.MaxPool2d(2)),
            *(nn.ReLU(inplace=True), Dropout(conv_dropout)),
        )
        cells = ((height // 3 - 2) // 2) * ((columns // 4 - 2) // 2)
        self.dense = nn.Sequential(
            *(nn.Flatten(), nn.Linear(many * cells, units), nn.ReLU(), Dropout(dense_dropout))
        )
        self.head = nn.Linear(units, classes)
        self.apply(keras_initialise)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def features(self, image: Tensor) -> Tensor:
        """What the dense units say, shape (N, 512 times width), of images (N, 1, H, W)."""
        image = image.contiguous(memory_format=torch.channels_last)
        maps = self._trained(image) if self.training else self._many(image)
        return self._read(self.dense, maps, MANY)

    def _many(self, image: Tensor) -> Tensor:
        # The blocks in order; of many pictures, the first only where ink reaches.
        # What ends a picture there is a number that convolutions by transforms couldn't bear.
        by_boxes = self._packs(image) and can_pack() and not hooked(self.blocks)
        maps = self._inked(image) if by_boxes else None
        if maps is None:
            return self._read(self.blocks, image, FEW)
        return self._read(self.blocks[6:], maps, FEW)

    def _inked(self, image: Tensor) -> Tensor | None:
        # The first block, only where ink reaches; None where that would save no time.
        layers: list[Any] = list(self.blocks[:6])
        pad, first, relu, _, second, pool = layers

        @cache
        def work() -> Work:
            told = deepcopy(first)
            told.weight = nn.Parameter(torch.from_numpy(ending(first.weight.numpy(), pad.padding)))
            return packed(nn.Sequential(told, relu, second, pool))

        def stage(boxes: Array) -> Array:
            maps = work()(torch.from_numpy(boxes).permute(0, 3, 1, 2))
            return maps.permute(0, 2, 3, 1).numpy()

        found = inked(image.numpy(), stage, pad.padding, pool.kernel_size, FEW)
        return None if found is None else torch.from_numpy(found).permute(0, 3, 1, 2)

    def _trained(self, image: Tensor) -> Tensor:
        # The blocks in order; two stages of them go through `pooled`, which trains them faster.
        maps = self.blocks[6:9](pooled(self.blocks[:2](image), self.blocks[2:6]))
        found: Tensor = self.blocks[12:](pooled(maps, self.blocks[9:12]))
        return found
