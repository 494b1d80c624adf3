"""Keras' RMSprop and Adam, which differ from PyTorch's in where epsilon stands.

Source: keras/src/optimizers/rmsprop.py and adam.py of Keras 3.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Adam, Optimizer


class KerasRMSprop(Optimizer):
    """RMSprop with epsilon inside the root: `v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + eps)`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        rho: Decay of the mean of squared gradients.
        eps: Epsilon.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, rho: float = 0.9, eps: float = 1e-7
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step and return the result of the closure."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if (gradient := weight.grad) is None:
                    continue
                if not (state := self.state[weight]):
                    state["square"] = torch.zeros_like(weight)
                square = state["square"].mul_(group["rho"])
                square.addcmul_(gradient, gradient, value=1 - group["rho"])
                root = (square + group["eps"]).sqrt_()
                weight.addcdiv_(gradient, root, value=-group["lr"])
        return loss


class KerasAdam(Adam):
    """Adam with Keras' epsilon: `w -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)`.

    PyTorch's Adam divides the root by `sqrt(1 - b2^t)` before it adds epsilon, so at step t it is
    given `eps / sqrt(1 - b2^t)`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the means of gradients and of squared gradients.
        eps: Keras' epsilon.
        fused: Use PyTorch's fused implementation. Lightning can't clip gradients for it with
            mixed precision.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, eps, fused=fused)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step and return the result of the closure."""
        for group in self.param_groups:
            group["t"] = group.get("t", 0) + 1
            eps = group.setdefault("keras_eps", group["eps"])
            group["eps"] = eps / (1 - group["betas"][1] ** group["t"]) ** 0.5
        return super().step(closure)
