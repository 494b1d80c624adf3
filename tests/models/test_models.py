"""Test what MLP, CNN and GlyphNet have in common: shapes, features, training, ONNX export."""

import io
import warnings
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from hwr.models import CNN, MLP, GlyphNet

KINDS: list[Any] = [MLP, CNN, GlyphNet]


@pytest.mark.parametrize("kind", [*KINDS, partial(GlyphNet, backbone="lcnet")])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(30, 40), (48, 64), (16, 16), (31, 57)])
@torch.inference_mode()
def test_shapes(kind: Any, channels: int, height: int, width: int) -> None:
    model = kind(7, channels, height, width).eval()
    image = torch.rand(3, channels, height, width)
    logits, features = model(image), model.features(image)
    assert logits.shape == (3, 7)
    assert logits.is_contiguous()
    *_, last = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    head = getattr(model, "head", last)
    torch.testing.assert_close(head(features).softmax(1), logits.softmax(1))


@pytest.mark.parametrize("kind", [MLP, CNN])
def test_initial_weights_are_those_of_keras(kind: Any) -> None:
    for layer in kind().modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert layer.bias is not None
            assert not layer.bias.any()
            inputs = layer.weight[0].numel()
            outputs = layer.weight[:, 0].numel()
            limit = (6 / (inputs + outputs)) ** 0.5
            assert 0.95 * limit < layer.weight.abs().max() <= limit


@pytest.mark.parametrize(("height", "width"), [(11, 40), (30, 15)])
def test_too_small_images_are_rejected(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"at least 12 x 16 pixels, not {height} x {width}"):
        CNN(62, 1, height, width)
    assert CNN(62, 1, 12, 16)(torch.rand(1, 1, 12, 16)).shape == (1, 62)


@pytest.mark.parametrize(
    "model",
    [MLP(9, 3), CNN(9, 3), GlyphNet(9, 3, width_mult=0.25, tta=2), GlyphNet(9, backbone="lcnet")],
    ids=["mlp", "cnn", "glyphnet", "lcnet"],
)
@torch.inference_mode()
def test_onnx_with_any_batch_size(model: nn.Module) -> None:
    size = (48, 64) if isinstance(model, GlyphNet) else (30, 40)
    channels = 1 if "lcnet" in str(model).lower() else 3
    image = (torch.rand(5, channels, *size) > 0.1).float()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (image[:2],),
            dynamic_shapes=({0: torch.export.Dim("batch", max=2**30)},),
            input_names=["image"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for count in (1, 5):
        (logits,) = session.run(None, {"image": image[:count].numpy()})
        np.testing.assert_allclose(logits, model(image[:count]), atol=1e-4)
