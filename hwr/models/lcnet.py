"""The backbone of PP-OCRv6's small text-line recognizer (PaddlePaddle, 2026)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (  # input and output channels, vertical stride, squeeze and excitation
    (96, 96, 1, True),
    (96, 96, 1, False),
    (96, 96, 1, False),
    (96, 192, 2, False),
    *((192, 192, 1, True), (192, 192, 1, False)) * 3,
    (192, 384, 2, False),
    (384, 384, 1, True),
    (384, 384, 1, False),
)


class LCNet(nn.Module):
    """Compute feature maps (N, 384, H / 16, W / 4), rounded up, of ink (N, 1, H, W) from 0 to 1.

    2,675,136 parameters. The pretrained weights have batch normalization folded in, so there is
    none here; see `hwr.models.pretrained`, which relies on the order of the convolutions.
    """

    channels = 384

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 48, 3, 2, 1)
        self.branch = nn.Sequential(Conv2x2(48, 24), Conv2x2(24, 48))
        self.merge = nn.Sequential(
            nn.Conv2d(96, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 96, 1), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Block(*block) for block in BLOCKS))

    def forward(self, ink: Tensor) -> Tensor:
        """Compute feature maps."""
        maps = self.stem(1 - 2 * ink).relu()
        pooled = functional.max_pool2d(functional.pad(maps, (0, 1, 0, 1)), 2, 1)
        return self.blocks(self.merge(torch.cat([pooled, self.branch(maps)], 1)))


class Conv2x2(nn.Module):
    """A 2 x 2 convolution that keeps height and width, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (N, out_channels, H, W) of maps (N, in_channels, H, W)."""
        return self.conv(functional.pad(maps, (0, 1, 0, 1))).relu()


class Block(nn.Module):
    """A depthwise convolution and a pointwise MLP, with a residual connection where sizes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, excite: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, (stride, 1), 1, groups=in_channels)
        self.excite = SqueezeExcitation(in_channels) if excite else nn.Identity()
        self.pointwise = nn.Sequential(
            nn.Conv2d(in_channels, 2 * in_channels, 1),
            nn.GELU(),
            nn.Conv2d(2 * in_channels, out_channels, 1),
        )
        self.residual = in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (N, out_channels, H / stride, W) of maps (N, in_channels, H, W)."""
        maps = self.excite(self.depthwise(maps))
        changed: Tensor = self.pointwise(maps)
        return maps + changed if self.residual else changed


class SqueezeExcitation(nn.Module):
    """Weight channels by a function of their means (J. Hu, 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps of the same shape (N, channels, H, W)."""
        return maps * self.weight(maps.mean((2, 3), keepdim=True))
