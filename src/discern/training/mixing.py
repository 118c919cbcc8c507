"""Mixing the images of a batch, and their labels alike: Mixup and CutMix, each image with a share of its own.

The partner of an image is the next of its batch, whose order is drawn anew every epoch. The share is drawn by (seed,
epoch, image), so it does not depend on what else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt64
from scipy.special import betaincinv
from torch import Tensor

from discern.data import keyed

_STREAM = np.uint64(0xD1B54A32D192ED03)  # so that these draws are others than those of the augmentation
_DRAWS = 4  # which of the two, share, and the centre of the box


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How the images of a batch are mixed; the default mixes nothing."""

    mixup: float = 0.0
    """Parameter alpha of the Beta distribution of shares for Mixup (Zhang et al., 2018); 0 leaves it out."""
    cutmix: float = 0.0
    """The same for CutMix (Yun et al., 2019); where both are given, half of the images get one, half the other."""

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def mix(
        self,
        images: Float[Tensor, "b 3 h w"],
        targets: Float[Tensor, "b classes"],
        *,
        seed: int,
        epoch: int,
        keys: UInt64[np.ndarray, " b"],
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b classes"]]:
        """Each image with a share of the next one, and its targets in the same proportion."""
        height, width = images.shape[-2:]
        draws = keyed.uniform(seed, epoch, keys ^ _STREAM, _DRAWS)
        cut = draws[:, 0] < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        shares = np.where(cut, _beta(self.cutmix, draws[:, 1]), _beta(self.mixup, draws[:, 1]))
        boxes, areas = _boxes(shares, draws[:, 2:], height, width)
        shares = np.where(cut, 1 - areas, shares)
        own = torch.from_numpy(shares).float().to(images.device)[:, None, None, None]
        inside = _inside(boxes, height, width, images.device)
        is_cut = torch.from_numpy(cut).to(images.device)[:, None, None, None]
        own = torch.where(is_cut, (~inside).float(), own.expand(-1, 1, height, width))
        others = images.roll(-1, 0)
        share = torch.from_numpy(shares).float().to(targets.device)[:, None]
        return (own * images + (1 - own) * others).to(images.dtype), share * targets + (1 - share) * targets.roll(
            -1, 0
        )


def _beta(alpha: float, draws: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    """Numbers distributed as Beta(alpha, alpha), from uniform ones."""
    if not alpha:
        return np.ones(len(draws))
    shares: Float[np.ndarray, " b"] = betaincinv(alpha, alpha, draws)
    return shares


def _boxes(
    shares: Float[np.ndarray, " b"], centres: Float[np.ndarray, "b 2"], height: int, width: int
) -> tuple[Float[np.ndarray, "b 4"], Float[np.ndarray, " b"]]:
    """Boxes (top, bottom, left, right) about the centres that would leave each share, cut off at the edge; areas."""
    side = np.sqrt(1 - shares)
    sides = []
    for place, length in ((centres[:, 0], height), (centres[:, 1], width)):
        centre, half = (place * length).astype(int), (side * length / 2).round().astype(int)
        sides += [np.clip(centre - half, 0, length), np.clip(centre + half, 0, length)]
    areas = (sides[1] - sides[0]) * (sides[3] - sides[2]) / (height * width)
    return np.stack(sides, 1), areas


def _inside(boxes: Float[np.ndarray, "b 4"], height: int, width: int, device: torch.device) -> Tensor:
    top, bottom, left, right = (torch.from_numpy(edge).to(device)[:, None] for edge in boxes.T)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    return (down[:, :, None] & across[:, None, :])[:, None]
