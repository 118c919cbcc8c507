"""PublishedNet: a published architecture from timm, as far as its last map, under a small head of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from discern.errors import UnknownName
from discern.models.configuration import Activation, Share, Width
from discern.models.network import Network, classifier

_BEHIND_THE_POOL = (
    "conv_head",
    "norm_head",
    "act2",
)  # timm's MobileNetV3 has a layer there, which is part of its head


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """An architecture and the head on it."""

    architecture: str
    """timm's name of it."""
    input_size: int = 224
    """Side of the square it was designed for, pixels."""
    weights: str = "none"
    """'none' draws them; 'auto' or a path begins with published ones."""
    dense: tuple[Width, ...] = ()
    """Widths of the hidden linear layers after the global average pool."""
    activation: Activation = "relu"
    """After each of them."""
    dropout: Share = 0.0
    """Share of values dropped before the last linear layer."""

    any_size: ClassVar[bool] = True

    def build(self, *, classes: int, size: int) -> PublishedNet:
        """The network, untrained."""
        return PublishedNet(self, classes=classes, size=size)


class PublishedNet(Network):
    """The network of a PublishedConfig for a number of classes."""

    family = "published"

    def __init__(self, config: PublishedConfig, *, classes: int, size: int) -> None:
        import timm  # 2 seconds that other networks do not need
        from timm.models.mobilenetv3 import MobileNetV3

        super().__init__(config, classes=classes, size=size)
        if not timm.is_model(config.architecture):
            raise UnknownName("architecture", config.architecture, timm.list_models())
        self.features = timm.create_model(config.architecture, num_classes=0)
        if isinstance(self.features, MobileNetV3):
            for name in _BEHIND_THE_POOL:
                setattr(self.features, name, nn.Identity())
        width = int(self.features.num_features)  # type: ignore[arg-type]
        dense = classifier(width, config.dense, classes, activation=config.activation, dropout=config.dropout)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dense)

    def forward_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """The last map."""
        maps: Tensor = self.features.forward_features(images)  # type: ignore[operator]
        return maps

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Take the architecture's weights from its published state, named as timm names them."""
        self.features.load_state_dict({name: state[name] for name in self.features.state_dict()})
