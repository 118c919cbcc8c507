"""ConvNet: one configurable CNN that covers every net trained from scratch.

    stages:  n x [convolution, batch norm, activation], max pool, dropout
    pool:    flatten, or global average / max
    head:    linear, activation, dropout, ..., linear

It speaks timm's protocol: `forward` is `forward_head(forward_features(x))`. The features are the last convolution's
map, before the last stage's max pool, so that heat maps taken there are as fine as the network allows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from discern.errors import UsageError

Activation = Literal["relu", "gelu"]
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """The shape of a ConvNet."""

    stages: tuple[tuple[int, ...], ...]
    """Output channels of each convolution, grouped by stage; every stage ends with a 2 x 2 max pool."""
    input_size: int
    """Side of the square it was designed for, pixels; the default when training."""
    kernel: int = 3
    """Side of every convolution's kernel, pixels."""
    padding: int = 1
    """Zeros added on each side before a convolution, pixels."""
    batch_norm: bool = True
    """Batch normalisation (Ioffe & Szegedy, 2015) with each convolution."""
    norm_last: bool = False
    """Normalise after the activation instead of before it, as Keras code with `Conv2D(activation=...)` does."""
    activation: Activation = "relu"
    """The non-linearity everywhere."""
    stage_dropout: float = 0.0
    """Share of values dropped after each stage's pool."""
    pool: Literal["flatten", "avg", "max"] = "flatten"
    """How the last map becomes a vector; 'flatten' ties the net to one input size."""
    dense: tuple[int, ...] = ()
    """Widths of the hidden linear layers."""
    dropout: float = 0.0
    """Share of values dropped before the last linear layer."""


class ConvNet(nn.Module):
    """The network of a ConvNetConfig for a number of classes at an input size."""

    def __init__(self, config: ConvNetConfig, *, classes: int, size: int) -> None:
        super().__init__()
        self.config, self.classes, self.size = config, classes, size
        layers: list[nn.Module] = []
        ending: list[nn.Module] = []  # of the stage before
        channels, side = 3, size
        for stage in config.stages:
            layers += ending
            for width in stage:
                layers += _convolution(config, channels, width)
                channels, side = width, side + 2 * config.padding - config.kernel + 1
            ending = [nn.MaxPool2d(2)] + [nn.Dropout(config.stage_dropout)] * bool(config.stage_dropout)
            side //= 2
        if side < 1:
            raise UsageError(
                f"Images of {size} pixels are too small for this network: {len(config.stages)} halvings leave "
                "nothing; choose a larger size."
            )
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(*ending, *_head(config, channels, side, classes))

    def forward_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """The last convolution's map."""
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, maps: Float[Tensor, "b c i j"]) -> Float[Tensor, "b classes"]:
        """Logits from the last convolution's map."""
        logits: Tensor = self.head(maps)
        return logits

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Logits of a batch of normalised images."""
        return self.forward_head(self.forward_features(images))

    def record(self) -> dict[str, Any]:
        """What is needed to build the same network again."""
        return {"config": asdict(self.config), "classes": self.classes, "size": self.size}


def convnet_from_record(record: dict[str, Any]) -> ConvNet:
    """The (untrained) network that `ConvNet.record` described."""
    config = dict(record["config"])
    config["stages"] = tuple(tuple(stage) for stage in config["stages"])
    config["dense"] = tuple(config["dense"])
    return ConvNet(ConvNetConfig(**config), classes=record["classes"], size=record["size"])


def _convolution(config: ConvNetConfig, inputs: int, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, config.kernel, padding=config.padding)]
    activation = _ACTIVATIONS[config.activation]()
    if not config.batch_norm:
        return [*layers, activation]
    norm = nn.BatchNorm2d(outputs)
    return [*layers, activation, norm] if config.norm_last else [*layers, norm, activation]


def _head(config: ConvNetConfig, channels: int, side: int, classes: int) -> list[nn.Module]:
    pools = {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}
    layers: list[nn.Module] = [pools[config.pool]] if config.pool in pools else []
    layers.append(nn.Flatten())
    width = channels if config.pool in pools else channels * side * side
    for dense in config.dense:
        layers += [nn.Linear(width, dense), _ACTIVATIONS[config.activation]()]
        width = dense
    if config.dropout:
        layers.append(nn.Dropout(config.dropout))
    return [*layers, nn.Linear(width, classes)]


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def keras_count(model: nn.Module) -> int:
    """Trainable numbers plus batch-norm running means and variances, as Keras counts."""
    running = (b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return parameter_count(model) + sum(running)


def count_on_meta(config: ConvNetConfig, *, classes: int, size: int) -> tuple[int, int]:
    """Parameter count and Keras count, without allocating the weights."""
    with torch.device("meta"):
        model = ConvNet(config, classes=classes, size=size)
    return parameter_count(model), keras_count(model)
