"""Network: what every network of the zoo is - two halves, and a record from which it is built again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models.configuration import ACTIVATIONS, Activation, plain


class Network(nn.Module):
    """A classifier of two halves, as timm's are: `forward` is `forward_head(forward_features(x))`.

    `features` goes as far as the last map that shows where things are, `head` from there to the logits; heat maps are
    taken between them.
    """

    family: ClassVar[str]
    """Which kind it is, in records."""
    features: nn.Module
    head: nn.Module

    def __init__(self, config: Any, *, classes: int, size: int) -> None:
        super().__init__()
        self.config, self.classes, self.size = config, classes, size

    def forward_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """The last map."""
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, maps: Float[Tensor, "b c i j"]) -> Float[Tensor, "b classes"]:
        """Logits from the last map."""
        logits: Tensor = self.head(maps)
        return logits

    def as_map(self, maps: Tensor) -> Float[Tensor, "b c i j"]:
        """What `forward_features` gives, or a gradient of it, as a map."""
        return maps

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Logits of a batch of normalised images; one image alone is normalised as others were."""
        with settled(self, alone=self.training and len(images) == 1):
            return self.forward_head(self.forward_features(images))

    learns_inputs: ClassVar[bool] = False
    """Whether `fit_inputs` has to be called before training."""

    def fit_inputs(self, images: Float[Tensor, "b 3 h w"]) -> None:
        """Look at normalised training images before the first step; most networks do not."""

    def penalty(self) -> Tensor | float:
        """What is added to the loss besides; nothing for most."""
        return 0.0

    def record(self) -> dict[str, Any]:
        """What is needed to build the same network again; plain values."""
        return {"family": self.family, "config": plain(self.config), "classes": self.classes, "size": self.size}


@contextmanager
def settled(model: nn.Module, *, alone: bool) -> Iterator[None]:
    """Batch norms use their running statistics: one image `alone` may have no variance, and torch refuses to train."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training] if alone else []
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def classifier(
    width: int,
    dense: Sequence[int],
    classes: int,
    *,
    activation: Activation | None,
    dropout: float,
    batch_norm: bool = False,
) -> list[nn.Module]:
    """From a vector to logits: linear layers, each followed by the activation; dropout before the last linear."""
    layers: list[nn.Module] = []
    for outputs in dense:
        layers.append(nn.Linear(width, outputs))
        layers += [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers += [ACTIVATIONS[activation]()] if activation else []
        width = outputs
    if dropout:
        layers.append(nn.Dropout(dropout))
    return [*layers, nn.Linear(width, classes)]


def parameter_count(model: nn.Module) -> int:
    """Weights and biases, frozen ones too."""
    return sum(p.numel() for p in model.parameters())


def trainable_count(model: nn.Module) -> int:
    """Weights and biases that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def keras_count(model: nn.Module) -> int:
    """Weights and biases plus batch-norm running means and variances, as Keras counts."""
    running = (b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return parameter_count(model) + sum(running)
