"""What all networks are: features, and a last layer that tells the classes apart by them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """From images (N, 1, H, W) of grey values from 0 to 1 to logits (N, C).

    Attributes:
        head: The last layer, from features to logits.
    """

    head: nn.Module

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, shape (N, D), of images (N, 1, H, W)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def _in_parts(self, work: Callable[[Tensor], Tensor], maps: Tensor, most: int) -> Tensor:
        """What some layers make of maps (N, C, H, W); in reading on a CPU, of so many at a time.

        Of more, the layers' maps would not stay in the processor's cache from one to the next.
        """
        if self.training or maps.device.type != "cpu" or traced():
            return work(maps)
        # Parts of one size, or nearly: a lone picture's sums would go in another order.
        parts = torch.tensor_split(maps, max(1, -(-len(maps) // most)))
        return torch.cat([work(part) for part in parts])


def traced() -> bool:
    """Whether torch only looks at what is called, to compile or export it."""
    found: bool = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    return found


def keras_initialise(module: nn.Module) -> None:
    """What Keras starts from: kernels Glorot uniform, biases zero (X. Glorot, 2010)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
