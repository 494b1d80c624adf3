"""Dropout that draws four values at a time."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, which on a CPU takes four decisions from each random number of 64 bits.

    torch draws a number for each, which takes as long as a third of the CNN's backward pass. The
    probability is rounded to a multiple of 1/65,536, and what is kept is scaled accordingly.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop values of any shape in training."""
        dropped = round(self.p * 2**16)
        if not (self.training and 0 < dropped < 2**16 and input.device.type == "cpu"):
            return super().forward(input)
        count = input.numel()
        drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        scale = torch.empty_like(input)
        flat = scale.as_strided((count,), (1,))  # in the order of memory, whatever that is
        flat.copy_(drawn.view(torch.int16)[:count] >= dropped - 2**15)
        return input * scale.mul_(2**16 / (2**16 - dropped))
