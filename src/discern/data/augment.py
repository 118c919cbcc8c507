"""Augmentation of a training batch: what is varied in each image is drawn by (seed, epoch, image).

Flip, shift, rotation, zoom, shear and what a policy moves are composed into one matrix and one interpolation; then
come the changes of color of the policy, of the jitter, the blur and the erasing. On a CPU OpenCV works on the uint8
images; on a GPU all of a batch are worked on together. Same draws, same picture: the two differ by rounding only (mean
under one grey level, held by a test).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8, UInt64
from torch import Tensor

from discern.data import keyed, policies
from discern.data.color import Changes, blur_cpu, blur_device, change_cpu, change_device
from discern.data.erasing import Boxes, boxes, erase_cpu, erase_device
from discern.data.policies import Policy
from discern.errors import UsageError

Batch = UInt8[np.ndarray, "batch size size 3"]
Affine = Float[np.ndarray, "batch 2 3"]
Keys = UInt64[np.ndarray, " batch"]

SIGMA = (0.1, 2.0)
"""Range of the blur's standard deviation, pixels: torchvision's default for its GaussianBlur."""

_DRAWS = 7  # random numbers per image: flip, vertical flip, shift x, shift y, angle, zoom, shear
_JITTER = ("brightness", "contrast", "saturation", "hue")

# So that these draws are others than those of the maps.
_COLORS = np.uint64(0x589965CC75374CC3)
_TURNS = np.uint64(0x1D8E4E27C47D124F)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images are varied; the default varies nothing."""

    flip: float = 0.0
    """Probability of mirroring left and right."""
    alternate: bool = False
    """Mirror each image left and right in every second epoch (Jordan, 2024), whatever `flip` says, so that two epochs
    show both its sides; half of the images begin mirrored."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    shift: float = 0.0
    """Largest shift in each direction, as a share of the side; by whole pixels, which blurs nothing, unless images
    are rotated, zoomed or sheared too."""
    rotate: float = 0.0
    """Largest rotation either way, degrees."""
    zoom: float = 0.0
    """Largest change of scale either way, as a share: 0.1 gives 0.9 to 1.1."""
    shear: float = 0.0
    """Largest slant of upright lines either way, degrees."""
    brightness: float = 0.0
    """Largest change either way, as a share; this and the next three are done in an order drawn for each image."""
    contrast: float = 0.0
    """The same, about the mean grey of the image."""
    saturation: float = 0.0
    """The same, from grey to full color."""
    hue: float = 0.0
    """Largest shift either way, in turns of the color circle: 0.5 gives every hue."""
    blur: int = 0
    """Side of a Gaussian kernel, an odd number of pixels, whose deviation is drawn from 0.1 to 2; 0 blurs nothing."""
    erase: float = 0.0
    """Probability that a box of 2 to 40 % of the image is covered (random erasing, Zhong et al., 2020)."""
    policy: Policy = "none"
    """Operations drawn from a fixed list, as well: 'trivial' is TrivialAugment (Mueller & Hutter, 2021), one of any
    strength; 'rand' RandAugment (Cubuk et al., 2020), some of one strength."""
    policy_ops: int = 2
    """Operations on an image under policy 'rand'."""
    policy_strength: int = 9
    """Of them, from 0 to 30."""

    def __post_init__(self) -> None:
        if self.blur > 0 and self.blur % 2 == 0:
            raise UsageError(
                f"augment.blur = {self.blur} is not possible: a Gaussian kernel has a pixel in its middle; take an "
                f"odd number, such as {self.blur + 1}."
            )

    def __bool__(self) -> bool:
        return self._moves or self._jitters or self.blur > 0 or self.erase > 0

    @property
    def _moves(self) -> bool:
        flips = self.flip or self.alternate or self.vertical_flip
        return bool(flips or self.shift or self._bends or self.policy != "none")

    @property
    def _bends(self) -> bool:
        """Whether pixels come to lie between pixels anyway."""
        return bool(self.rotate or self.zoom or self.shear)

    @property
    def _jitters(self) -> bool:
        return any(getattr(self, name) for name in _JITTER)

    def apply(
        self, images: Batch, *, seed: int, epoch: int, keys: Keys, device: torch.device
    ) -> UInt8[Tensor, "batch size size 3"]:
        """The images varied, on the device; each the same whatever the others are."""
        variation = self.drawn(seed=seed, epoch=epoch, keys=keys, size=images.shape[1])
        if device.type == "cpu":
            return torch.from_numpy(varied_on_cpu(images, variation))
        return varied_on_device(torch.from_numpy(images).to(device), variation)

    def drawn(self, *, seed: int, epoch: int, keys: Keys, size: int) -> Variation:
        """What is to be done to images of `size` pixels."""
        of: dict[str, Any] = {"seed": seed, "epoch": epoch, "keys": keys}
        operations = self._operations(**of, size=size)
        steps = [operations.changes, self._jitter(**of)] if self._jitters else [operations.changes]
        sigma = keyed.uniform(seed, epoch, keys ^ _COLORS, 1)[:, 0]
        return Variation(
            affine=self.affine(**of, size=size) if self._moves else None,
            changes=Changes(
                kinds=np.concatenate([step.kinds for step in steps], 1),
                strengths=np.concatenate([step.strengths for step in steps], 1),
            ),
            blur=self.blur,
            sigmas=SIGMA[0] + sigma * (SIGMA[1] - SIGMA[0]),
            boxes=boxes(self.erase, **of, size=size),
        )

    def affine(self, *, seed: int, epoch: int, keys: Keys, size: int) -> Affine:
        """For each image the matrix that takes output pixel coordinates (x, y, 1) to input (x, y)."""
        draws = keyed.uniform(seed, epoch, keys, _DRAWS)
        flip_x = np.where(self._mirrored(draws[:, 0], seed=seed, epoch=epoch, keys=keys), -1.0, 1.0)
        flip_y = np.where(draws[:, 1] < self.vertical_flip, -1.0, 1.0)
        signed = 2 * draws[:, 2:] - 1
        shift_x, shift_y = signed[:, 0] * self.shift * size, signed[:, 1] * self.shift * size
        if not self._bends:
            most = int(self.shift * size + 1e-9)  # 0.29 of 100 pixels is a trifle under 29
            shift_x, shift_y = (np.floor(draws[:, 2:4] * (2 * most + 1)) - most).T
        angle = np.deg2rad(signed[:, 2] * self.rotate)
        scale = 1 / (1 + signed[:, 3] * self.zoom)  # output to input, so enlarging samples a smaller region
        a, b = np.cos(angle) * scale, np.sin(angle) * scale
        linear = np.stack([np.stack([a * flip_x, -b * flip_y], 1), np.stack([b * flip_x, a * flip_y], 1)], 1)
        if self.shear:
            linear[:, :, 1] += linear[:, :, 0] * np.tan(np.deg2rad(signed[:, 4] * self.shear))[:, None]
        centre = (size - 1) / 2
        moved = np.full((len(keys), 2), centre) - np.stack([shift_x, shift_y], 1)
        offset = moved - linear @ np.full(2, centre)
        affine = np.concatenate([linear, offset[:, :, None]], axis=2)
        return self._operations(seed=seed, epoch=epoch, keys=keys, size=size).joined(affine, size)

    def _mirrored(
        self, draws: Float[np.ndarray, " batch"], *, seed: int, epoch: int, keys: Keys
    ) -> Bool[np.ndarray, " batch"]:
        if not self.alternate:
            return draws < self.flip
        begins = keyed.uniform(seed, 0, keys ^ _TURNS, 1)[:, 0] < 0.5
        return begins ^ bool(epoch % 2)

    def _operations(self, *, seed: int, epoch: int, keys: Keys, size: int) -> policies.Operations:
        return policies.drawn(
            self.policy,
            count=self.policy_ops,
            strength=self.policy_strength,
            seed=seed,
            epoch=epoch,
            keys=keys,
            size=size,
        )

    def _jitter(self, *, seed: int, epoch: int, keys: Keys) -> Changes:
        """The four changes of each image in an order of its own."""
        draws = keyed.uniform(seed, epoch, keys ^ _COLORS, 1 + 2 * len(_JITTER))[:, 1:]
        most = np.array([getattr(self, name) for name in _JITTER])
        strengths = (2 * draws[:, : len(_JITTER)] - 1) * most
        strengths[:, :3] = np.maximum(1 + strengths[:, :3], 0)
        kinds = np.where(most > 0, _JITTER, "none")
        order = np.argsort(draws[:, len(_JITTER) :], axis=1)
        return Changes(kinds=kinds[order], strengths=np.take_along_axis(strengths, order, axis=1))


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What was drawn for some images, in the order in which it is done."""

    affine: Affine | None
    """Where each output pixel comes from; none where every pixel stays."""
    changes: Changes
    """Of the colors, the policy's before the jitter's."""
    blur: int
    """Side of the kernel; 0 blurs nothing."""
    sigmas: Float[np.ndarray, " batch"]
    """Of the blur, pixels."""
    boxes: Boxes
    """What is erased."""


def varied_on_cpu(images: Batch, variation: Variation) -> Batch:
    """The images after what was drawn for them, by OpenCV; where nothing was, the same array."""
    if variation.affine is not None:
        images = warp_cpu(images, variation.affine)
    if variation.changes:
        images = change_cpu(images, variation.changes)
    if variation.blur:
        images = blur_cpu(images, variation.sigmas, variation.blur)
    return erase_cpu(images, variation.boxes) if variation.boxes.any() else images


def varied_on_device(
    images: UInt8[Tensor, "batch size size 3"], variation: Variation
) -> UInt8[Tensor, "batch size size 3"]:
    """The same on the images' device."""
    if variation.affine is not None:
        images = warp_device(images, variation.affine)
    if variation.changes:
        images = change_device(images, variation.changes)
    if variation.blur:
        images = blur_device(images, variation.sigmas, variation.blur)
    return erase_device(images, variation.boxes) if variation.boxes.any() else images


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
