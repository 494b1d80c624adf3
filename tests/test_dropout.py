"""Dropout that draws four values at a time drops as torch's does."""

import pytest
import torch
from torch import nn

from hwr.networks.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_so_many_are_dropped_and_the_others_scaled(p: float) -> None:
    torch.manual_seed(0)
    count = 10**6
    found = Dropout(p)(torch.ones(count))
    kept = found[found > 0]
    assert len(kept) / count == pytest.approx(1 - p, abs=5 * (p * (1 - p) / count) ** 0.5)
    assert kept.unique().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    dropped = (found == 0).float() - p
    for away in (1, 2, 3):  # neighbours come from one number
        beside = (dropped[away:] * dropped[:-away]).mean().item()
        assert abs(beside) < 5 * p * (1 - p) / count**0.5


def test_each_value_of_a_picture_has_its_own() -> None:
    maps = torch.rand(3, 5, 4, 7).contiguous(memory_format=torch.channels_last) + 1
    found = Dropout(0.5)(maps)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert set((found / maps).flatten().tolist()) == {0.0, 2.0}


def test_the_gradient_is_dropped_alike() -> None:
    values = (torch.rand(1000) + 1).requires_grad_()
    found = Dropout(0.25)(values)
    found.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, found.detach() / values.detach())


def test_the_seed_decides() -> None:
    values, drop = torch.ones(999), Dropout(0.5)
    torch.manual_seed(3)
    first, second = drop(values), drop(values)
    torch.manual_seed(3)
    assert torch.equal(drop(values), first)
    assert not torch.equal(first, second)


def test_nothing_and_everything() -> None:
    values = torch.rand(100)
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(Dropout(0.0)(values), values)
    assert not Dropout(1.0)(values).any()
    assert Dropout(0.5)(values[:0]).shape == (0,)
    assert isinstance(Dropout(0.5), nn.Dropout)
