"""The networks, one a file, in plain torch: reading pictures with one needs no Lightning."""

from hwr.networks.base import Network
from hwr.networks.cnn import CNNNetwork
from hwr.networks.glyphnet import GlyphNetwork
from hwr.networks.mlp import MLPNetwork

NETWORKS: dict[str, type[Network]] = {
    "cnn": CNNNetwork,
    "glyphnet": GlyphNetwork,
    "mlp": MLPNetwork,
}
"""By the name that a checkpoint gives them."""
