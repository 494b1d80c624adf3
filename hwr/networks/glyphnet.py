"""A network of our own: a small residual CNN on a window around the ink, and the ink's geometry."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwr.networks.base import Network
from hwr.networks.context import Relation
from hwr.networks.lcnet import LCNet
from hwr.networks.packed import Work, packed
from hwr.networks.warp import affine, taken

CHANNELS = (32, 64, 128, 256)
FEATURES = 256
GEOMETRY = 5
FEW = 64
"""Views whose maps a processor's cache holds."""
VIEWS = ((4, 0.03, 0.05), (-4, 0.03, -0.05), (4, -0.03, -0.05), (-4, -0.03, 0.05))
"""Angle in degrees, logarithm of the scale, and slant under which a picture is looked at again."""
PALE = 25 / 255
"""Ink that is fainter than this, of 1, doesn't count when its place is looked for."""


class GlyphNetwork(Network):
    """From the whole frame: where the ink lies, how large it is, and what a window on it shows.

    The window keeps the scale, so that a large c stays larger than a small one, and follows the
    ink, so that the convolutions see every letter in the middle. Size and place are given beside
    it as five numbers. 1,975,196 parameters for 62 classes.

    Args:
        classes: C.
        size: Height and width of a picture; the window is a square of the height.
        width: Times the usual 32, 64, 128 and 256 channels.
        dropout: Share of values dropped before the features.
        temperature: Logits are divided by it when reading, so that probabilities are calibrated.
        views: When reading, a picture is looked at as it is and under so many of `VIEWS`, and the
            probabilities are averaged.
        body: `own` convolutions, or those of `lcnet`: 2,675,136 parameters, 3,486,460 in all.
    """

    head: nn.Linear

    def __init__(
        self,
        classes: int,
        size: Sequence[int],
        width: float = 1.0,
        dropout: float = 0.0,
        temperature: float = 1.0,
        views: int = 0,
        body: str = "own",
    ) -> None:
        super().__init__()
        self.window, self.temperature, self.views = size[0], temperature, views
        if body == "lcnet":
            rows, columns = -(-self.window // 16), -(-self.window // 4)
            self.body = nn.Sequential(LCNet(), nn.AvgPool2d((rows, 2)), nn.Flatten())
            seen = LCNet.channels * (columns // 2)
        elif body == "own":
            self.body, seen = own(self.window, width)
        else:
            raise ValueError(f"no convolutions {body!r}")
        self.place = nn.Sequential(nn.Linear(GEOMETRY, 32), nn.SiLU())
        self.join = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(seen + 32, FEATURES, bias=False),
            *(nn.BatchNorm1d(FEATURES), nn.SiLU()),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.relation = Relation(classes, FEATURES, GEOMETRY)
        self.to(memory_format=torch.channels_last)

    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 256) and geometry (N, 5) of images (N, 1, H, W)."""
        ink = 1 - image
        window, geometry = around_the_ink(ink, self.window)
        window = window.contiguous(memory_format=torch.channels_last)
        maps = self._read(self.body, window, FEW)
        return self.join(torch.cat([maps, self.place(geometry).to(maps.dtype)], 1)), geometry

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, shape (N, 256), of images (N, 1, H, W)."""
        return self.look(image)[0]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W), each read alone."""
        seen = image if self.training else self.viewed(image)
        return self._averaged(self.head(self.features(seen)), image.shape[0])

    def together(self, image: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each image alone, and in view of the others of its group, to train on.

        Args:
            image: Shape (N, 1, H, W).
            group: Who wrote each, shape (N,); only whether two are equal counts.

        Returns:
            Both of shape (N, C).
        """
        features, geometry = self.look(image)
        alone = self.head(features).float()
        return alone, self.relation(alone, features.float(), geometry.float(), group)

    def viewed(self, image: Tensor) -> Tensor:
        """The images (N, 1, H, W), and behind them the same under each view."""
        if not self.views:
            return image
        count, ink = image.shape[0], 1 - image
        parts = [image]
        for view in VIEWS[: self.views]:
            degrees, scale, shear = (ink.new_full((count,), number) for number in view)
            still = torch.zeros_like(scale)
            shift = torch.stack([still, still])
            grid = affine(ink, torch.deg2rad(degrees), scale, still, shear, shift)
            parts.append(1 - taken(ink, grid))
        return torch.cat(parts)

    def relate(self, features: Tensor, geometry: Tensor, group: Tensor) -> Tensor:
        """Logits (N, C) of what `look` found of N viewed images, in view of others of their group.

        Args:
            features: Shape (V N, F), view after view.
            geometry: Shape (V N, G).
            group: Shape (N,); only whether two are equal counts.
        """
        count, alone = len(group), self.head(features).float()
        member = torch.unique(group, return_inverse=True)[1]
        view = torch.arange(len(features), device=group.device) // count
        apart = member[torch.arange(len(features), device=group.device) % count] + view * count
        seen = self.relation(alone, features.float(), geometry.float(), apart)
        return self._averaged(seen, count)

    def _averaged(self, logits: Tensor, count: int) -> Tensor:
        """Logits of the mean probability over the views, calibrated; in training as they are."""
        if self.training:
            return logits
        scores = (logits / self.temperature).log_softmax(1).view(-1, count, logits.shape[1])
        return scores.logsumexp(0)


