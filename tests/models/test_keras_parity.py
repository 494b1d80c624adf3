"""Compare models and optimizers with values of Keras 3.15 / TensorFlow 2.21, without dropout.

tests/golden/keras.json holds them; weights and inputs are made as they were made for Keras.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwr.models import CNN, MLP
from hwr.training.optimizers import KerasAdam, KerasRMSprop

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/keras.json").read_text())
STEPS = 20


def keras_weights(shapes: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    """Return arrays in the order of Keras' get_weights()."""
    arrays = []
    for number, shape in enumerate(shapes):
        if len(shape) == 1:
            arrays.append(np.zeros(shape, np.float32))
            continue
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        uniform = np.random.RandomState(100 + number).uniform(-limit, limit, size=shape)
        arrays.append(uniform.astype(np.float32))
    return arrays


def copy_weights(model: nn.Module, arrays: list[np.ndarray[Any, Any]]) -> None:
    """Copy weights in Keras' layouts into our layers."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    channels = 1
    for layer, kernel, bias in zip(layers, arrays[::2], arrays[1::2], strict=True):
        value = torch.from_numpy(kernel)
        if isinstance(layer, nn.Conv2d):
            value = value.permute(3, 2, 0, 1)
            channels = layer.out_channels
        else:
            if channels > 1:  # Keras flattens (H, W, C), we flatten (C, H, W)
                side = int((value.shape[0] / channels) ** 0.5)
                grid = value.reshape(side, side, channels, -1)
                value = grid.permute(2, 0, 1, 3).reshape(value.shape)
                channels = 1
            value = value.T
        with torch.no_grad():
            layer.weight.copy_(value)
            layer.bias.copy_(torch.from_numpy(bias))


def inputs() -> tuple[Tensor, Tensor]:
    """Return 64 images (64, 1, 30, 40) and their labels."""
    image = np.random.RandomState(7).uniform(0, 1, size=(64, 30, 40)).astype(np.float32)
    return torch.from_numpy(image).unsqueeze(1), torch.arange(64) * 7 % 62


def prepared(name: str) -> nn.Module:
    model = MLP() if name == "mlp" else CNN(conv_dropout=0.0, dense_dropout=0.0)
    copy_weights(model, keras_weights(GOLDEN[name]["weight_shapes"]))
    return model


def probabilities(model: nn.Module) -> np.ndarray[Any, Any]:
    model.eval()
    with torch.no_grad():
        result: np.ndarray[Any, Any] = model(inputs()[0][:4]).softmax(1).numpy()
    model.train()
    return result


def losses_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    """Train for 20 steps and return their losses."""
    image, label = inputs()
    losses = []
    for step in range(STEPS):
        half = slice(0, 32) if step % 2 == 0 else slice(32, 64)

        def closure(half: slice = half) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(image[half]), label[half])
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure).detach()))  # type: ignore[arg-type, union-attr]
    return losses


@pytest.mark.parametrize(
    ("name", "kind", "count", "first", "bound", "after"),
    [
        ("mlp", KerasAdam, 126_362, 1e-4, 1e-4, 1e-5),
        ("cnn", KerasRMSprop, 624_766, 1e-5, 0.02, 5e-3),
    ],
)
def test_twenty_steps(
    name: str, kind: Any, count: int, first: float, bound: float, after: float
) -> None:
    """Compare number of parameters, first probabilities, losses, and probabilities at the end."""
    model, golden = prepared(name), GOLDEN[name]
    assert sum(weights.numel() for weights in model.parameters()) == golden["params"] == count
    np.testing.assert_allclose(probabilities(model), golden["probabilities"], rtol=0, atol=1e-6)
    losses = losses_of(model, kind(model.parameters(), lr=5e-4))
    expected = golden["losses_20_steps"]
    np.testing.assert_allclose(losses[:3], expected[:3], rtol=0, atol=first)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=bound)
    expected = golden["probabilities_after_20_steps"]
    np.testing.assert_allclose(probabilities(model), expected, rtol=0, atol=after)


def test_bounds_reject_epsilon_outside_the_root() -> None:
    model = prepared("cnn")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4, alpha=0.9, eps=1e-7)
    drift = np.abs(np.subtract(losses_of(model, optimizer), GOLDEN["cnn"]["losses_20_steps"]))
    assert drift[:3].max() > 1e-5
    assert drift.max() > 0.02
