"""Training pictures as another hand, or the same one again, might have written them."""

import torch
from torch import Tensor
from torch.nn import functional

from hwr.networks.warp import affine, taken
from hwr.schema import AugmentConfig

KNOTS = 5
"""Points along each side between which a picture is bent."""
KINDS = ("rotate", "scale", "stretch", "shear", "shift", "bend", "pen")


def changes(config: AugmentConfig) -> bool:
    """Whether pictures are changed at all."""
    return any(getattr(config, kind) for kind in KINDS)


def augment(image: Tensor, config: AugmentConfig, group: Tensor | None = None) -> Tensor:
    """Turn, scale, stretch, slant, shift and bend each picture a little, and change its pen.

    All is drawn anew for each picture, on its device, in one pass over the batch. Two thirds of
    every change but the bend are shared by the pictures of a group: a hand has a size, slant, pen
    and place of its own, which tell what is small and what is large in it.

    Args:
        image: Grey values from 0 (black) to 1 (white), shape (N, 1, H, W).
        config: How far at most; of the bend, the standard deviation.
        group: The writer of each picture, shape (N,); None: each is by another.

    Returns:
        The same shape and range; what comes in from outside is white.
    """
    count, device = len(image), image.device
    member = torch.arange(count, device=device)
    if group is not None:
        member = torch.unique(group, return_inverse=True)[1]

    def drawn(most: float) -> Tensor:
        shared, own = 2 * torch.rand(2, count, device=device) - 1
        sum_of_both: Tensor = 2 * shared[member] + own
        return sum_of_both * (most / 3)

    ink = 1 - image
    angle = torch.deg2rad(drawn(config.rotate))
    scale, stretch, shear = drawn(config.scale), drawn(config.stretch), drawn(config.shear)
    shift = torch.stack([drawn(2 * config.shift), drawn(2 * config.shift)])
    grid = affine(ink, angle, scale, stretch, shear, shift)
    if config.bend:
        knots = 2 * config.bend * torch.randn(count, 2, KNOTS, KNOTS, device=device)
        bent = functional.interpolate(knots, ink.shape[2:], mode="bicubic", align_corners=True)
        bent[:, 0] *= ink.shape[2] / ink.shape[3]
        grid = grid + bent.permute(0, 2, 3, 1)
    ink = taken(ink, grid)
    pen = drawn(config.pen)[:, None, None, None]
    thick, thin = functional.max_pool2d(ink, 3, 1, 1), -functional.max_pool2d(-ink, 3, 1, 1)
    ink = torch.lerp(ink, torch.where(pen > 0, thick, thin), pen.abs())
    return 1 - ink
