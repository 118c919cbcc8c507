"""A bank: heads of one seed and shape side by side in a few tensors, and the arithmetic that trains them.

Each head is rounded as it would be alone: its products are its own, and it begins where a vector of the processor
does. Everything random is keyed by (seed, epoch, image).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from discern.data.keyed import permutation, uniform
from discern.training.optim import learning_rate
from discern.training.recipe import Recipe

if TYPE_CHECKING:
    from discern.training.heads import Head

ROWS = 1024
"""Images that are scored at once."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all heads have in common: see `train_heads`, and the weight of each class in the loss."""

    features: Float[np.ndarray, "view image feature"]
    labels: Int[Tensor, " image"]
    weights: Float[Tensor, " class"]
    val_features: Float[np.ndarray, "val feature"]
    val_labels: Int[Tensor, " val"]
    val_weights: Float[Tensor, " class"]
    epochs: int
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Heads of one seed and shape, side by side in every tensor; trained in place."""

    seed: int
    """Of all of them."""
    weights: list[Float[Tensor, "head out in"]]
    """Of each layer, the bias among them (see `_with_constant`), divided by the head's learning rate: measured so, all
    heads take AdamW steps of the same length, and torch's fused kernel, which knows one rate, moves them all."""
    rates: Float[Tensor, "head 1 1"]
    """What the weights are to be multiplied by."""
    decays: Float[Tensor, "head 1 1"]
    """Learning rate times weight decay."""
    dropout: Float64[Tensor, "share 1 1"]
    """Shares left out: of linear heads the one of all, as they have one input, else that of each head."""
    smoothing: Float[Tensor, "head 1 1"]
    """Of the labels."""


def fresh_bank(task: Task, heads: Sequence[Head]) -> Bank:
    """Weights and biases as nn.Linear draws them: uniform within 1 / sqrt(inputs)."""
    first, device = heads[0], task.labels.device

    def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)[:, None, None]

    rates, generator = column([head.learning_rate for head in heads]), torch.Generator().manual_seed(first.seed)
    sizes = [task.features.shape[2], *([first.hidden] if first.hidden else []), len(task.weights)]
    weights = []
    for inputs, outputs in pairwise(sizes):
        bound = inputs**-0.5
        weight, bias = (torch.empty(outputs, n).uniform_(-bound, bound, generator=generator) for n in (inputs, 1))
        drawn = _with_constant(weight)
        drawn[:, inputs] = bias[:, 0]
        weights.append(drawn.to(device) / rates)
    return Bank(
        seed=first.seed,
        weights=weights,
        rates=rates,
        decays=column([head.learning_rate * head.weight_decay for head in heads]),
        dropout=column([head.dropout for head in (heads if first.hidden else [first])], torch.float64),
        smoothing=column([head.label_smoothing for head in heads]),
    )


