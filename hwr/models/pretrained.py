"""Weights pretrained on text-line recognition, for the backbone `lcnet`.

They are those of PP-OCRv6_rec_small (PaddlePaddle/PP-OCRv6_small_rec_onnx on Hugging Face; Baidu,
Apache-2.0), as distributed in the package rapidocr. Only this file is read; nothing of the package
is imported or run.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from hwr.errors import RunError
from hwr.models.lcnet import LCNet

FILE = "models/PP-OCRv6_rec_small.onnx"
SHA256 = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"


@torch.no_grad()
def load_pretrained_backbone(model: nn.Module) -> None:
    """Load pretrained weights into a model's `LCNet`; a model without one stays as it is.

    Args:
        model: A network, or a LightningModule around it.

    Raises:
        RunError: A package is missing, or has other weights.
    """
    backbone = next((part for part in model.modules() if isinstance(part, LCNet)), None)
    if backbone is None:
        return
    package = find_spec("rapidocr")
    if package is None or package.origin is None or find_spec("onnx") is None:
        raise RunError(
            "model.backbone=lcnet needs rapidocr and onnx: pip install 'hwr[pretrained]'"
        )
    import onnx

    content = (Path(package.origin).parent / FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RunError(
            "model.backbone=lcnet needs the weights of rapidocr 3.10, not of another one"
        )
    graph = onnx.ModelProto.FromString(content).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = [arrays[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    layers = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    # The file has more convolutions: those behind the backbone join the columns of a line.
    for index, (layer, array) in enumerate(zip(layers, kernels, strict=False)):
        kernel = torch.from_numpy(array.copy())
        if index == 0:  # of red, green and blue, which are equal
            kernel = kernel.sum(1, keepdim=True)
        layer.weight.copy_(kernel)
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(arrays[f"p2o.pd_op.reshape.{index}.0"].copy()).flatten())
