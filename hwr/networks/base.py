"""What all networks are: features, and a last layer that tells the classes apart by them."""

import torch
from torch import Tensor, nn

from hwr.networks.packed import packed

UNPACKED = 16
"""Of so few inputs, packing would take longer than it saves."""


class Network(nn.Module):
    """From images (N, 1, H, W) of grey values from 0 to 1 to logits (N, C).

    Attributes:
        head: The last layer, from features to logits.
        views: How many changed views of an image are read beside it.
    """

    head: nn.Module
    views: int = 0

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, shape (N, D), of images (N, 1, H, W)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def _read(self, layers: nn.Sequential, given: Tensor, most: int) -> Tensor:
        """What layers make of N inputs; in reading on a CPU, so many at a time.

        Of more, what is between the layers would not stay in the processor's cache. In inference
        mode, unless there are few, the layers are `packed` first.
        """
        if self.training or given.device.type != "cpu" or traced() or not len(given):
            found: Tensor = layers(given)
            return found
        work = packed(layers) if self._packs(given) else layers
        # Parts of one size, or nearly: a lone picture's sums would go in another order.
        return torch.cat([work(part) for part in torch.tensor_split(given, -(-len(given) // most))])

    def _packs(self, given: Tensor) -> bool:
        """Whether N inputs are enough to pack layers for them, and nothing forbids it."""
        if traced() or not torch.is_inference_mode_enabled() or given.device.type != "cpu":
            return False
        exact = given.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return exact and len(given) > UNPACKED


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
