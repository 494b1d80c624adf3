"""The notebook's MLP."""

from collections.abc import Sequence

from torch import Tensor, nn

from hwr.networks.base import Network, keras_initialise


class MLPNetwork(Network):
    """One hidden layer of sigmoid units; 126,362 parameters for 62 classes of 30 x 40 pixels.

    Args:
        classes: C.
        size: Height and width of a picture.
        hidden: Units of the hidden layer.
    """

    def __init__(self, classes: int, size: Sequence[int], hidden: int) -> None:
        super().__init__()
        height, width = size
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(height * width, hidden), nn.Sigmoid())
        self.head = nn.Linear(hidden, classes)
        self.apply(keras_initialise)

    def features(self, image: Tensor) -> Tensor:
        """What the hidden units say, shape (N, hidden), of images (N, 1, H, W)."""
        found: Tensor = self.hidden(image)
        return found
