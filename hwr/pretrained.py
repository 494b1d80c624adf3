"""What a recogniser has learnt from lines of text, to begin with.

The weights are those of PP-OCRv6_rec_small (PaddlePaddle/PP-OCRv6_small_rec_onnx on Hugging Face;
Baidu, Apache-2.0), as the package rapidocr brings them. Only this file is read; nothing of the
package is imported or run.
"""

import hashlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from hwr.errors import RunError
from hwr.networks.lcnet import LCNet
from hwr.stopping import unstopped

FILE = "models/PP-OCRv6_rec_small.onnx"
SHA256 = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
WANTED = "model.body=lcnet needs {}: pip install 'hwr[pretrained]'"


def begin(model: nn.Module) -> None:
    """Give its convolutions of `LCNet`, if it has any, the weights that lines of text have taught.

    Raises:
        RunError: A package is missing, or has other weights.
    """
    layers = [
        layer
        for body in model.modules()
        if isinstance(body, LCNet)
        for layer in body.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    if not layers:
        return
    try:
        with unstopped():  # compiled modules make an ImportError of a stop
            onnx = import_module("onnx")
    except ImportError as error:
        raise RunError(WANTED.format(error.name)) from error
    package = find_spec("rapidocr")
    if package is None or not package.submodule_search_locations:
        raise RunError(WANTED.format("rapidocr"))
    file = Path(package.submodule_search_locations[0], FILE)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"model.body=lcnet: {file} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RunError(f"model.body=lcnet: {file} has other weights than those of rapidocr 3.10")
    graph = onnx.ModelProto.FromString(content).graph
    array = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    kernels = [array[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    with torch.no_grad():
        for at, layer in enumerate(layers):  # in the file behind them: what joins a line's columns
            kernel = torch.from_numpy(kernels[at].copy())
            if at == 0:  # of red, green and blue, which are equal
                kernel = kernel.sum(1, keepdim=True)
            layer.weight.copy_(kernel)
            bias = torch.from_numpy(array[f"p2o.pd_op.reshape.{at}.0"].copy())
            layer.bias.copy_(bias.flatten())  # type: ignore[union-attr]
