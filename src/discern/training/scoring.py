"""Scores of a network on a split during training: what chooses checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn

from discern.data.dataset import Dataset
from discern.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a network says of a split."""

    loss: float
    """Mean cross-entropy, classes weighted."""
    accuracy: float
    """Share of images that are right."""
    losses: Float[Tensor, " image"]
    """Of each image, weighted by its class."""
    right: Float[Tensor, " image"]
    """1 for each image that is right."""


@torch.no_grad()
def scored(
    model: nn.Module,
    inputs: Iterable[Any],
    dataset: Dataset,
    weights: Float[Tensor, " class"],
    *,
    count: int,
    autocast: AbstractContextManager[None],
) -> Scores:
    """The scores of a model on a split's `inputs`, which come `count` at a time."""
    model.eval()
    total_loss, losses, right = 0.0, list[Tensor](), list[Tensor]()
    labels = torch.split(torch.from_numpy(dataset.labels), count)
    with autocast:
        for some, truth in zip(inputs, labels, strict=True):
            logits = model(some).float().cpu()
            total_loss += nn.functional.cross_entropy(logits, truth, weight=weights, reduction="sum").item()
            losses.append(nn.functional.cross_entropy(logits, truth, weight=weights, reduction="none"))
            right.append((logits.argmax(1) == truth).float())
    hits = torch.cat(right)
    return Scores(
        loss=total_loss / len(dataset),
        accuracy=int(hits.sum()) / len(dataset),
        losses=torch.cat(losses),
        right=hits,
    )


def gathered(scores: Scores, count: int, world: int) -> Scores:
    """The scores of a split of `count` images, of which every process has scored every world-th."""
    parts: list[Any] = gather_object([(scores.losses, scores.right)])
    losses, right = torch.empty(count), torch.empty(count)
    for rank, (some, hits) in enumerate(parts):
        losses[rank::world], right[rank::world] = some, hits
    return Scores(loss=losses.mean().item(), accuracy=right.mean().item(), losses=losses, right=right)


def class_weights(dataset: Dataset, recipe: Recipe) -> Float[Tensor, " class"]:
    """N / (classes x class size), as scikit-learn's 'balanced'; ones when the recipe does not balance."""
    counts = torch.bincount(torch.from_numpy(dataset.labels), minlength=len(dataset.classes)).float()
    return counts.sum() / (len(counts) * counts) if recipe.balance == "weights" else torch.ones_like(counts)


def beyond_chance(gains: Float[Tensor, " image"]) -> bool:
    """Whether the mean gain of an image is larger than its standard error."""
    return bool(gains.mean() > gains.std() / math.sqrt(len(gains)))
