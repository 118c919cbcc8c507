"""Muon: steps of equal length in every direction of a weight matrix (Jordan et al., 2024).

torch's own takes matrices alone; here a filter is one too, its outputs by all that it looks at, and what is no matrix
(biases, norms) is moved by AdamW, in the same optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the iteration, as published: they take small singular values up quickly
_ROUNDS = 5
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # AdamW's


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose every step is made orthogonal, with decoupled decay.

    Steps are as long as AdamW's usually are (Liu et al., 2025: 0.2 times the root of the larger side), so that rates
    and decays made for AdamW serve.
    """

    def __init__(self, params: Any, *, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; torch's `closure` is not supported."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                move = self._orthogonal if parameter.dim() > 1 else self._adam
                parameter.add_(move(parameter, parameter.grad, group), alpha=-group["lr"])

    def _orthogonal(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, momentum = self.state[parameter], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        matrix: Tensor = gradient.lerp(state["momentum"], momentum).flatten(1)
        step = orthogonal(matrix).view_as(parameter)
        return step.mul_(0.2 * math.sqrt(max(matrix.shape)))

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (first, second) = self.state[parameter], _BETAS
        if not state:
            state |= {
                "step": torch.zeros(()),
                "mean": torch.zeros_like(gradient),
                "square": torch.zeros_like(gradient),
            }
        state["step"] += 1
        count = state["step"].item()
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        deviation = (state["square"] / (1 - second**count)).sqrt_().add_(_EPSILON)
        step: Tensor = state["mean"] / (1 - first**count) / deviation
        return step


def orthogonal(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """About the nearest matrix whose singular values are equal: they come to lie between .7 and 1.2.

    By Newton-Schulz iteration in bfloat16, which needs products alone.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    found: Tensor = (matrix.T if tall else matrix).bfloat16()
    found = found / found.norm().clamp_min(1e-7)
    for _ in range(_ROUNDS):
        products = found @ found.T
        found = a * found + (b * products + c * products @ products) @ found
    return (found.T if tall else found).to(matrix.dtype)
