"""FastNet: a net for small images that learns in few steps.

    whitening:  convolution 2 x 2, its filters computed from the user's own images and frozen; activation
    groups:     [convolution, max pool, batch norm, activation, convolution, batch norm, activation]
    head:       global max pool, linear, logits scaled down

What makes it quick is public knowledge: whitened inputs (Coates & Ng, 2012), filters that begin as the identity
(Zagoruyko & Komodakis, 2017), batch norms without scales and small logits (the DAWNBench entries for CIFAR-10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from discern.errors import UsageError
from discern.models.configuration import ACTIVATIONS, Activation, Width
from discern.models.network import Network

_PATCH = 2  # pixels: larger patches have more directions in which there is nothing but noise
_DIRECTIONS = 3 * _PATCH**2

_FLOOR = 4e-5
"""Added to every direction's variance before dividing by its root, as a share of all variance: directions that hold
nothing (all of them but four in grey images) are not blown up."""

_NOTHING = 1e-9  # variance of images of one colour, up to rounding: there is nothing to whiten

_PORTION = 2**18  # pixels looked at together while whitening: 25 MB


@dataclass(frozen=True, kw_only=True)
class FastNetConfig:
    """The shape of a FastNet."""

    input_size: int = 32
    """Side of the square it was designed for, pixels."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (64, 128, 256)
    """Channels of each group, each of which halves the map; 64, 128, 256 for a CPU, 64, 256, 256 for a GPU."""
    activation: Activation = "gelu"
    """The non-linearity everywhere."""
    scale: Annotated[float, Field(gt=0, le=100)] = 1 / 9
    """Factor of the logits: small ones leave the first steps undecided, so that high learning rates do no harm."""
    mirrored: bool = False
    """Whether predictions are means over an image and its mirror image."""

    any_size: ClassVar[bool] = True

    def build(self, *, classes: int, size: int) -> FastNet:
        """The network, untrained."""
        return FastNet(self, classes=classes, size=size)


class FastNet(Network):
    """The network of a FastNetConfig for a number of classes."""

    family = "fast"
    learns_inputs = True

    def __init__(self, config: FastNetConfig, *, classes: int, size: int) -> None:
        super().__init__(config, classes=classes, size=size)
        if (size - _PATCH + 1) >> len(config.widths) < 1:
            raise UsageError(
                f"Images of {size} pixels are too small for this network: {len(config.widths)} halvings leave "
                "nothing; choose a larger size."
            )
        whitening = nn.Conv2d(3, 2 * _DIRECTIONS, _PATCH)
        _whiten(whitening, torch.eye(_DIRECTIONS), torch.zeros(_DIRECTIONS))  # patches as they are, until `fit_inputs`
        whitening.weight.requires_grad_(False)
        layers: list[nn.Module] = [whitening, ACTIVATIONS[config.activation]()]
        channels = 2 * _DIRECTIONS
        for width in config.widths:
            layers += _group(channels, width, config.activation)
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), _Scaled(channels, classes, config.scale))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Logits; of both sides of an image where the configuration says so, but not while training."""
        logits = super().forward(images)
        if self.config.mirrored and not self.training:
            logits = (logits + super().forward(images.flip(3))) / 2
        return logits

    @torch.no_grad()
    def fit_inputs(self, images: Float[Tensor, "b 3 h w"]) -> None:
        """Make the first convolution whiten patches like those of these images, some thousand for training.

        Its filters become the directions in which patches vary (eigenvectors of their covariance), each divided by
        the deviation along it, and their negatives. To be called once, before the first step, with normalised images;
        the same images give the same filters.
        """
        total = torch.zeros(_DIRECTIONS, dtype=torch.float64, device=images.device)
        products = torch.zeros(_DIRECTIONS, _DIRECTIONS, dtype=torch.float64, device=images.device)
        count = 0
        step = max(1, _PORTION // (images.shape[2] * images.shape[3]))
        for start in range(0, len(images), step):
            part = images[start : start + step]
            patches = nn.functional.unfold(part.float(), _PATCH).transpose(1, 2).reshape(-1, _DIRECTIONS).double()
            total += patches.sum(0)
            products += patches.T @ patches
            count += len(patches)
        mean = (total / count).cpu()
        covariance = (products / count).cpu() - mean.outer(mean)
        variances, vectors = torch.linalg.eigh(covariance)
        if variances.sum() < _NOTHING:
            return
        floor = _FLOOR * variances.sum()
        rows = vectors.T / (variances.clamp_min(0) + floor).sqrt()[:, None]
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        rows *= largest.sign()  # of a direction and its opposite, always the same one comes first
        _whiten(self.features.get_submodule("0"), rows, mean)


@torch.no_grad()
def _whiten(layer: nn.Module, rows: Float[Tensor, "12 12"], mean: Float[Tensor, " 12"]) -> None:
    filters = torch.cat([rows, -rows])
    layer.get_parameter("weight").copy_(filters.view(-1, 3, _PATCH, _PATCH))
    layer.get_parameter("bias").copy_(-(filters @ mean))


def _group(inputs: int, outputs: int, activation: Activation) -> list[nn.Module]:
    first, second = _identity(inputs, outputs), _identity(outputs, outputs)
    act = ACTIVATIONS[activation]
    return [first, nn.MaxPool2d(2), _norm(outputs), act(), second, _norm(outputs), act()]


def _identity(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that begins by passing its inputs on; outputs beyond them begin at random."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.detach()[:inputs])
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm whose scale stays 1: what follows has scales enough, and the bias is what learns quickly."""
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)
    return norm


class _Scaled(nn.Linear):
    """Logits times a constant."""

    def __init__(self, inputs: int, classes: int, scale: float) -> None:
        super().__init__(inputs, classes, bias=False)
        self.scale = scale

    def forward(self, rows: Float[Tensor, "b c"]) -> Float[Tensor, "b classes"]:
        """Small at first."""
        return super().forward(rows) * self.scale
