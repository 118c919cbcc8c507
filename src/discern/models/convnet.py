"""ConvNet: one configurable CNN that covers the plain nets trained from scratch.

    stages:  n x [convolution, batch norm, activation], max pool, dropout
    pool:    flatten, or global average / max
    head:    linear, activation, ..., dropout, linear

The features are the last convolution's map, before the last stage's max pool, so that heat maps taken there are as
fine as the network allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from discern.errors import UsageError
from discern.models.configuration import ACTIVATIONS, Activation, Kernel, Share, Width
from discern.models.network import Network, classifier

Widths = Annotated[tuple[Width, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """The shape of a ConvNet."""

    stages: Annotated[tuple[Widths, ...], Field(min_length=1)]
    """Output channels of each convolution, grouped by stage; every stage ends with a 2 x 2 max pool."""
    input_size: int
    """Side of the square it was designed for, pixels; the default when training."""
    kernel: Kernel = 3
    """Side of every convolution's kernel, pixels."""
    padding: Annotated[int, Field(ge=0, le=32)] = 1
    """Zeros added on each side before a convolution, pixels."""
    batch_norm: bool = True
    """Batch normalisation (Ioffe & Szegedy, 2015) with each convolution."""
    norm_last: bool = False
    """Normalise after the activation instead of before it, as Keras code with `Conv2D(activation=...)` does."""
    activation: Activation = "relu"
    """The non-linearity everywhere."""
    stage_dropout: Share = 0.0
    """Share of values dropped after each stage's pool."""
    pool: Literal["flatten", "avg", "max"] = "flatten"
    """How the last map becomes a vector; 'flatten' ties the net to one input size."""
    dense: tuple[Width, ...] = ()
    """Widths of the hidden linear layers."""
    dense_activation: bool = True
    """Whether the activation follows each hidden linear layer."""
    dropout: Share = 0.0
    """Share of values dropped before the last linear layer."""

    @property
    def any_size(self) -> bool:
        """Whether the same weights take images of other sizes."""
        return self.pool != "flatten"

    def build(self, *, classes: int, size: int) -> ConvNet:
        """The network, untrained."""
        return ConvNet(self, classes=classes, size=size)


@dataclass(frozen=True, kw_only=True)
class FlexibleConfig:
    """The few choices of system B's sweep, spelled as its authors do; what it builds is a ConvNet."""

    filters: Widths
    """Output channels of each convolution; a 2 x 2 max pool follows each."""
    input_size: int
    """Side of the square it was designed for, pixels; the default when training."""
    kernel: Kernel = 5
    """Side of every convolution's kernel, pixels; the padding is 1 whatever it is."""
    dropout: Share = 0.0
    """Share of values dropped between the two linear layers."""
    batch_norm: bool = True
    """Batch normalisation before each activation."""
    activation: Activation = "relu"
    """After each convolution; there is none between the linear layers."""
    dense: Width = 512
    """Width of the hidden linear layer."""

    any_size: ClassVar[bool] = False

    def build(self, *, classes: int, size: int) -> ConvNet:
        """The network, untrained; its record is a ConvNet's."""
        shape = ConvNetConfig(
            stages=tuple((width,) for width in self.filters),
            input_size=self.input_size,
            kernel=self.kernel,
            batch_norm=self.batch_norm,
            activation=self.activation,
            dense=(self.dense,),
            dense_activation=False,
            dropout=self.dropout,
        )
        return shape.build(classes=classes, size=size)


class ConvNet(Network):
    """The network of a ConvNetConfig for a number of classes at an input size."""

    family = "convnet"

    def __init__(self, config: ConvNetConfig, *, classes: int, size: int) -> None:
        super().__init__(config, classes=classes, size=size)
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


def _convolution(config: ConvNetConfig, inputs: int, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, config.kernel, padding=config.padding)]
    activation = ACTIVATIONS[config.activation]()
    if not config.batch_norm:
        return [*layers, activation]
    norm = nn.BatchNorm2d(outputs)
    return [*layers, activation, norm] if config.norm_last else [*layers, norm, activation]


def _head(config: ConvNetConfig, channels: int, side: int, classes: int) -> list[nn.Module]:
    pools = {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}
    layers: list[nn.Module] = [pools[config.pool]] if config.pool in pools else []
    width = channels if config.pool in pools else channels * side * side
    activation = config.activation if config.dense_activation else None
    return [
        *layers,
        nn.Flatten(),
        *classifier(width, config.dense, classes, activation=activation, dropout=config.dropout),
    ]
