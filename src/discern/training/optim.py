"""Optimisers, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch

from discern.models.layers import layers
from discern.models.network import Network
from discern.training.recipe import Recipe

Group = dict[str, Any]
"""Parameters of one learning rate: `params`, and `factor`, their share of the recipe's rate."""


def build_optimizer(groups: list[Group], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over groups of parameters; torch's fused kernels, one pass over memory per step."""
    parameters, rate, decay = groups, recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9, nesterov=True, fused=True)


def groups_of(network: Network, trained: frozenset[str], layer_decay: float) -> list[Group]:
    """The trained parameters: the head's first, then each layer's, the last layer first, with ever smaller factors."""
    parameters = {name: value for name, value in network.named_parameters() if name in trained}
    if layer_decay == 1:
        return [{"params": list(parameters.values()), "factor": 1.0}]
    below = [[name for name in layer if name in parameters] for layer in reversed(layers(network))]
    layered = {name for layer in below for name in layer}
    groups = [[name for name in parameters if name not in layered], *below]
    return [
        {"params": [parameters[name] for name in names], "factor": layer_decay**depth}
        for depth, names in enumerate(groups)
        if names
    ]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over the whole run; a pure function, so a resumed run needs no state.

    Cosine: Loshchilov & Hutter, 2017, without restarts; warm-up is linear and comes before the schedule.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "cosine":
        total = recipe.epochs * steps_per_epoch - warmup
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / total)))
    if recipe.schedule == "exponential":
        return recipe.learning_rate * math.pow(recipe.gamma, (step - warmup) // steps_per_epoch)
    return recipe.learning_rate