def _with_constant(values: Float[Tensor, "... width"]) -> Float[Tensor, "... padded"]:
    """With a 1 behind them, whose weight is the bias, and zeros up to a multiple of 16.

    So every head begins where a vector of the processor does; numbers that fill none may be rounded in another way.
    """
    width = values.shape[-1]
    padded = values.new_zeros(*values.shape[:-1], width // 16 * 16 + 16)
    padded[..., :width], padded[..., width] = values, 1
    return padded


def train_epoch(task: Task, bank: Bank, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """One pass over the training images: a step for each batch, decay first, as AdamW does."""
    steps = -(-len(task.labels) // task.batch_size)
    schedule = Recipe(learning_rate=1.0, epochs=task.epochs, schedule="cosine", warmup_epochs=1.0)
    for step, (inputs, truth, draws) in enumerate(_batches(task, bank, epoch), epoch * steps):
        optimizer.param_groups[0]["lr"] = rate = learning_rate(schedule, step, steps)
        _set_gradients(task, bank, inputs, truth, draws)
        for weight in bank.weights:
            weight.mul_(1 - rate * bank.decays)
        optimizer.step()


def _batches(
    task: Task, bank: Bank, epoch: int
) -> Iterator[tuple[Float[Tensor, "b feature"], Int[Tensor, " b"], Float64[Tensor, "b width"]]]:
    """The images of an epoch: features of a view, label, and numbers in [0, 1) that decide what is left out."""
    last = task.features.shape[2] if len(bank.weights) == 1 else bank.weights[0].shape[1]
    width, device = last if bank.dropout.any() else 0, task.labels.device
    order = permutation(bank.seed, epoch, len(task.labels))
    for start in range(0, len(order), task.batch_size):
        rows = order[start : start + task.batch_size]
        draws = uniform(bank.seed, epoch, rows.astype(np.uint64), 2 + width)  # the first of them made the order
        views = (draws[:, 1] * len(task.features)).astype(np.int64)
        inputs = torch.from_numpy(task.features[views, rows]).to(device).float()
        yield inputs, task.labels[rows], torch.from_numpy(draws[:, 2:]).to(device)


def _forward(
    bank: Bank, inputs: Float[Tensor, "b in"], kept: Float[Tensor, "head unit b"] | None = None
) -> tuple[Float[Tensor, "head class b"], Float[Tensor, "head b in"] | None, Float[Tensor, "head unit b"] | None]:
    """Logits; and, of heads that have them, hidden units and gates: what multiplies each unit and its gradient.

    `kept` is the dropout of hidden units: 0 or 1 / (1 - dropout).
    """
    weight, *last = bank.weights
    sums = _product(weight, inputs)
    if not last:
        return sums * bank.rates, None, None
    gates = (sums > 0) * bank.rates * (1 if kept is None else kept)
    units = _with_constant((sums * gates).mT)
    return _product(last[0], units) * bank.rates, units, gates


def _product(weight: Float[Tensor, "head out in"], inputs: Float[Tensor, "... b in"]) -> Float[Tensor, "head out b"]:
    """Each head's own, so that it is rounded as it is alone.

    One product for all heads would take half as long, but a training at a high rate makes much of the last bit.
    """
    return torch.bmm(weight, inputs.mT.expand(len(weight), -1, -1))


def _set_gradients(
    task: Task,
    bank: Bank,
    inputs: Float[Tensor, "b feature"],
    truth: Int[Tensor, " b"],
    draws: Float64[Tensor, "b width"],
) -> None:
    """Put into each weight's `grad` the gradient of its head's loss, with respect to the true weights."""
    kept, (weight, *last) = None, bank.weights
    if draws.shape[1]:
        kept = bank.dropout.le(draws.T) * (1 / (1 - bank.dropout)).float()
        inputs = inputs if last else inputs * kept[0].T
    inputs = _with_constant(inputs)
    logits, units, gates = _forward(bank, inputs, kept)
    slopes = _slopes(logits, truth, task.weights, bank.smoothing)
    if units is not None and gates is not None:
        last[0].grad = torch.bmm(slopes, units)
        slopes = torch.bmm(last[0][:, :, : gates.shape[1]].mT, slopes) * gates
    weight.grad = torch.bmm(slopes, inputs.expand(len(weight), -1, -1))


def _slopes(
    logits: Float[Tensor, "head class b"],
    truth: Int[Tensor, " b"],
    weights: Float[Tensor, " class"],
    smoothing: Float[Tensor, "head 1 1"],
) -> Float[Tensor, "head class b"]:
    """Gradient of nn.CrossEntropyLoss (weighted, smoothed, mean) with respect to the logits, for each head."""
    hard = (nn.functional.one_hot(truth, len(weights)) * weights[truth, None]).T
    target = hard * (1 - smoothing) + smoothing / len(weights) * weights[:, None]
    return (torch.softmax(logits, dim=1) * target.sum(dim=1, keepdim=True) - target) / hard.sum()


def score(task: Task, bank: Bank) -> tuple[Float64[Tensor, " head"], Float64[Tensor, " head"]]:
    """Validation loss and accuracy of each head."""
    device, count = task.labels.device, len(task.val_labels)
    loss, right = torch.zeros(2, len(bank.rates), dtype=torch.float64, device=device).unbind()
    for start in range(0, count, ROWS):
        rows = torch.from_numpy(task.val_features[start : start + ROWS].astype(np.float32)).to(device)
        truth = task.val_labels[start : start + ROWS]
        logits, _, _ = _forward(bank, _with_constant(rows))
        of_truth = torch.log_softmax(logits, dim=1)[:, truth, torch.arange(len(truth))]
        loss -= (of_truth * task.val_weights[truth]).double().sum(dim=1)
        right += (logits.argmax(dim=1) == truth).sum(dim=1)
    return loss.cpu() / count, right.cpu() / count


def class_weights(labels: Int[Tensor, " image"], classes: int, balance: bool) -> Float[Tensor, " class"]:
    """N / (classes x class size), as scikit-learn's 'balanced'; ones without balance."""
    counts = torch.bincount(labels, minlength=classes).float()
    return counts.sum() / (classes * counts) if balance else torch.ones_like(counts)


def state_of(task: Task, weights: list[Float[Tensor, "out in"]]) -> dict[str, Tensor]:
    """Weights and biases of a head under the names that they have in its network."""
    state, inputs = {}, task.features.shape[2]
    for layer, weight in zip((0, 3), weights, strict=False):
        state[f"{layer}.weight"] = weight[:, :inputs].contiguous().cpu()
        state[f"{layer}.bias"] = weight[:, inputs].contiguous().cpu()
        inputs = len(weight)
    return state
