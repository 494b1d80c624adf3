"""Initial weights as in Keras."""

from torch import nn


def keras_init(module: nn.Module) -> None:
    """Draw kernels from Glorot's uniform distribution and set biases to zero (X. Glorot, 2010)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
