"""The notebook's MLP."""

from collections.abc import Sequence

from torch import Tensor, nn

from hwr.models.base import CharacterClassifier, keras_initialise
from hwr.optim import KerasAdam


class MLP(CharacterClassifier):
    """One hidden layer of sigmoid units; 126,362 parameters for 62 classes of 30 x 40 pixels.

    Args:
        alphabet: Class names in label order.
        size: Height and width of a picture.
        preprocessing: How a picture becomes an array.
        lr: Learning rate of Adam.
        hidden: Units of the hidden layer.
    """

    def __init__(
        self,
        alphabet: Sequence[str],
        size: Sequence[int] = (30, 40),
        preprocessing: str = "notebook",
        lr: float = 5e-4,
        hidden: int = 100,
    ) -> None:
        super().__init__(alphabet, size, preprocessing)
        self.save_hyperparameters(logger=False)
        self.lr = lr
        height, width = size
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(height * width, hidden),
            nn.Sigmoid(),
            nn.Linear(hidden, len(alphabet)),
        )
        self.apply(keras_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        logits: Tensor = self.layers(image)
        return logits

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, shape (N, hidden), of images (N, 1, H, W)."""
        found: Tensor = self.layers[:-1](image)
        return found

    def configure_optimizers(self) -> KerasAdam:
        """Adam as in Keras."""
        return KerasAdam(self.parameters(), lr=self.lr)
