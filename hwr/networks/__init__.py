"""The networks, one a file, in plain torch: reading pictures with one needs no Lightning."""

from torch import nn

from hwr.networks.cnn import CNNNetwork
from hwr.networks.mlp import MLPNetwork

NETWORKS: dict[str, type[nn.Module]] = {"cnn": CNNNetwork, "mlp": MLPNetwork}
"""By the name that a checkpoint gives them."""
