"""GlyphNet: a small CNN on a window around the ink, its geometry, and writer context."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwr.models.context import WriterContext
from hwr.models.lcnet import LCNet
from hwr.models.warp import affine
from hwr.models.window import GEOMETRY, crop_around_ink

CHANNELS, FEATURES = (32, 64, 128, 256), 256
TTA = ((4, 0.03, 0.05), (-4, 0.03, -0.05), (4, -0.03, -0.05), (-4, -0.03, 0.05))
"""Angle in degrees, logarithm of the scale, and shear of the copies of test-time augmentation."""


class GlyphNet(nn.Module):
    """Classify an image by a window on its ink and by the ink's geometry.

    The window keeps the scale and follows the ink: letters are centered, and a large c stays larger
    than a small one. The ink's size and position are five numbers beside it. `forward` predicts
    single images; `relate` predicts with writer context. 1,975,196 parameters by default, 3,486,460
    with the backbone `lcnet`.

    Args:
        num_classes: Number of classes, C.
        in_channels: 1 for gray, 3 for color; channels are averaged.
        height: Of an image, in pixels, at least 16; the window is a square of this side.
        width: Of an image, in pixels. No layer depends on it.
        width_mult: Multiplies the channels of the residual backbone.
        dropout: Dropout probability before the features.
        temperature: Divides the logits in eval mode, to calibrate probabilities.
        tta: Copies of test-time augmentation, 0 to 4; their probabilities are averaged.
        backbone: `residual`, or `lcnet`, which can be pretrained (`hwr.models.pretrained`).
        backbone_lr_mult: Multiplies the learning rate of the backbone.

    Raises:
        ValueError: `height` is too small, or the backbone is unknown.
    """

    def __init__(
        self,
        num_classes: int = 62,
        in_channels: int = 1,
        height: int = 48,
        width: int = 64,
        width_mult: float = 1.0,
        dropout: float = 0.0,
        temperature: float = 1.0,
        tta: int = 0,
        backbone: str = "residual",
        backbone_lr_mult: float = 1.0,
    ) -> None:
        super().__init__()
        if height < 16:
            raise ValueError(f"GlyphNet needs images of at least 16 rows, not {height}")
        self.window, self.temperature, self.tta = height, temperature, tta
        self.backbone_lr_mult = backbone_lr_mult
        if backbone == "residual":
            self.backbone, size = residual_backbone(height, width_mult)
        elif backbone == "lcnet":
            rows, columns = -(-height // 16), -(-height // 4)
            self.backbone = nn.Sequential(LCNet(), nn.AvgPool2d((rows, 2)), nn.Flatten())
            size = LCNet.channels * (columns // 2)
        else:
            raise ValueError(f"backbone={backbone!r} must be residual or lcnet")
        self.geometry = nn.Sequential(nn.Linear(GEOMETRY, 32), nn.SiLU())
        self.neck = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(size + 32, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.SiLU(),
        )
        self.head = nn.Linear(FEATURES, num_classes)
        self.writer_context = WriterContext(num_classes, FEATURES, GEOMETRY)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (N, C) of single images (N, in_channels, H, W) from 0 to 1."""
        logits: Tensor = self.head(self.features(image if self.training else self.augmented(image)))
        return logits if self.training else self._average(logits, image.shape[0])

    def features(self, image: Tensor) -> Tensor:
        """Compute the input of the last layer, shape (N, 256)."""
        return self.embed(image)[0]

    def embed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features (N, 256) and geometry (N, 5) of images (N, in_channels, H, W)."""
        window, geometry = crop_around_ink(1 - image.mean(1, keepdim=True), self.window)
        inputs = torch.cat([self.backbone(window), self.geometry(geometry)], 1)
        return self.neck(inputs), geometry

    def forward_with_context(self, image: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits without and with writer context, for training.

        Args:
            image: Shape (N, in_channels, H, W), from 0 to 1.
            group: Writer of each image, shape (N,).

        Returns:
            Logits of single images and logits with context, both of shape (N, C).
        """
        features, geometry = self.embed(image)
        logits = self.head(features).float()
        return logits, self.writer_context(logits, features.float(), geometry.float(), group)

    def augmented(self, image: Tensor) -> Tensor:
        """Append the tta copies, V - 1 of them, to images: shape (V N, in_channels, H, W)."""
        ink, copies = 1 - image, [image]
        zero = ink.new_zeros(ink.shape[0])
        for degrees, scale, shear in TTA[: self.tta]:
            angle = torch.deg2rad(zero + degrees)
            grid = affine(ink, angle, zero + scale, zero, zero + shear, torch.stack([zero, zero]))
            copies.append(1 - functional.grid_sample(ink, grid, align_corners=False))
        return torch.cat(copies)

    def relate(self, features: Tensor, geometry: Tensor, group: Tensor) -> Tensor:
        """Compute logits (N, C) with writer context.

        Args:
            features: Of N images and their tta copies, as `embed(augmented(image))` returns them,
                shape (V N, 256).
            geometry: Shape (V N, 5).
            group: Writer of each image, shape (N,).
        """
        count, logits = len(group), self.head(features).float()
        # An image and its copies are in one group each: copies relate to copies of the same kind.
        writer = torch.unique(group, return_inverse=True)[1]
        copy = torch.arange(len(features) // count, device=group.device)[:, None]
        groups = (writer + copy * count).flatten()
        with_context = self.writer_context(logits, features.float(), geometry.float(), groups)
        return self._average(with_context, count)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Group the parameters for an optimizer.

        Biases and scales have no weight decay; the backbone has its own learning rate if
        `backbone_lr_mult` isn't 1.

        Args:
            lr: Learning rate of the optimizer.
        """
        groups: dict[tuple[bool, bool], dict[str, Any]] = {}
        for name, parameter in self.named_parameters():
            slow = self.backbone_lr_mult != 1 and name.startswith("backbone.")
            group = groups.setdefault((slow, parameter.ndim < 2), {"params": []})
            group["params"].append(parameter)
            if slow:
                group["lr"] = self.backbone_lr_mult * lr
            if parameter.ndim < 2:
                group["weight_decay"] = 0.0
        return [groups[key] for key in sorted(groups)]

    def _average(self, logits: Tensor, count: int) -> Tensor:
        """Average the probabilities of `count` images and their copies, as logits (count, C)."""
        log_probability = (logits / self.temperature).log_softmax(1)
        return log_probability.view(-1, count, logits.shape[1]).logsumexp(0)


def residual_backbone(window: int, width_mult: float) -> tuple[nn.Sequential, int]:
    """Build the backbone from windows (N, 1, window, window) to vectors (N, D); return it and D."""
    c1, c2, c3, c4 = (8 * max(1, round(width_mult * size / 8)) for size in CHANNELS)
    backbone = nn.Sequential(
        conv_bn_silu(1, c1, 5),
        nn.MaxPool2d(2),
        conv_bn_silu(c1, c2),
        nn.MaxPool2d(2),
        Residual(c2),
        conv_bn_silu(c2, c3),
        nn.MaxPool2d(2),
        Residual(c3),
        conv_bn_silu(c3, c4),
        nn.MaxPool2d(2),
        Residual(c4),
        nn.Flatten(),
    )
    return backbone, c4 * (window // 16) ** 2


def conv_bn_silu(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Build a convolution that keeps height and width, batch normalization and SiLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.SiLU(),
    )


class Residual(nn.Module):
    """A convolution with a residual connection around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_bn_silu(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps of the same shape (N, channels, H, W)."""
        return maps + self.conv(maps)
