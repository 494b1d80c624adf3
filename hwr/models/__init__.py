"""Networks from images to logits, in plain torch."""

from hwr.models.cnn import CNN
from hwr.models.glyphnet import GlyphNet
from hwr.models.mlp import MLP

__all__ = ["CNN", "MLP", "GlyphNet"]