def own(window: int, width: float) -> tuple[nn.Sequential, int]:
    """From windows (N, 1, window, window) to numbers (N, D), and D."""
    first, second, third, last = (8 * max(1, round(width * count / 8)) for count in CHANNELS)
    body = nn.Sequential(
        *(convolution(1, first, 5), nn.MaxPool2d(2)),
        *(convolution(first, second), nn.MaxPool2d(2), Residual(second)),
        *(convolution(second, third), nn.MaxPool2d(2), Residual(third)),
        *(convolution(third, last), nn.MaxPool2d(2), Residual(last)),
        nn.Flatten(),
    )
    return body, last * (window // 16) ** 2


def convolution(inside: int, outside: int, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps height and width, normalised."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
        *(nn.BatchNorm2d(outside), nn.SiLU()),
    )


class Residual(nn.Module):
    """What comes in, and what a convolution makes of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = convolution(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (N, channels, H, W) before and after."""
        changed: Tensor = self.change(maps)
        return maps + changed

    def packed(self) -> Work:
        """The same, with its weights packed."""
        change = packed(self.change)
        return lambda maps: maps + change(maps)


def around_the_ink(ink: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """A square window in whose middle the ink lies, and the ink's geometry.

    Args:
        ink: From 0 (paper) to 1, shape (N, 1, H, W).
        side: Of the window, in pixels; it moves by whole ones, so nothing is blurred.

    Returns:
        The window (N, 1, side, side), and (N, 5): logarithms of the ink's height and width, its
        place from left and top, and the logarithm of its area, each about 0 and less than 1 apart.
    """
    height = ink.shape[2]
    (left, right), (top, bottom) = ends(ink[:, 0], 1), ends(ink[:, 0], 2)
    x, y = (left + right) / 2, (top + bottom) / 2
    half = side // 2
    padded = functional.pad(ink[:, 0], (half, half + 1, half, half + 1))
    steps = torch.arange(side, device=ink.device)
    rows = (y.round().long()[:, None] + steps)[:, :, None]
    columns = (x.round().long()[:, None] + steps)[:, None]
    batch = torch.arange(ink.shape[0], device=ink.device)[:, None, None]
    window = padded[batch, rows, columns][:, None]
    area = ink.mean((1, 2, 3)) * ink.shape[3] / height
    geometry = [
        torch.log((bottom - top) / height + 0.03) + 1.2,
        torch.log((right - left) / height + 0.03) + 1.5,
        4 * (x - ink.shape[3] / 2) / height,
        4 * (y / height - 0.5),
        torch.log(area + 0.002) + 2.5,
    ]
    return window, torch.stack(geometry, 1)


def ends(ink: Tensor, along: int) -> tuple[Tensor, Tensor]:
    """Between which places, in pixels, all but 2 % of the ink at each end lies, each (N,).

    Args:
        ink: Shape (N, H, W).
        along: The dimension that is summed over: 1 for left and right, 2 for top and bottom.
    """
    profile = (ink - PALE).clamp(min=0).sum(along)
    share = profile.cumsum(1) / profile.sum(1, keepdim=True).clamp(min=1e-6)
    share = functional.pad(share, (1, 0))
    found = []
    for part in (0.02, 0.98):
        before = (share[:, 1:] < part).sum(1, keepdim=True).clamp(max=profile.shape[1] - 1)
        low, high = share.gather(1, before), share.gather(1, before + 1)
        inside = ((part - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        found.append((before + inside)[:, 0])
    return found[0], found[1]
