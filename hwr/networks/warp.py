"""Pictures turned, scaled, stretched, slanted and shifted, a batch at a time."""

import torch
from torch import Tensor
from torch.nn import functional


def affine(
    like: Tensor, angle: Tensor, scale: Tensor, stretch: Tensor, shear: Tensor, shift: Tensor
) -> Tensor:
    """Where in each picture the points of the changed one are taken from, shape (N, H, W, 2).

    Args:
        like: The pictures, shape (N, 1, H, W).
        angle: Radians, shape (N,), as all that follow.
        scale: Natural logarithm of the factor by which ink grows.
        stretch: Likewise, of its width over its height.
        shear: Slant, a share of the height.
        shift: To the left and up, shares of half the height, shape (2, N).
    """
    wider = like.shape[3] / like.shape[2]
    wide, high = torch.exp(-scale - stretch / 2), torch.exp(-scale + stretch / 2)
    cos, sin = torch.cos(angle), torch.sin(angle)
    across = torch.stack([cos * wide, (shear * cos - sin) * wide / wider, shift[0] / wider], 1)
    down = torch.stack([sin * high * wider, (shear * sin + cos) * high, shift[1]], 1)
    matrix = torch.stack([across, down], 1)
    return functional.affine_grid(matrix, list(like.shape), align_corners=False)


def taken(ink: Tensor, grid: Tensor) -> Tensor:
    """Ink (N, 1, H, W) from the points of a grid; outside there is none."""
    return functional.grid_sample(ink, grid, align_corners=False)
