"""Affine warps of a batch of images."""

import torch
from torch import Tensor
from torch.nn import functional


def affine(
    like: Tensor,
    angle: Tensor,
    scale: Tensor,
    aspect_ratio: Tensor,
    shear: Tensor,
    translate: Tensor,
) -> Tensor:
    """Compute the sampling grid (N, H, W, 2) of an affine warp, for `functional.grid_sample`.

    Args:
        like: Images, shape (N, C, H, W).
        angle: Of the rotation, in radians, shape (N,).
        scale: Natural logarithm of the magnification, shape (N,).
        aspect_ratio: Natural logarithm of the change of width / height, shape (N,).
        shear: Slant, as a share of the height, shape (N,).
        translate: To the left and up, as shares of half the height, shape (2, N).
    """
    ratio = like.shape[3] / like.shape[2]
    x_step, y_step = torch.exp(-scale - aspect_ratio / 2), torch.exp(-scale + aspect_ratio / 2)
    cos, sin = torch.cos(angle), torch.sin(angle)
    x = [cos * x_step, (shear * cos - sin) * x_step / ratio, translate[0] / ratio]
    y = [sin * y_step * ratio, (shear * sin + cos) * y_step, translate[1]]
    matrix = torch.stack([torch.stack(x, 1), torch.stack(y, 1)], 1)
    return functional.affine_grid(matrix, list(like.shape), align_corners=False)
