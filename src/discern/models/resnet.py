"""ResNet: the residual networks of He et al., 2016, made of basic blocks, with weights of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from discern.models.configuration import Width
from discern.models.network import Network

_STEM = 64  # channels of the first convolution


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The shape of a ResNet; the defaults are ResNet-18's."""

    input_size: int = 224
    """Side of the square it was designed for, pixels."""
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1)] = (2, 2, 2, 2)
    """Blocks in each stage; every stage but the first begins by halving the map."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (64, 128, 256, 512)
    """Channels of each stage."""

    any_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.widths):
            raise ValueError("blocks and widths name the same stages, so they must be as many")

    def build(self, *, classes: int, size: int) -> ResNet:
        """The network, untrained."""
        return ResNet(self, classes=classes, size=size)


class ResNet(Network):
    """The network of a ResNetConfig for a number of classes."""

    family = "resnet"

    def __init__(self, config: ResNetConfig, *, classes: int, size: int) -> None:
        super().__init__(config, classes=classes, size=size)
        layers: list[nn.Module] = [
            nn.Conv2d(3, _STEM, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(_STEM),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = _STEM
        for stage, (blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            for block in range(blocks):
                layers.append(_Block(channels, width, stride=2 if stage and not block else 1))
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al., 2015
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class _Block(nn.Module):
    """Two convolutions, and their input added to what they give."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut.extend([nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)])
        self.activation = nn.ReLU()

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Maps of `outputs` channels, smaller by the stride."""
        result: Tensor = self.activation(self.change(maps) + self.shortcut(maps))
        return result
