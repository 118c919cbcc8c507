"""PublishedNet: a published architecture from timm under a head of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from discern.errors import UnknownName, UsageError
from discern.models.backbones import Published, load_weights
from discern.models.configuration import Activation, Share, Width
from discern.models.network import Network, classifier

_NECK = ("conv_head", "norm_head", "act2")  # what timm's MobileNetV3 has behind its pool, as part of its head

Pool = Literal["own", "avg", "max", "concat", "gem", "auto"]
_POWER, _LEAST = 3, 1e-6  # the exponent, and what a root can be taken of
_POOLS = {"avg": "avg", "max": "max", "concat": "catavgmax"}  # timm's names


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """An architecture and the head on it."""

    architecture: str
    """timm's name of it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the published weights want it to be built with besides its name."""
    input_size: int = 224
    """Side of the square it was designed for, pixels."""
    weights: str = "none"
    """'none' draws them; 'auto', a path or a repository on the hub begins with published ones."""
    pool: Pool = "own"
    """How a map becomes a vector: the architecture's own way (averages, mostly), averages, maxima, both side by side,
    or generalised means ('gem'), between the two: the bars of letterboxed pictures count for less. 'auto' is 'gem'
    where the architecture has one pool over a last map without negative values, else 'own'."""
    neck: bool = True
    """Whether the layer that MobileNetV3 has between its pool and its classifier stays; others stay as they are."""
    dense: tuple[Width, ...] = ()
    """Widths of the hidden linear layers after the pool."""
    activation: Activation = "relu"
    """After each of them."""
    batch_norm: bool = False
    """Batch norm between each of them and its activation."""
    dropout: Share = 0.0
    """Share of values dropped before the last linear layer."""
    l2: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Times the sum of the squared weights of the hidden linear layers is added to the loss."""

    @property
    def any_size(self) -> bool:
        """Whether its weights take images of other sizes."""
        import timm

        own = timm.get_pretrained_cfg(self.architecture)
        return own is None or not own.fixed_input_size

    def build(self, *, classes: int, size: int) -> PublishedNet:
        """The network, untrained."""
        return PublishedNet(self, classes=classes, size=size)


class GeneralizedMean(nn.Module):
    """The mean of the cubes of each channel, and its cube root (Radenovic, Tolias & Chum, 2019)."""

    def __init__(self, *, places: tuple[int, int] = (2, 3), keep: bool = True) -> None:
        super().__init__()
        self._places, self._keep = places, keep

    def forward(self, maps: Float[Tensor, "b i j k"]) -> Float[Tensor, "b ..."]:
        """In float32: cubes are large."""
        cubes = maps.float().clamp_min(_LEAST).pow(_POWER)
        return cubes.mean(self._places, keepdim=self._keep).pow(1 / _POWER)


class PublishedNet(Network):
    """The network of a PublishedConfig for a number of classes."""

    family = "published"

    def __init__(self, config: PublishedConfig, *, classes: int, size: int) -> None:
        import timm  # 2 seconds that other networks do not need
        from timm.models.mobilenetv3 import MobileNetV3

        super().__init__(config, classes=classes, size=size)
        if not timm.is_model(config.architecture):
            raise UnknownName("architecture", config.architecture, timm.list_models())
        pool: dict[str, Any] = {"global_pool": _POOLS[config.pool]} if config.pool in _POOLS else {}
        try:
            self.features = timm.create_model(config.architecture, num_classes=0, **config.arguments, **pool)
        except (TypeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"{config.architecture} cannot be built with pool '{config.pool}' ({error}); try pool 'own'."
            ) from error
        self._refuse_size(size)
        if config.pool in ("gem", "auto"):
            self._pool_by_means()
        told: Any = self.features
        width = int(told.head_hidden_size)
        if not config.neck and isinstance(self.features, MobileNetV3):
            for name in _NECK:
                setattr(self.features, name, nn.Identity())
            width = int(told.num_features) * (2 if config.pool == "concat" else 1)
        self.head = nn.Sequential(
            *classifier(
                width,
                config.dense,
                classes,
                activation=config.activation,
                batch_norm=config.batch_norm,
                dropout=config.dropout,
            )
        )

    def forward_features(self, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        """The last map, [b, c, i, j]; of a transformer its tokens."""
        maps: Tensor = self.features.forward_features(images)  # type: ignore[operator]
        return maps

    def as_map(self, maps: Tensor) -> Float[Tensor, "b c i j"]:
        """Tokens laid out as their patches lie in the image; channels first."""
        if maps.dim() == 4:
            channels_last = getattr(self.features, "output_fmt", "NCHW") == "NHWC"
            return maps.permute(0, 3, 1, 2) if channels_last else maps
        patches = maps[:, int(getattr(self.features, "num_prefix_tokens", 0)) :]  # behind the class token, if any
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).reshape(len(maps), -1, side, side)

    def pooled(self, maps: Tensor) -> Float[Tensor, "b feature"]:
        """What the head sees of the last map."""
        rows: Tensor = self.features.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return rows

    def forward_head(self, maps: Tensor) -> Float[Tensor, "b classes"]:
        """Logits from the last map."""
        logits: Tensor = self.head(self.pooled(maps))
        return logits

    def penalty(self) -> Tensor | float:
        """The L2 term of the hidden layers."""
        if not self.config.l2:
            return 0.0
        hidden = [layer for layer in self.head.children() if isinstance(layer, nn.Linear)][:-1]
        total: Tensor | float = self.config.l2 * sum(layer.weight.square().sum() for layer in hidden)
        return total

    def load_published(self, published: Published) -> None:
        """Take the architecture's weights; raises UsageError when they are of another one."""
        load_weights(self.features, published, without=() if self.config.neck else _NECK)

    def _pool_by_means(self) -> None:
        """Put generalised means where the architecture has its pool."""
        from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

        pools = [layer for layer in self.features.modules() if isinstance(layer, SelectAdaptivePool2d)]
        if self.config.pool == "auto" and (len(pools) != 1 or not self._never_negative()):
            return
        if len(pools) != 1:
            raise UsageError(f"{self.config.architecture} has no pool over its last map; take pool 'own'.")
        flat = getattr(pools[0].pool, "flatten", None)  # of pools for channels that come last
        channels_last = getattr(self.features, "output_fmt", "NCHW") == "NHWC"
        means = GeneralizedMean(places=(1, 2), keep=not flat) if channels_last else GeneralizedMean()
        pools[0].register_module("pool", means)

    @torch.no_grad()
    def _never_negative(self) -> bool:
        """Whether the last map ends in a rectifier, whatever the weights; a root needs what is not negative."""
        if next(self.features.parameters()).is_meta:
            return False  # an outline is counted, not run, and no pool has weights
        was = self.features.training
        with torch.random.fork_rng():
            torch.manual_seed(0)
            least = self.features.eval().forward_features(torch.randn(1, 3, self.size, self.size)).min()  # type: ignore[operator]
        self.features.train(was)
        return bool(least >= 0)

    def _refuse_size(self, size: int) -> None:
        config: Any = self.features.pretrained_cfg
        own = int(config["input_size"][-1])
        if config.get("fixed_input_size") and size != own:
            raise UsageError(f"{self.config.architecture} takes images of {own} pixels and no others: --size {own}.")
