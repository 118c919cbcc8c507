"""Optimisers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models.layers import layers
from discern.models.network import Network
from discern.training.muon import Muon
from discern.training.recipe import Recipe

Group = dict[str, Any]
"""Parameters of one learning rate: `params`, `factor`, their share of the recipe's rate, perhaps `weight_decay`."""

_RISE, _START, _END = 0.3, 25.0, 1e4  # of one-cycle: share of steps that rise, and what the first and last rates are


def build_optimizer(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over groups of parameters; torch's fused kernels, one pass over memory per step."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, amsgrad=recipe.amsgrad, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay, amsgrad=recipe.amsgrad, fused=True)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=rate, weight_decay=decay)
    momentum = recipe.momentum
    return torch.optim.SGD(groups, lr=rate, weight_decay=decay, momentum=momentum, nesterov=momentum > 0, fused=True)


def groups_of(network: Network, trained: frozenset[str], recipe: Recipe, *, layer_decay: float = 1.0) -> list[Group]:
    """The trained parameters: the head's first, then each layer's, the last layer first, with ever smaller factors.

    Biases of batch norms are apart where they have a rate of their own; what decays them is divided by it.
    """
    parameters = {name: value for name, value in network.named_parameters() if name in trained}
    below = [[name for name in layer if name in parameters] for layer in reversed(layers(network))]
    layered = {name for layer in below for name in layer}
    depths = [[name for name in parameters if name not in layered], *below]
    if layer_decay == 1:
        depths = [list(parameters)]
    quick = set(_norm_biases(network)) if recipe.bias_rate != 1 else set()
    groups = []
    for depth, names in enumerate(depths):
        for own, factor in (
            ([name for name in names if name not in quick], 1.0),
            ([name for name in names if name in quick], recipe.bias_rate),
        ):
            group: Group = {"params": [parameters[name] for name in own], "factor": layer_decay**depth * factor}
            if factor != 1:
                group["weight_decay"] = recipe.weight_decay / factor
            groups += [group] if own else []
    return groups


def _norm_biases(network: nn.Module) -> Iterator[str]:
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            yield f"{name}.bias"


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, *, drops: int = 0) -> float:
    """The rate of a step, counted from 0 over the whole run; a pure function, so a resumed run needs no state.

    A linear warm-up comes before the schedule. Cosine: Loshchilov & Hutter, 2017, without restarts; linear: to zero,
    with the warm-up a triangle; one-cycle: Smith & Topin, 2018, its own rise instead of the warm-up; step and
    exponential: times gamma every few epochs, or every one; plateau: times gamma at each of the `drops` so far.
    """
    peak, total = recipe.learning_rate, recipe.epochs * steps_per_epoch
    if recipe.schedule == "onecycle":
        return peak * _one_cycle(step, total)
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    epoch, share = (step - warmup) // steps_per_epoch, min(1.0, (step - warmup) / max(1.0, total - warmup))
    if recipe.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * share))
    if recipe.schedule == "linear":
        return peak * (1 - share)
    turns = {"exponential": epoch, "step": epoch // recipe.step_epochs, "plateau": drops}.get(recipe.schedule, 0)
    return peak * math.pow(recipe.gamma, turns)


def _one_cycle(step: int, total: int) -> float:
    """Share of the peak: half a cosine up from 1 / 25, half a cosine down to a ten-thousandth of that."""
    top = _RISE * total - 1
    if step <= top or top >= total - 1:
        low, share = 1 / _START, step / max(top, 1e-9)
    else:
        low, share = 1 / _START / _END, 1 - (step - top) / (total - 1 - top)
    return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * min(share, 1.0)))
