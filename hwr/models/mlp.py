"""The notebook's MLP and how it is trained."""

from collections.abc import Sequence

from hwr.models.base import CharacterClassifier
from hwr.networks.mlp import MLPNetwork
from hwr.optim import KerasAdam


class MLP(CharacterClassifier):
    """`MLPNetwork`, trained by Keras' Adam.

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
        super().__init__(alphabet, MLPNetwork(len(alphabet), size, hidden))
        self.save_hyperparameters(logger=False)
        self.lr = lr

    def configure_optimizers(self) -> KerasAdam:
        """Adam as in Keras."""
        return KerasAdam(self.parameters(), lr=self.lr)
