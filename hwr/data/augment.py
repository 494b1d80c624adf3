"""Augment training images as handwriting varies between and within writers."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hwr.models.warp import affine

KNOTS = 5
"""Points along each side between which an image is displaced elastically."""
CHANGES = ("rotate", "scale", "aspect_ratio", "shear", "translate", "elastic", "stroke_width")


@dataclass(frozen=True)
class Augment:
    """Rotate, scale, shear, translate and distort images at random, and change the stroke width.

    All parameters are drawn anew for each image, uniformly up to the given maximum. Two thirds of
    every change but the elastic one are shared by the images of a group: a writer has a size,
    slant, place and stroke width of their own, which tell what is small and what is large.

    Attributes:
        rotate: Degrees.
        scale: Natural logarithm of the factor.
        aspect_ratio: Natural logarithm of the factor of width over height.
        shear: Horizontal shift as a share of the vertical distance.
        translate: Share of the height.
        elastic: Standard deviation of the displacement, share of the height.
        stroke_width: Share of a pixel by which strokes grow or shrink on either side, 0 to 1.
        synthetic_writers: Writers of data=synthetic whose images the data module mixes in.
        synthetic_share: Synthetic images in an epoch for each real one.
    """

    rotate: float = 0.0
    scale: float = 0.0
    aspect_ratio: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    elastic: float = 0.0
    stroke_width: float = 0.0
    synthetic_writers: int = 0
    synthetic_share: float = 1.0

    @property
    def is_active(self) -> bool:
        """Tell whether images are changed at all."""
        return any(getattr(self, change) for change in CHANGES)

    def __call__(self, images: Tensor, group: Tensor | None = None) -> Tensor:
        """Augment a batch on the device that it is on.

        Args:
            images: Shape (N, C, H, W), 0 black to 1 white.
            group: Writer of each image, shape (N,); None: each is by another.

        Returns:
            The same shape and range; what comes in from outside is white.
        """
        count, device = len(images), images.device
        member = torch.arange(count, device=device)
        if group is not None:
            member = torch.unique(group, return_inverse=True)[1]

        def uniform(maximum: float) -> Tensor:
            shared, own = 2 * torch.rand(2, count, device=device) - 1
            both: Tensor = 2 * shared[member] + own
            return both * (maximum / 3)

        ink = 1 - images
        angle = torch.deg2rad(uniform(self.rotate))
        scale, aspect_ratio = uniform(self.scale), uniform(self.aspect_ratio)
        shear = uniform(self.shear)
        # Grids go from -1 to 1, so a share of the height counts twice.
        shift = torch.stack([uniform(2 * self.translate), uniform(2 * self.translate)])
        grid = affine(ink, angle, scale, aspect_ratio, shear, shift)
        if self.elastic:
            knots = 2 * self.elastic * torch.randn(count, 2, KNOTS, KNOTS, device=device)
            size = list(ink.shape[2:])
            moved = functional.interpolate(knots, size, mode="bicubic", align_corners=True)
            moved[:, 0] *= ink.shape[2] / ink.shape[3]
            grid = grid + moved.permute(0, 2, 3, 1)
        ink = functional.grid_sample(ink, grid, align_corners=False)
        change = uniform(self.stroke_width)[:, None, None, None]
        thick, thin = functional.max_pool2d(ink, 3, 1, 1), -functional.max_pool2d(-ink, 3, 1, 1)
        ink = torch.lerp(ink, torch.where(change > 0, thick, thin), change.abs())
        return 1 - ink
