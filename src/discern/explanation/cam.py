"""Grad-CAM: where in the image the evidence for a class lies (Selvaraju et al., 2017).

The network runs forward once without gradients up to its last map; only its head is differentiated, for the whole
batch at once on the device.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class Explainable(Protocol):
    """A network in two halves, as every network of the zoo (and of timm) is."""

    def forward_features(self, images: Tensor) -> Tensor:
        """The last map, or tokens, as the network lays them out."""
        ...

    def forward_head(self, maps: Tensor) -> Tensor:
        """Logits, b x classes."""
        ...

    def as_map(self, maps: Tensor) -> Tensor:
        """What `forward_features` gives, or a gradient of its shape, as b x c x i x j."""
        ...


def grad_cam(
    model: nn.Module, images: Float[Tensor, "b 3 h w"], targets: Int64[Tensor, " b"]
) -> Float[Tensor, "b h w"]:
    """One heat map in [0, 1] per normalised image for its target class, as large as the image.

    A map's highest value is 1, unless nothing speaks for the class: then it is zero everywhere. The mode (training or
    inference) of every layer is left as it was; the map is always made in inference mode.
    """
    halves = cast(Explainable, model)
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            maps = halves.forward_features(images)
        with torch.enable_grad():
            maps = maps.detach().requires_grad_()
            logits = halves.forward_head(maps)
            (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), maps)
    finally:
        for layer, mode in modes.items():  # one by one: frozen layers stand in inference mode in a training model
            layer.training = mode
    maps, gradients = halves.as_map(maps.detach()), halves.as_map(gradients)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    heat = torch.relu((weights * maps).sum(dim=1, keepdim=True))
    heat = nn.functional.interpolate(heat, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, heat / highest.clamp_min(torch.finfo(heat.dtype).tiny), heat)
