"""Random erasing (Zhong et al., 2020): a box of some images is covered with their own mean color."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt64
from torch import Tensor

from discern.data import keyed

Boxes = Int[np.ndarray, "b 4"]

AREA = (0.02, 0.4)
"""Range of a box's share of the image; this and the next from the paper."""
ASPECT = (0.3, 1 / 0.3)
"""Range of a box's height over its width, drawn on a logarithmic scale: lying boxes are as likely as standing ones."""

_STREAM = np.uint64(0x8EBC6AF09C88C6E3)  # so that these draws are others than those of the rest of an augmentation
_TRIES = 10  # boxes until one fits: one in thirty does not, so one image in 10^14 keeps what it has


def boxes(share: float, *, seed: int, epoch: int, keys: UInt64[np.ndarray, " b"], size: int) -> Boxes:
    """Top, bottom, left and right of the box to be erased in that share of the images; empty in the others."""
    draws = keyed.uniform(seed, epoch, keys ^ _STREAM, 3 + 2 * _TRIES)
    tries = draws[:, 3:].reshape(len(keys), _TRIES, 2)
    area = (AREA[0] + tries[:, :, 0] * (AREA[1] - AREA[0])) * size**2
    aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** tries[:, :, 1]
    sides = np.rint(np.sqrt(np.stack([area * aspect, area / aspect], 2))).astype(int)
    fits = np.all(sides < size, axis=2)
    chosen = sides[np.arange(len(keys)), np.argmax(fits, axis=1)]
    erased = (draws[:, 0] < share) & np.any(fits, axis=1)
    starts = (draws[:, 1:3] * (size - chosen + 1)).astype(int)
    found = np.stack([starts, starts + chosen], 2).reshape(len(keys), 4)
    return np.where(erased[:, None], found, 0)


def erase_cpu(images: UInt8[np.ndarray, "b s s 3"], found: Boxes) -> UInt8[np.ndarray, "b s s 3"]:
    """The images with their boxes covered."""
    result = images.copy()
    for row in np.flatnonzero(found.any(1)):
        top, bottom, left, right = found[row]
        result[row, top:bottom, left:right] = np.rint(cv2.mean(images[row])[:3])
    return result


def erase_device(images: UInt8[Tensor, "b s s 3"], found: Boxes) -> UInt8[Tensor, "b s s 3"]:
    """The same on the images' device."""
    size = images.shape[1]
    place = torch.arange(size, device=images.device)
    top, bottom, left, right = torch.from_numpy(found).to(images.device)[:, :, None].unbind(1)
    down, across = (place >= top) & (place < bottom), (place >= left) & (place < right)
    # Whole numbers, so that the mean does not depend on the size of the batch.
    mean: Float[Tensor, "b 1 1 3"] = images.long().sum((1, 2), keepdim=True).float() / size**2
    return torch.where((down[:, :, None] & across[:, None, :])[:, :, :, None], mean.round().byte(), images)
