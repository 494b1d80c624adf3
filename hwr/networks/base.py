"""What all networks are: features, and a last layer that tells the classes apart by them."""

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


def keras_initialise(module: nn.Module) -> None:
    """What Keras starts from: kernels Glorot uniform, biases zero (X. Glorot, 2010)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
