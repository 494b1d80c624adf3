"""The notebook's MLP, and the initial weights of its networks."""

from torch import Tensor, nn


def keras_init(layer: nn.Module) -> None:
    """Draw kernels as Keras does, from Glorot's uniform distribution, and set biases to zero."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.constant_(layer.bias, 0)  # type: ignore[arg-type]


class MLP(nn.Module):
    """One hidden layer of sigmoid units; 126,362 parameters by default.

    Args:
        num_classes: Number of classes, C.
        in_channels: 1 for gray, 3 for color.
        height: Of an image, in pixels.
        width: Of an image, in pixels.
        hidden: Units of the hidden layer.
    """

    def __init__(
        self,
        num_classes: int = 62,
        in_channels: int = 1,
        height: int = 30,
        width: int = 40,
        hidden: int = 100,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * height * width, hidden),
            nn.Sigmoid(),
            nn.Linear(hidden, num_classes),
        )
        self.apply(keras_init)

    def features(self, image: Tensor) -> Tensor:
        """Compute the input of the last layer, shape (N, hidden)."""
        return self.layers[:-1](image)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (N, C) of images (N, in_channels, height, width) from 0 to 1."""
        return self.layers(image)
