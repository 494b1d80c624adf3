"""Test Keras' optimizers and the one-cycle schedule; test_keras_parity.py compares with Keras."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from hwr.training.optimizers import KerasAdam, KerasRMSprop
from hwr.training.schedulers import one_cycle


@pytest.mark.parametrize("kind", [KerasAdam, partial(KerasAdam, fused=False), KerasRMSprop])
def test_steps_follow_the_formula(kind: Any) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    gradient = torch.tensor([1e-4, 1e-8, -2.0], dtype=torch.float64)
    expected = weight.detach().clone()
    optimizer = kind([weight], lr=0.01)
    mean, square = torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 4):
        weight.grad = gradient * step
        optimizer.step()
        if kind is KerasRMSprop:
            square = 0.9 * square + 0.1 * (gradient * step) ** 2
            expected -= 0.01 * gradient * step / (square + 1e-7).sqrt()
        else:
            mean = 0.9 * mean + 0.1 * gradient * step
            square = 0.999 * square + 0.001 * (gradient * step) ** 2
            rate = 0.01 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            expected -= rate * mean / (square.sqrt() + 1e-7)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 40])
def test_one_cycle_of_every_group(steps: int) -> None:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    schedule = one_cycle(optimizer, total_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    torch.testing.assert_close([r[0] / 10 for r in rates], [r[1] for r in rates])
    assert 0 <= rates[-1][0] < 1e-5
    if steps == 40:
        highest = rates.index(max(rates))
        assert highest == 9
        assert rates[0] == pytest.approx([0.04, 0.004])
        assert rates[highest] == pytest.approx([1, 0.1])
        assert rates[:10] == sorted(rates[:10])
        assert rates[9:] == sorted(rates[9:], reverse=True)
