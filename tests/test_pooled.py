"""Training without the zeros of max-pooling gives what torch gives."""

import sys

import pytest
import torch
from torch import Tensor, nn

from hwr.networks import pooled
from hwr.networks.cnn import FEW, CNNNetwork

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere torch's own pass is taken"
)

Gradients = tuple[Tensor, ...]


def stage(
    channels: int, outs: int, kernel: tuple[int, int], cell: int | tuple[int, int], sides: object
) -> nn.Sequential:
    torch.manual_seed(0)
    padding = [nn.ZeroPad2d(sides)] if sides else []  # type: ignore[arg-type]
    layers = [nn.ReLU(), *padding, nn.Conv2d(channels, outs, kernel), nn.MaxPool2d(cell)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def gradients(maps: Tensor, layers: nn.Sequential, ours: bool) -> tuple[Tensor, Gradients]:
    """What comes out, and the gradients of maps, weights and biases of a lopsided loss."""
    maps = maps.clone(memory_format=torch.preserve_format).requires_grad_()
    found = pooled.pooled(maps, layers) if ours else layers(maps)
    seeded = torch.Generator().manual_seed(1)
    weighed = torch.randn(found.shape, generator=seeded, dtype=torch.float32)
    weighed *= found >= found.median()  # half of them are zero, as behind a ReLU
    return found, torch.autograd.grad((found * weighed).sum(), [maps, *layers.parameters()])


@pytest.mark.parametrize(
    ("shape", "outs", "kernel", "cell", "sides"),
    [
        ((5, 32, 30, 40), 32, (3, 4), (3, 4), (1, 2, 1, 1)),
        ((5, 64, 10, 10), 64, (3, 3), 2, None),
        ((3, 5, 17, 23), 7, (2, 5), (3, 2), (0, 3, 2, 1)),  # rows and columns are left over
        ((1, 1, 4, 4), 1, (3, 3), 2, None),
        ((2, 3, 6, 5), 2, (1, 1), 1, (1, 0, 0, 1)),
        ((0, 3, 6, 5), 2, (3, 3), 2, None),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_are_torchs(
    shape: tuple[int, ...],
    outs: int,
    kernel: tuple[int, int],
    cell: int | tuple[int, int],
    sides: object,
    layout: torch.memory_format,
) -> None:
    layers = stage(shape[1], outs, kernel, cell, sides)
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    maps = maps.contiguous(memory_format=layout)
    found, ours = gradients(maps, layers, True)
    assert node_names(found)[0] == "_PooledBackward"
    expected, theirs = gradients(maps.double(), layers.double(), False)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        near = 1e-6 * other.norm().item()
        assert near or not len(maps)
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=near)


def test_the_number_of_threads_changes_nothing() -> None:
    layers = stage(8, 9, (3, 4), (3, 4), (1, 2, 1, 1))
    maps = torch.randn(7, 8, 12, 16).contiguous(memory_format=torch.channels_last)
    usual = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            found.append(gradients(maps, layers, True)[1])
    finally:
        torch.set_num_threads(usual)
    for other in found[1:]:
        assert torch.equal(other[0], found[0][0])
        assert torch.equal(other[1], found[0][1])


def test_a_gradient_that_is_no_number_stays_to_be_found() -> None:
    layers = stage(2, 3, (3, 3), 2, None)
    maps = torch.rand(2, 2, 8, 8).requires_grad_()
    found = pooled.pooled(maps, layers)
    wrong = torch.zeros_like(found)
    wrong[1, 2, 0, 0] = float("nan")
    to_maps, weight, _ = torch.autograd.grad(found, [maps, *layers.parameters()], wrong)
    assert weight[2].isnan().all()
    assert not weight[:2].isnan().any()
    assert to_maps[1].isnan().any()
    assert not to_maps[0].isnan().any()


def test_a_value_that_is_no_number_stays_to_be_found() -> None:
    layers = stage(2, 3, (3, 3), 2, None)
    maps = torch.rand(1, 2, 8, 8)
    maps[0, 1, 4, 4] = float("nan")
    maps.requires_grad_()
    found = pooled.pooled(maps, layers)
    assert found.isnan().any()
    (to_maps,) = torch.autograd.grad(found.sum(), [maps])
    (expected,) = torch.autograd.grad(layers(maps).sum(), [maps])
    torch.testing.assert_close(to_maps, expected, equal_nan=True)


def test_other_defaults_change_nothing() -> None:
    layers = stage(8, 9, (3, 4), (3, 4), (1, 2, 1, 1))
    maps = torch.randn(3, 8, 12, 16)
    expected = gradients(maps, layers, False)[1]
    torch.set_default_dtype(torch.float64)
    try:
        found = gradients(maps, layers, True)[1]
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_network_are_those_of_its_layers() -> None:
    torch.manual_seed(0)
    network = CNNNetwork(62, (30, 40), 0.0, 0.0)
    image, label = torch.rand(8, 1, 30, 40), torch.arange(8)
    for weights in network.blocks[1].parameters():
        weights.requires_grad_(False)
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    ours = torch.autograd.grad(nn.functional.cross_entropy(network(image), label), trained)
    network, image = network.double(), image.double()  # which torch's own pass takes
    plain = network.head(network.dense(network.blocks(image)))
    theirs = torch.autograd.grad(nn.functional.cross_entropy(plain, label), trained)
    for mine, other in zip(ours, theirs, strict=True):
        near = 1e-5 * other.norm().item()
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=near)


def test_half_precision_is_torchs() -> None:
    network = CNNNetwork(62, (30, 40), 0.25, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(torch.rand(4, 1, 30, 40))
    assert "_PooledBackward" not in node_names(found)


def test_the_network_trains_with_it_and_reads_without() -> None:
    network = CNNNetwork(62, (30, 40), 0.25, 0.5)
    image = torch.rand(4, 1, 30, 40)
    trained = node_names(network(image))
    assert trained.count("_PooledBackward") == 2
    assert "MaxPool2DWithIndicesBackward0" not in trained
    assert "_PooledBackward" not in node_names(network.eval()(image))


@pytest.mark.parametrize("count", [0, 1, FEW, 2 * FEW + 3])
def test_few_pictures_at_a_time_are_read_as_all_at_once(count: int) -> None:
    torch.manual_seed(0)
    network = CNNNetwork(62, (30, 40), 0.25, 0.5).eval()
    image = torch.rand(count, 1, 30, 40)
    with torch.inference_mode():
        found, whole = network(image), network.head(network.dense(network.blocks(image)))
    assert found.shape == (count, 62)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)


def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    pooled._compiled.cache_clear()
    try:
        network = CNNNetwork(62, (30, 40), 0.25, 0.5)
        assert "_PooledBackward" not in node_names(network(torch.rand(4, 1, 30, 40)))
    finally:
        pooled._compiled.cache_clear()


def node_names(found: Tensor) -> list[str]:
    """The functions by which autograd would go back from a result."""
    names, waiting, seen = [], [found.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name().split("::")[-1])
        waiting += [parent for parent, _ in node.next_functions]
    return names
