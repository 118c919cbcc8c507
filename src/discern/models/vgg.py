"""VGG: VGG19's convolutions, whole or cut at a split point, under heads of one's own (reference system C).

VGG19 is Simonyan & Zisserman's, 2015, without batch norm. The heads are theirs who made system C: linear, activation,
batch norm, dropout. Published weights stay as they are: then only what stands on top of them is trained.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from discern.errors import UsageError
from discern.models.configuration import ACTIVATIONS, Activation, Kernel, Share, Width
from discern.models.network import Network

_VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Channels of its convolutions, 3 x 3 and padded by 1, each with a ReLU; max pools between the groups."""

_GRID = 7  # the side to which torchvision's VGG brings its last map, whatever the size of the image

Split = Literal[
    "conv1_1", "conv1_2",
    "conv2_1", "conv2_2",
    "conv3_1", "conv3_2", "conv3_3", "conv3_4",
    "conv4_1", "conv4_2", "conv4_3", "conv4_4",
    "conv5_1", "conv5_2", "conv5_3", "conv5_4",
]  # fmt: skip
"""VGG19's convolutions: group, then number in the group."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """VGG19's features and what stands on them."""

    input_size: int = 224
    """Side of the square it was designed for, pixels."""
    split: Split = "conv5_4"
    """The convolution after whose ReLU VGG19's features end."""
    weights: str = "none"
    """Of VGG19's features: 'none' draws and trains them; 'auto' or a path takes published ones, which stay frozen."""
    convolutions: tuple[tuple[Width, Kernel], ...] = ()
    """Channels and kernel of convolutions of one's own after the split, each padded to keep the side."""
    pool: Literal["grid", "max"] = "grid"
    """VGG19's own last max pool and 7 x 7 averages, or the maximum of the whole map."""
    dense: tuple[Width, ...] = (4096, 4096)
    """Widths of the hidden linear layers."""
    activation: Activation = "relu"
    """Of everything after the split."""
    dropout: Share = 0.1
    """Share of values dropped after each hidden linear layer."""

    architecture: ClassVar[str] = "vgg19"
    any_size: ClassVar[bool] = True

    def build(self, *, classes: int, size: int) -> VGG:
        """The network, untrained."""
        return VGG(self, classes=classes, size=size)


class VGG(Network):
    """The network of a VGGConfig for a number of classes."""

    family = "vgg"

    def __init__(self, config: VGGConfig, *, classes: int, size: int) -> None:
        super().__init__(config, classes=classes, size=size)
        halvings = int(config.split[4]) - 1 + (config.pool == "grid")
        if size < 2**halvings:
            raise UsageError(
                f"Images of {size} pixels are too small for this network: {halvings} halvings leave nothing; choose "
                f"at least {2**halvings} pixels."
            )
        published, channels = _published(config.split)
        own: list[nn.Module] = []
        for width, kernel in config.convolutions:
            own += [nn.Conv2d(channels, width, kernel, padding="same"), ACTIVATIONS[config.activation]()]
            channels = width
        self.features = nn.Sequential(OrderedDict(published=published, own=nn.Sequential(*own)))
        self.head = nn.Sequential(*_pools(config), nn.Flatten(), *_dense(config, channels, classes))
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # He et al., 2015: so deep a net needs it
                nn.init.zeros_(layer.bias)
        published.requires_grad_(config.weights == "none")

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Take VGG19's features from its published state, named as timm and torchvision name them."""
        published = self.features.get_submodule("published")
        published.load_state_dict({name: state[f"features.{name}"] for name in published.state_dict()})


def _published(split: str) -> tuple[nn.Sequential, int]:
    """VGG19's layers up to the ReLU of `split`, numbered as published, and the channels they give."""
    layers: list[nn.Module] = []
    channels = 3
    for group, widths in enumerate(_VGG19, start=1):
        for number, width in enumerate(widths, start=1):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
            if split == f"conv{group}_{number}":
                return nn.Sequential(*layers), channels
        layers.append(nn.MaxPool2d(2))
    raise ValueError(split)


def _pools(config: VGGConfig) -> list[nn.Module]:
    if config.pool == "max":
        return [nn.AdaptiveMaxPool2d(1)]
    return [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(_GRID)]


def _dense(config: VGGConfig, channels: int, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    width = channels * (_GRID**2 if config.pool == "grid" else 1)
    for outputs in config.dense:
        layers += [nn.Linear(width, outputs), ACTIVATIONS[config.activation](), nn.BatchNorm1d(outputs)]
        layers += [nn.Dropout(config.dropout)] * bool(config.dropout)
        width = outputs
    return [*layers, nn.Linear(width, classes)]
