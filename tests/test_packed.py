"""Layers whose weights are packed for reading give what they give by themselves."""

import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hwr.networks import base
from hwr.networks.cnn import CNNNetwork
from hwr.networks.glyphnet import GlyphNetwork
from hwr.networks.packed import packed

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available(),
    reason="elsewhere torch's layers are called",
)
MANY = base.UNPACKED + 5


def cnn() -> tuple[CNNNetwork, Tensor]:
    torch.manual_seed(0)
    return CNNNetwork(62, (30, 40), 0.25, 0.5).eval(), torch.rand(MANY, 1, 30, 40)


def glyphnet() -> tuple[GlyphNetwork, Tensor]:
    torch.manual_seed(0)
    network = GlyphNetwork(62, (48, 64), width=0.25)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            layer.running_mean = torch.randn(layer.num_features)
            layer.running_var = torch.rand(layer.num_features) + 0.5
    return network.eval(), torch.rand(MANY, 1, 48, 64)


def calls(work: Callable[[], Tensor]) -> tuple[Tensor, list[str]]:
    """What comes out, and the names of torch's functions that were called."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = work()
    return found, [str(event.name) for event in profile.events()]


@torch.inference_mode()
def test_convolutions_are_the_same_to_the_bit() -> None:
    network, image = cnn()
    image = image.contiguous(memory_format=torch.channels_last)
    found, names = calls(lambda: packed(network.blocks)(image))
    assert torch.equal(found, network.blocks(image))
    assert names.count("mkldnn::_convolution_pointwise") == 4
    assert "aten::conv2d" not in names


@torch.inference_mode()
@pytest.mark.parametrize("make", [cnn, glyphnet])
def test_many_pictures_are_read_as_one_by_one(
    make: Callable[[], tuple[CNNNetwork | GlyphNetwork, Tensor]],
) -> None:
    network, image = make()
    found, names = calls(lambda: network(image))
    assert "mkldnn::_convolution_pointwise" in names
    alone, names = calls(lambda: torch.cat([network(one) for one in image.split(1)]))
    assert "mkldnn::_convolution_pointwise" not in names
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_normalisation_goes_into_the_weights_of_now() -> None:
    network, _ = glyphnet()
    maps = torch.rand(2, 1, 48, 48)
    found, names = calls(lambda: packed(network.body)(maps))
    assert "aten::batch_norm" not in names
    assert "aten::conv2d" not in names
    torch.testing.assert_close(found, network.body(maps), rtol=1e-4, atol=1e-5)
    for weights in network.body.parameters():
        weights.mul_(1.5)
    changed = packed(network.body)(maps)
    assert not torch.allclose(changed, found, rtol=0.1)
    torch.testing.assert_close(changed, network.body(maps), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((cnn, name) for name in ("blocks", "blocks.1", "blocks.2", "blocks.4", "dense.1")),
        *((glyphnet, name) for name in ("body", "body.0", "body.0.1", "body.4", "body.4.change")),
    ],
)
def test_hooks_are_called(make: Callable[[], tuple[nn.Module, Tensor]], name: str) -> None:
    network, image = make()
    seen, layer = [], network.get_submodule(name)
    expected = network(image)
    layer.register_forward_hook(lambda *told: seen.append((told[2], told[2].clone())))
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)
    assert sum(len(kept) for kept, _ in seen) == MANY
    if make is glyphnet:  # in the CNN, ReLU overwrites what comes in
        assert all(torch.equal(kept, then) for kept, then in seen)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["blocks.1.bias", "blocks.8.weight", "dense.1.bias"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_stays_to_be_found(name: str, number: float) -> None:
    network, image = cnn()
    network.get_parameter(name)[3] = number
    assert not network(image).isfinite().all(1).any()


@torch.inference_mode()
def test_a_bias_of_any_strides_is_read_as_it_is() -> None:
    network, image = cnn()
    for layer in (network.blocks[1], network.dense[1]):
        spread = torch.randn(2 * len(layer.bias))[::2]
        layer.bias = nn.Parameter(spread, requires_grad=False)
    alone = torch.cat([network(one) for one in image.split(1)])
    torch.testing.assert_close(network(image), alone, rtol=1e-4, atol=1e-5)


def test_a_layer_of_another_kind_is_called_as_it_is() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, maps: Tensor) -> Tensor:
            return 2 * super().forward(maps)

    torch.manual_seed(0)
    layers = nn.Sequential(Doubled(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.Tanh())
    maps = torch.rand(3, 1, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(packed(layers)(maps), layers(maps))


def test_outside_inference_mode_the_layers_are_called() -> None:
    network, image = cnn()
    with torch.no_grad():
        _, names = calls(lambda: network(image))
    assert "mkldnn::_convolution_pointwise" not in names
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(network(image).sum(), [image])
    (expected,) = torch.autograd.grad(
        network.head(network.dense(network.blocks(image))).sum(), [image]
    )
    torch.testing.assert_close(gradient, expected)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_precisions_are_the_layers(kind: torch.dtype) -> None:
    network, image = cnn()
    if kind == torch.float64:
        found, names = calls(lambda: network.double()(image.double()))
    else:
        with torch.autocast("cpu", kind):
            found, names = calls(lambda: network(image))
    assert found.dtype == kind
    assert "mkldnn::_convolution_pointwise" not in names


@torch.inference_mode()
def test_without_onednn_the_layers_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = cnn()
    expected = network(image)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    found, names = calls(lambda: network(image))
    assert "mkldnn::_convolution_pointwise" not in names
    torch.testing.assert_close(found, expected)
    monkeypatch.undo()
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        _, names = calls(lambda: network(image))
    assert "mkldnn::_convolution_pointwise" not in names
