"""Exact: the best linear head on kept features for a given decay, which no number of steps would only come near to.

With an L2 term the loss of a linear layer has one minimum, so nothing is drawn and no rate is to be chosen: only the
decay, from strong to weak, each on its own. An epoch of this kind of training is one decay tried.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from discern.data.dataset import Dataset
from discern.models.network import Network
from discern.training.feeds import Feed, KeptFeed
from discern.training.losses import batch_loss, targets_of
from discern.training.phases import Phase
from discern.training.recipe import Recipe

_STRONGEST, _FACTOR = 3.0, 10**-0.5
"""The first decay to be tried, and what each next one is of it: two in a decade."""

_LARGEST = 1 << 31
"""Bytes of float32 features that are held in memory; more than that are trained on in steps."""

_ITERATIONS, _FLAT = 60, 3e-5
"""Of L-BFGS at most, and the largest gradient at which it ends; what more of them change is far below chance
(docs/decisions.md)."""

_FLOOR = 1e-3
"""Share of the mean deviation that is added to each feature's: what never varies is not blown up."""


def linear_head(network: Network) -> nn.Linear | None:
    """The layer that is all of the head's weights; none where the head has more of them."""
    layers = [layer for layer in network.head.modules() if next(layer.parameters(recurse=False), None) is not None]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def solvable(network: Network, feed: Feed | None, recipe: Recipe, dataset: Dataset) -> bool:
    """Whether there is one linear layer on kept features, few enough for the memory, and a loss with one minimum."""
    layer = linear_head(network)
    if layer is None or layer.bias is None or not isinstance(feed, KeptFeed) or recipe.loss != "cross_entropy":
        return False
    shapes, views = feed.activations.shapes, feed.activations.views + 1
    count = len(dataset.split("train")) * views * layer.in_features
    return shapes == ((layer.in_features,),) and 4 * count <= _LARGEST


def decay_of(phase: Phase, epoch: int) -> float:
    """The decay that is tried in an epoch of the phase, counted from 0; the phase's own where it has one."""
    return float(_STRONGEST * _FACTOR**epoch) if phase.weight_decay is None else phase.weight_decay


class Solver:
    """A head's task with its features in memory: all kept views of the training images, each of deviation 1."""

    def __init__(
        self, network: Network, feed: KeptFeed, dataset: Dataset, *, weights: Float[Tensor, " class"], smoothing: float
    ) -> None:
        layer = linear_head(network)
        assert layer is not None, "the caller has asked `solvable`"
        self._layer, self._weights, self._smoothing = layer, weights, smoothing
        self._labels = torch.from_numpy(dataset.labels).to(weights.device)
        self._rows = feed.every_view(dataset)  # [view * image, feature]
        self._mean, deviation = self._rows.mean(dim=0), self._rows.std(dim=0)
        self._deviation = deviation + _FLOOR * deviation.mean()
        self._rows.sub_(self._mean).div_(self._deviation)
        truth = self._labels.repeat(len(self._rows) // len(self._labels))
        self._targets, self._total = targets_of(truth, len(dataset.classes)), weights[truth].sum()

    def solve(self, decay: float) -> tuple[float, float]:
        """Put into the head what minimises the mean loss of all views plus `decay` / 2 times the squared weights.

        Returns the loss without the decay, and the share of the plain images that is right. What was solved for before
        plays no part, so that a training that goes on finds the same.
        """
        layer = self._layer
        matrix = torch.zeros_like(layer.weight, requires_grad=True)
        bias = torch.zeros_like(layer.bias, requires_grad=True)
        search = torch.optim.LBFGS(
            [matrix, bias], max_iter=_ITERATIONS, history_size=10, tolerance_grad=_FLAT, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            search.zero_grad()
            whole = self._loss(self._rows @ matrix.T + bias) + decay / 2 * matrix.square().sum()
            whole.backward()  # type: ignore[no-untyped-call]
            return whole

        search.step(objective)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            logits = self._rows @ matrix.T + bias
            layer.weight.copy_(matrix / self._deviation)
            layer.bias.copy_(bias - layer.weight @ self._mean)
            right = (logits[: len(self._labels)].argmax(dim=1) == self._labels).float().mean()
            return self._loss(logits).item(), right.item()

    def _loss(self, logits: Float[Tensor, "row class"]) -> Float[Tensor, ""]:
        return batch_loss(logits, self._targets, weights=self._weights, total=self._total, smoothing=self._smoothing)
