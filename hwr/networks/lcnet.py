"""The convolutions of PP-OCRv6's small recogniser of text lines (PaddlePaddle, 2026)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (  # channels in and out, vertical stride, whether channels are weighed
    *((96, 96, 1, True), (96, 96, 1, False), (96, 96, 1, False)),
    *((96, 192, 2, False), *((192, 192, 1, True), (192, 192, 1, False)) * 3),
    *((192, 384, 2, False), (384, 384, 1, True), (384, 384, 1, False)),
)


class LCNet(nn.Module):
    """From ink (N, 1, H, W), 0 (paper) to 1, to maps (N, 384, H / 16, W / 4), rounded up.

    2,675,136 parameters. Normalisation is in the weights already; see `hwr.pretrained`.
    """

    channels = 384

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 48, 3, 2, 1)
        self.fine = nn.Sequential(Corner(48, 24), Corner(24, 48))
        self.joined = nn.Sequential(
            *(nn.Conv2d(96, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 96, 1), nn.ReLU())
        )
        self.blocks = nn.Sequential(*(Block(*block) for block in BLOCKS))

    def forward(self, ink: Tensor) -> Tensor:
        """Maps of windows on ink."""
        maps = self.first(1 - 2 * ink).relu()
        coarse = functional.max_pool2d(functional.pad(maps, (0, 1, 0, 1)), 2, 1)
        found: Tensor = self.blocks(self.joined(torch.cat([coarse, self.fine(maps)], 1)))
        return found


class Corner(nn.Module):
    """A convolution of 2 x 2 and ReLU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.change = nn.Conv2d(inside, outside, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same height and width."""
        changed: Tensor = self.change(functional.pad(maps, (0, 1, 0, 1))).relu()
        return changed


class Block(nn.Module):
    """A convolution of each channel by itself, then of all channels of a place."""

    def __init__(self, inside: int, outside: int, stride: int, weighed: bool) -> None:
        super().__init__()
        self.each = nn.Conv2d(inside, inside, 3, (stride, 1), 1, groups=inside)
        self.weigh = Weigh(inside) if weighed else nn.Identity()
        self.all = nn.Sequential(
            *(nn.Conv2d(inside, 2 * inside, 1), nn.GELU(), nn.Conv2d(2 * inside, outside, 1))
        )
        self.adds = inside == outside

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, inside, H, W) before, (N, outside, H / stride, W) after."""
        maps = self.weigh(self.each(maps))
        changed: Tensor = self.all(maps)
        return maps + changed if self.adds else changed


class Weigh(nn.Module):
    """Channels weighed by what their means say (J. Hu, 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Sequential(
            *(nn.Conv2d(channels, channels // 4, 1), nn.ReLU()),
            *(nn.Conv2d(channels // 4, channels, 1), nn.Hardsigmoid()),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, channels, H, W) before and after."""
        weighed: Tensor = maps * self.weight(maps.mean((2, 3), keepdim=True))
        return weighed
