"""Averages of weights over the steps of a training: what is validated and chosen instead of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

State = Mapping[str, Tensor]


class Averages:
    """Weights followed at a distance: an exponential moving average, or the mean of the ends of epochs.

    `live` are the weights themselves, not copies. Batch norms' statistics are followed alike; counters are taken as
    they are.
    """

    def __init__(self, live: State) -> None:
        self._live = dict(live)
        self.followed = {name: value.detach().clone() for name, value in live.items()}

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move by this share of the way to the weights."""
        for name, value in self._live.items():
            if value.is_floating_point():
                self.followed[name].lerp_(value.detach(), share)
            else:
                self.followed[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averages for the length of the block."""
        own = {name: value.detach().clone() for name, value in self._live.items()}
        _copy(self.followed, self._live)
        try:
            yield
        finally:
            _copy(own, self._live)


class Lookahead:
    """Slow weights that go half way to the fast ones now and then, which then begin there (Zhang et al., 2019)."""

    def __init__(self, live: State) -> None:
        self._live = dict(live)
        self.slow = {name: value.detach().clone() for name, value in live.items()}

    @torch.no_grad()
    def meet(self, share: float = 0.5) -> None:
        """Slow weights move towards the fast ones by this share; fast ones go back to them."""
        for name, value in self._live.items():
            self.slow[name].lerp_(value, share)
        _copy(self.slow, self._live)


@torch.no_grad()
def _copy(source: State, target: State) -> None:
    for name, value in target.items():
        value.copy_(source[name])
