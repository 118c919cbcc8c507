"""Augmentation of a training batch: one affine map per image, drawn by (seed, epoch, image).

Flip, shift, rotation and zoom are composed into one matrix and one interpolation. On a CPU OpenCV's
`warpAffine` applies it to the uint8 images; on a GPU `grid_sample` does, for the whole batch. Same
parameters, same picture: the two differ by rounding only (mean under one grey level, held by a test).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt64
from torch import Tensor

from discern.data import keyed

Batch = UInt8[np.ndarray, "batch size size 3"]
Affine = Float[np.ndarray, "batch 2 3"]

_DRAWS = 6  # random numbers per image: flip, vertical flip, shift x, shift y, angle, zoom


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images are varied; the default varies nothing."""

    flip: float = 0.0
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    shift: float = 0.0
    """Largest shift in each direction, as a share of the side."""
    rotate: float = 0.0
    """Largest rotation either way, degrees."""
    zoom: float = 0.0
    """Largest change of scale either way, as a share: 0.1 gives 0.9 to 1.1."""

    def __bool__(self) -> bool:
        return any((self.flip, self.vertical_flip, self.shift, self.rotate, self.zoom))

    def affine(self, *, seed: int, epoch: int, keys: UInt64[np.ndarray, " batch"], size: int) -> Affine:
        """For each image the matrix that takes output pixel coordinates (x, y, 1) to input (x, y)."""
        draws = keyed.uniform(seed, epoch, keys, _DRAWS)
        flip_x = np.where(draws[:, 0] < self.flip, -1.0, 1.0)
        flip_y = np.where(draws[:, 1] < self.vertical_flip, -1.0, 1.0)
        signed = 2 * draws[:, 2:] - 1
        shift_x, shift_y = signed[:, 0] * self.shift * size, signed[:, 1] * self.shift * size
        angle = np.deg2rad(signed[:, 2] * self.rotate)
        scale = 1 / (1 + signed[:, 3] * self.zoom)  # output to input, so enlarging samples a smaller region
        a, b = np.cos(angle) * scale, np.sin(angle) * scale
        linear = np.stack([np.stack([a * flip_x, -b * flip_y], 1), np.stack([b * flip_x, a * flip_y], 1)], 1)
        centre = (size - 1) / 2
        moved = np.full((len(keys), 2), centre) - np.stack([shift_x, shift_y], 1)
        offset = moved - linear @ np.full(2, centre)
        return np.concatenate([linear, offset[:, :, None]], axis=2)


def warp_cpu(images: Batch, affine: Affine) -> Batch:
    """Apply one affine map per image with OpenCV; edges are mirrored. Images stay uint8."""
    size = images.shape[1]
    result = np.empty_like(images)
    for row in range(len(images)):
        cv2.warpAffine(
            images[row],
            affine[row],
            (size, size),
            dst=result[row],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return result


def warp_device(images: UInt8[Tensor, "batch s s 3"], affine: Affine) -> UInt8[Tensor, "batch s s 3"]:
    """Apply one affine map per image with one grid_sample on the images' device; edges are mirrored."""
    size = images.shape[1]
    half = (size - 1) / 2
    # Pixel coordinates p = half * (g + 1); the same map between normalised coordinates g (align_corners=True).
    linear, offset = affine[:, :, :2], affine[:, :, 2]
    shifted = (offset + linear @ np.full(2, half) - half) / half
    theta = torch.from_numpy(np.concatenate([linear, shifted[:, :, None]], axis=2)).float().to(images.device)
    grid = torch.nn.functional.affine_grid(theta, [len(images), 3, size, size], align_corners=True)
    floats = images.permute(0, 3, 1, 2).float()
    warped = torch.nn.functional.grid_sample(floats, grid, padding_mode="reflection", align_corners=True)
    return warped.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)
