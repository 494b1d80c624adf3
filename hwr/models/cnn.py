"""The notebook's CNN."""

import torch
from torch import Tensor, nn

from hwr.models.mlp import keras_init


class CNN(nn.Module):
    """Two blocks of two convolutions and a dense layer; 624,766 parameters by default.

    Args:
        num_classes: Number of classes, C.
        in_channels: 1 for gray, 3 for color.
        height: Of an image, in pixels, at least 12.
        width: Of an image, in pixels, at least 16.
        conv_dropout: Dropout probability after each block.
        dense_dropout: Dropout probability before the last layer.
        width_mult: Multiplies the notebook's 32 and 64 channels and 512 units.

    Raises:
        ValueError: Images are too small: nothing is left of them after the second block.
    """

    def __init__(
        self,
        num_classes: int = 62,
        in_channels: int = 1,
        height: int = 30,
        width: int = 40,
        conv_dropout: float = 0.25,
        dense_dropout: float = 0.5,
        width_mult: float = 1.0,
    ) -> None:
        super().__init__()
        if height < 12 or width < 16:
            raise ValueError(f"CNN needs images of at least 12 x 16 pixels, not {height} x {width}")
        first, second, units = (max(1, round(width_mult * size)) for size in (32, 64, 512))
        rows, columns = (height // 3 - 2) // 2, (width // 4 - 2) // 2
        # Keras pads 3 x 4 kernels by one column on the left and two on the right; so does
        # padding="same", but with a warning.
        self.layers = nn.Sequential(
            nn.ZeroPad2d((1, 2, 1, 1)),
            nn.Conv2d(in_channels, first, (3, 4)),
            nn.ReLU(inplace=True),
            nn.ZeroPad2d((1, 2, 1, 1)),
            nn.Conv2d(first, first, (3, 4)),
            nn.ReLU(inplace=True),
            nn.MaxPool2d((3, 4)),
            nn.Dropout(conv_dropout),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, second, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Dropout(conv_dropout),
            nn.Flatten(),
            nn.Linear(second * rows * columns, units),
            nn.ReLU(inplace=True),
            nn.Dropout(dense_dropout),
            nn.Linear(units, num_classes),
        )
        self.apply(keras_init)
        # Convolutions take the memory format of their weights; this one is faster on a CPU.
        self.to(memory_format=torch.channels_last)

    def features(self, image: Tensor) -> Tensor:
        """Compute the input of the last layer, shape (N, 512 width_mult)."""
        return self.layers[:-1](image)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (N, C) of images (N, in_channels, height, width) from 0 to 1."""
        return self.layers(image)
