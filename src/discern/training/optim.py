"""Optimisers, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from discern.training.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters; torch's fused kernels, one pass over memory per step."""
    parameters = list(model.parameters())
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9, nesterov=True, fused=True)


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
