"""Layers in reading on a CPU: weights are put into oneDNN's order once, not for each batch.

By oneDNN torch's convolutions work there, and its dense layers could, sooner than by MKL on
processors not of MKL's maker. torch offers both to its compiler only. Functions between the layers
stay torch's: done in oneDNN's passes, as it could, ReLU would turn what is no number into zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hwr.inked import MEASURED

Work = Callable[[Tensor], Tensor]


def packed(layers: nn.Module) -> Work:
    """What layers do to float32 numbers in inference mode, by their weights of now.

    Normalisation behind a convolution goes into its weights; without, convolutions give the same to
    the bit. Dense layers sum in another order. A layer of another kind is called as it is, unless
    it says by a method `packed` what to do instead, and so are all if one of them has a hook.

    Args:
        layers: In the mode for reading. Convolutions pad with zeros, by numbers of them;
            normalisation has running figures.
    """
    if hooked(layers) or not can_pack():
        return layers
    steps: list[Work] = []
    rest: list[Any] = [layers]
    while rest:
        layer = rest.pop(0)
        if type(layer) is nn.Sequential:
            rest[:0] = layer
        elif type(layer) is nn.Conv2d:
            normalised = rest and type(rest[0]) is nn.BatchNorm2d
            steps.append(_convolution(layer, rest.pop(0) if normalised else None))
        elif type(layer) is nn.Linear:
            steps.append(_dense(layer))
        elif type(layer) is nn.SiLU and steps:  # which training, that needs what comes in, can't do
            steps.append(partial(functional.silu, inplace=True))
        else:
            steps.append(layer.packed() if hasattr(layer, "packed") else layer)

    def work(found: Tensor) -> Tensor:
        for step in steps:
            found = step(found)
        return found

    return work


def hooked(layers: nn.Module) -> bool:
    """Whether one of the layers has a hook, so that all must be called as they are."""
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers.modules())


def _convolution(layer: nn.Conv2d, norm: nn.BatchNorm2d | None) -> Work:
    weight, bias = layer.weight, layer.bias
    if norm is not None:
        figures = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(weight, bias, *figures)  # type: ignore[arg-type]
    told = (layer.padding, layer.stride, layer.dilation, layer.groups)
    weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *told)
    call, bias = torch.ops.mkldnn._convolution_pointwise, _whole(bias)
    return lambda maps: call(maps, weight, bias, *told, "none", [None], "")


def _dense(layer: nn.Linear) -> Work:
    call, bias = torch.ops.mkldnn._linear_pointwise, _whole(layer.bias)
    return lambda found: call(found, layer.weight, bias, "none", [None], "")


def _whole(bias: Tensor | None) -> Tensor | None:
    """A file can hold a bias of any strides, which oneDNN doesn't look at."""
    return None if bias is None else bias.contiguous()


def can_pack() -> bool:
    """Whether convolutions are oneDNN's, on a processor on which packing was measured."""
    mkldnn = torch.backends.mkldnn
    return bool(MEASURED and mkldnn.is_available() and mkldnn.enabled)  # type: ignore[no-untyped-call]
