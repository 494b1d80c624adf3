"""The window around the ink of an image, and the ink's geometry."""

import torch
from torch import Tensor
from torch.nn import functional

GEOMETRY = 5
"""Numbers that describe the ink's size and position."""
FAINT = 25 / 255
"""Ink fainter than this, of 1, is ignored where its bounds are computed."""


def crop_around_ink(ink: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Crop a square window centered on the ink, and measure the ink's geometry.

    Args:
        ink: From 0 (background) to 1, shape (N, 1, H, W).
        side: Of the window, in pixels; it moves by whole pixels, so nothing is blurred.

    Returns:
        Windows (N, 1, side, side), and geometry (N, 5): logarithms of the ink's height and width,
        its center from left and top, and the logarithm of its area, each centered at about 0 with
        a deviation below 1.
    """
    height, width = ink.shape[2:]
    (left, right), (top, bottom) = ink_bounds(ink[:, 0], 1), ink_bounds(ink[:, 0], 2)
    x, y = (left + right) / 2, (top + bottom) / 2
    half = side // 2
    # Symmetric ink is centered between two pixels: rounding errors must not choose one of them.
    first_row, first_column = ((center + 1e-3).round().long() for center in (y, x))
    padded = functional.pad(ink[:, 0], (half, half + 1, half, half + 1))
    steps = torch.arange(side, device=ink.device)
    rows = (first_row[:, None] + steps)[:, :, None]
    columns = (first_column[:, None] + steps)[:, None]
    batch = torch.arange(ink.shape[0], device=ink.device)[:, None, None]
    window = padded[batch, rows, columns][:, None]
    area = ink.mean((1, 2, 3)) * width / height
    geometry = [
        torch.log((bottom - top) / height + 0.03) + 1.2,
        torch.log((right - left) / height + 0.03) + 1.5,
        4 * (x - width / 2) / height,
        4 * (y / height - 0.5),
        torch.log(area + 0.002) + 2.5,
    ]
    return window, torch.stack(geometry, 1)


def ink_bounds(ink: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Compute the bounds, in pixels, between which all but 2 % of the ink at each end lies.

    Args:
        ink: Shape (N, H, W).
        dim: The dimension to sum over: 1 for left and right, 2 for top and bottom.

    Returns:
        Lower and upper bound, each of shape (N,).
    """
    profile = (ink - FAINT).clamp(min=0).sum(dim)
    share = profile.cumsum(1) / profile.sum(1, keepdim=True).clamp(min=1e-6)
    share = functional.pad(share, (1, 0))
    bounds = []
    for quantile in (0.02, 0.98):
        pixel = (share[:, 1:] < quantile).sum(1, keepdim=True).clamp(max=profile.shape[1] - 1)
        low, high = share.gather(1, pixel), share.gather(1, pixel + 1)
        part = ((quantile - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        bounds.append((pixel + part)[:, 0])
    return bounds[0], bounds[1]
