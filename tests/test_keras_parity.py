"""The networks and optimisers against figures from Keras 3.15 / TensorFlow 2.21, dropout left out.

tests/golden/keras.json holds them; weights and inputs are made as they were made for Keras.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hwr
from hwr.models.base import CharacterClassifier
from hwr.optim import KerasAdam, KerasRMSprop

GOLDEN = json.loads((Path(__file__).parent / "golden/keras.json").read_text())
ALPHABET = [chr(33 + index) for index in range(62)]
STEPS = 20


def keras_weights(shapes: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    """Arrays in the order of Keras' get_weights()."""
    arrays = []
    for number, shape in enumerate(shapes):
        if len(shape) == 1:
            arrays.append(np.zeros(shape, np.float32))
            continue
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        uniform = np.random.RandomState(100 + number).uniform(-limit, limit, size=shape)
        arrays.append(uniform.astype(np.float32))
    return arrays


def carry_over(model: CharacterClassifier, arrays: list[np.ndarray[Any, Any]]) -> None:
    """Put weights in Keras' layouts into our layers."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    channels = 1
    for layer, kernel, bias in zip(layers, arrays[::2], arrays[1::2], strict=True):
        value = torch.from_numpy(kernel)
        if isinstance(layer, nn.Conv2d):
            value = value.permute(3, 2, 0, 1)
            channels = layer.out_channels
        else:
            cells = int((value.shape[0] / channels) ** 0.5) if channels > 1 else 1
            if channels > 1:  # Keras flattens (H, W, C), we flatten (C, H, W)
                grid = value.reshape(cells, cells, channels, -1)
                value = grid.permute(2, 0, 1, 3).reshape(value.shape)
                channels = 1
            value = value.T
        with torch.no_grad():
            layer.weight.copy_(value)
            layer.bias.copy_(torch.from_numpy(bias))


def inputs() -> tuple[Tensor, Tensor]:
    """64 images (64, 1, 30, 40) and their labels."""
    image = np.random.RandomState(7).uniform(0, 1, size=(64, 30, 40)).astype(np.float32)
    return torch.from_numpy(image).unsqueeze(1), torch.arange(64) * 7 % 62


def prepared(name: str) -> CharacterClassifier:
    model: CharacterClassifier
    if name == "mlp":
        model = hwr.MLP(ALPHABET)
    else:
        model = hwr.CNN(ALPHABET, conv_dropout=0.0, dense_dropout=0.0)
    carry_over(model, keras_weights(GOLDEN[name]["weight_shapes"]))
    return model


def probabilities(model: CharacterClassifier) -> np.ndarray[Any, Any]:
    model.eval()
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(inputs()[0][:4]).softmax(1).numpy()
    model.train()
    return found


def losses_of(model: CharacterClassifier, optimiser: torch.optim.Optimizer) -> list[float]:
    """The losses of 20 steps by the module's own training_step."""
    image, label = inputs()
    losses = []
    for step in range(STEPS):
        half = slice(0, 32) if step % 2 == 0 else slice(32, 64)

        def closure(half: slice = half, step: int = step) -> Tensor:
            optimiser.zero_grad()
            loss: Tensor = model.training_step((image[half], label[half]), step)
            loss.backward()
            return loss

        losses.append(float(optimiser.step(closure).detach()))  # type: ignore[arg-type, union-attr]
    return losses


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_parameter_count(name: str) -> None:
    count = sum(weights.numel() for weights in prepared(name).parameters())
    assert count == GOLDEN[name]["params"] == {"mlp": 126_362, "cnn": 624_766}[name]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_first_probabilities(name: str) -> None:
    np.testing.assert_allclose(
        probabilities(prepared(name)), GOLDEN[name]["probabilities"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "first", "bound", "after"), [("mlp", 1e-4, 1e-4, 1e-5), ("cnn", 1e-5, 0.02, 5e-3)]
)
def test_twenty_steps(name: str, first: float, bound: float, after: float) -> None:
    model = prepared(name)
    losses = losses_of(model, model.configure_optimizers())  # type: ignore[arg-type]
    golden = GOLDEN[name]["losses_20_steps"]
    np.testing.assert_allclose(losses[:3], golden[:3], rtol=0, atol=first)
    np.testing.assert_allclose(losses, golden, rtol=0, atol=bound)
    expected = GOLDEN[name]["probabilities_after_20_steps"]
    np.testing.assert_allclose(probabilities(model), expected, rtol=0, atol=after)


def test_epsilon_outside_the_root_is_told_apart() -> None:
    """The check above has teeth: torch's own RMSprop fails it."""
    model = prepared("cnn")
    torchs = torch.optim.RMSprop(model.parameters(), lr=5e-4, alpha=0.9, eps=1e-7)
    drift = np.abs(np.subtract(losses_of(model, torchs), GOLDEN["cnn"]["losses_20_steps"]))
    assert drift[:3].max() > 1e-5
    assert drift.max() > 0.02


@pytest.mark.parametrize(("name", "kind"), [("mlp", KerasAdam), ("cnn", KerasRMSprop)])
def test_one_step_is_the_formula(name: str, kind: type[torch.optim.Optimizer]) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    gradient = torch.tensor([1e-4, 1e-8, -2.0], dtype=torch.float64)
    expected = weight.detach().clone()
    optimiser = kind([weight], lr=0.01)  # type: ignore[call-arg]
    mean, square = torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 4):
        weight.grad = gradient * step
        optimiser.step()
        if name == "cnn":
            square = 0.9 * square + 0.1 * (gradient * step) ** 2
            expected -= 0.01 * gradient * step / (square + 1e-7).sqrt()
        else:
            mean = 0.9 * mean + 0.1 * gradient * step
            square = 0.999 * square + 0.001 * (gradient * step) ** 2
            rate = 0.01 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            expected -= rate * mean / (square.sqrt() + 1e-7)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [KerasAdam, KerasRMSprop])
def test_a_resumed_state_goes_where_the_weights_are(kind: type[torch.optim.Optimizer]) -> None:
    """A checkpoint is read on the CPU; the device `meta` stands for a GPU."""
    weight = nn.Parameter(torch.ones(3))
    optimiser = kind([weight])
    weight.grad = torch.ones(3)
    optimiser.step()
    other = kind([nn.Parameter(torch.ones(3, device="meta"))])
    other.load_state_dict(optimiser.state_dict())
    (state,) = other.state.values()
    assert {part.device.type for part in state.values()} == {"meta"}
