"""The notebook's CNN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwr.models.base import CharacterClassifier, keras_initialise
from hwr.optim import KerasRMSprop


class CNN(CharacterClassifier):
    """Two blocks of two convolutions; 624,766 parameters for 62 classes of 30 x 40 pixels.

    Args:
        alphabet: Class names in label order.
        size: Height and width of a picture, at least 12 and 16.
        preprocessing: How a picture becomes an array.
        lr: Learning rate of RMSprop.
        conv_dropout: Share of values dropped behind each block.
        dense_dropout: Share of values dropped before the last layer.
    """

    def __init__(
        self,
        alphabet: Sequence[str],
        size: Sequence[int] = (30, 40),
        preprocessing: str = "notebook",
        lr: float = 5e-4,
        conv_dropout: float = 0.25,
        dense_dropout: float = 0.5,
    ) -> None:
        super().__init__(alphabet, size, preprocessing)
        self.save_hyperparameters(logger=False)
        self.lr = lr
        height, width = size
        # Keras pads for a kernel of width 4 one column on the left and two on the right.
        pad = nn.ZeroPad2d((1, 2, 1, 1))
        self.blocks = nn.Sequential(
            *(pad, nn.Conv2d(1, 32, (3, 4)), nn.ReLU()),
            *(pad, nn.Conv2d(32, 32, (3, 4)), nn.ReLU()),
            *(nn.MaxPool2d((3, 4)), nn.Dropout(conv_dropout)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Dropout(conv_dropout)),
        )
        cells = ((height // 3 - 2) // 2) * ((width // 4 - 2) // 2)
        self.head = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(64 * cells, 512), nn.ReLU(), nn.Dropout(dense_dropout)),
            nn.Linear(512, len(alphabet)),
        )
        self.apply(keras_initialise)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 1, H, W)."""
        features = self.blocks(image.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(features)
        return logits

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, shape (N, 512), of images (N, 1, H, W)."""
        blocks = self.blocks(image.contiguous(memory_format=torch.channels_last))
        found: Tensor = self.head[:-1](blocks)
        return found

    def configure_optimizers(self) -> KerasRMSprop:
        """RMSprop as in Keras."""
        return KerasRMSprop(self.parameters(), lr=self.lr)
