"""Keras' RMSprop and Adam, which differ from PyTorch's in where epsilon stands.

Source: keras/src/optimizers/rmsprop.py and adam.py of Keras 3. The golden figures in
tests/golden tell the two apart.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class KerasRMSprop(Optimizer):
    """RMSprop with epsilon inside the root: `v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + eps)`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        rho: Weight of the past in the mean of squared gradients.
        eps: Epsilon.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, rho: float = 0.9, eps: float = 1e-7
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            squares = [self._square(weight) for weight in weights]
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["rho"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(weights, gradients, roots, -group["lr"])
        return loss

    def _square(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["square"] = torch.zeros_like(weight)
        square: Tensor = state["square"]
        return square


class KerasAdam(Optimizer):
    """Adam with Keras' epsilon: `w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)`.

    PyTorch's fused Adam divides the root by `sqrt(1 - b2^t)` before it adds epsilon, so it is
    given `eps / sqrt(1 - b2^t)` in its place. It is called here as such, as the optimiser around
    it asks the driver for a GPU at every step, which takes as long as the step of an MLP.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Weights of the past in the means of gradients and of squared gradients.
        eps: Epsilon.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
    ) -> None:
        # PyTorch loads the steps of an optimiser that says it is fused onto the weights' device.
        defaults = {"lr": lr, "betas": betas, "keras_eps": eps, "t": 0, "fused": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["t"] += 1
            beta1, beta2 = group["betas"]
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            states = [self._state(weight) for weight in weights]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                weights,
                [weight.grad for weight in weights],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=group["keras_eps"] / (1 - beta2 ** group["t"]) ** 0.5,
                amsgrad=False,
                maximize=False,
            )
        return loss

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(weight) for _ in range(2))
        return state
