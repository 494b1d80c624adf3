"""What Keras starts from."""

from torch import nn


def keras_initialise(module: nn.Module) -> None:
    """Kernels Glorot uniform, biases zero (X. Glorot, 2010)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
