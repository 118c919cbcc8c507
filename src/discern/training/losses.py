"""Losses of a batch of logits, for labels that may be mixed or smoothed."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int64
from torch import Tensor, nn

Loss = Literal["cross_entropy", "focal"]


def targets_of(labels: Int64[Tensor, " b"], classes: int) -> Float[Tensor, "b classes"]:
    """All of an image's share on its class."""
    return nn.functional.one_hot(labels, classes).float()


def batch_loss(
    logits: Float[Tensor, "b classes"],
    targets: Float[Tensor, "b classes"],
    *,
    weights: Float[Tensor, " classes"],
    total: Float[Tensor, ""],
    smoothing: float = 0.0,
    focus: float = 0.0,
) -> Float[Tensor, ""]:
    """The loss of images, classes weighted, divided by `total`; `targets` are each image's shares of the classes.

    With the sum of the weights of the images' classes as `total` it is torch's cross_entropy with `weight` and
    `label_smoothing`. With a `focus` above 0 each class's term is multiplied by (1 - p) ** focus, so that what is
    known already counts less (focal loss, Lin et al., 2017).
    """
    smoothed = targets * (1 - smoothing) + smoothing / targets.shape[1]
    logs = logits.log_softmax(dim=1)
    terms = smoothed * logs * weights
    if focus:
        terms = terms * (1 - logs.exp()).clamp_min(1e-12) ** focus  # a root of zero has no gradient
    return -terms.sum() / total
