"""The notebook's CNN and how it is trained."""

from collections.abc import Sequence

from hwr.models.base import CharacterClassifier
from hwr.networks.cnn import CNNNetwork
from hwr.optim import KerasRMSprop


class CNN(CharacterClassifier):
    """`CNNNetwork`, trained by Keras' RMSprop.

    Args:
        alphabet: Class names in label order.
        size: Height and width of a picture, at least 12 and 16.
        preprocessing: How a picture becomes an array.
        lr: Learning rate of RMSprop.
        conv_dropout: Share of values dropped behind each block.
        dense_dropout: Share of values dropped before the last layer.
        width: Times the notebook's 32 and 64 channels and 512 units.
    """

    def __init__(
        self,
        alphabet: Sequence[str],
        size: Sequence[int] = (30, 40),
        preprocessing: str = "notebook",
        lr: float = 5e-4,
        conv_dropout: float = 0.25,
        dense_dropout: float = 0.5,
        width: float = 1.0,
    ) -> None:
        super().__init__(
            alphabet, CNNNetwork(len(alphabet), size, conv_dropout, dense_dropout, width)
        )
        self.save_hyperparameters(logger=False)
        self.lr = lr

    def configure_optimizers(self) -> KerasRMSprop:
        """RMSprop as in Keras."""
        return KerasRMSprop(self.parameters(), lr=self.lr)
