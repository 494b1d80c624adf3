"""The notebook's MLP."""

from collections.abc import Sequence

from torch import Tensor, nn

from hwr.networks.initialise import keras_initialise


class MLPNetwork(nn.Module):
    """One hidden layer of sigmoid units; 126,362 parameters for 62 classes of 30 x 40 pixels.

    Args:
        classes: C.
        size: Height and width of a picture.
        hidden: Units of the hidden layer.
    """

    def __init__(self, classes: int, size: Sequence[int], hidden: int) -> None:
        super().__init__()
        height, width = size
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(height * width, hidden),
            nn.Sigmoid(),
            nn.Linear(hidden, classes),
        )
        self.apply(keras_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        logits: Tensor = self.layers(image)
        return logits
