"""Changes of an image's colors and sharpness, one after the other, each image with changes and strengths of its own.

On a CPU OpenCV makes them, one uint8 image after another; on a GPU the images that are to have the same change have it
together. Same strengths, same picture: the two, and torchvision's functions of the same names, differ by rounding only
(at most one grey level, held by a test).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Batch = UInt8[np.ndarray, "b s s 3"]
Picture = UInt8[np.ndarray, "s s 3"]
Floats = Float[np.ndarray, "rows s 3"]
Levels = Float[Tensor, "b s s 3"]
Strengths = Float[Tensor, "b 1 1 1"]

_GREY = (0.299, 0.587, 0.114)  # of red, green and blue in the luma of ITU-R BT.601, as Pillow's and torchvision's
_LEVELS = np.arange(256, dtype=np.float64)
_PORTION = 8192  # pixels: as floats they stay in a core's cache, which makes a shift of hue seven times as fast
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's kernel, against which sharpness is meant


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is done to the colors of some images, one slot after the other."""

    kinds: Shaped[np.ndarray, "b slot"]
    """'none', 'brightness', 'contrast', 'saturation', 'hue', 'sharpness', 'posterize', 'solarize', 'autocontrast' or
    'equalize'."""
    strengths: Float[np.ndarray, "b slot"]
    """A factor, of which 1 changes nothing; for hue turns of the color circle, for posterize the bits that are kept,
    for solarize the grey level from which on levels are inverted; of no meaning for the last two."""

    def __bool__(self) -> bool:
        return bool((self.kinds != "none").any())


def change_cpu(images: Batch, changes: Changes) -> Batch:
    """The images after their changes, by OpenCV."""
    result = np.empty_like(images)
    for row, image in enumerate(images):
        changed = image
        for kind, strength in zip(changes.kinds[row], changes.strengths[row], strict=True):
            if kind != "none":
                changed = _ON_CPU[kind](changed, float(strength))
        result[row] = changed
    return result


def change_device(images: UInt8[Tensor, "b s s 3"], changes: Changes) -> UInt8[Tensor, "b s s 3"]:
    """The images after their changes, on their device."""
    result = images.clone()
    for kinds, strengths in zip(changes.kinds.T, changes.strengths.T, strict=True):
        for kind in sorted(set(kinds.tolist()) - {"none"}):
            some = kinds == kind
            rows = torch.from_numpy(np.flatnonzero(some)).to(images.device)
            strength = torch.from_numpy(strengths[some]).float().to(images.device)[:, None, None, None]
            changed = _ON_DEVICE[kind](result[rows].float(), strength)
            result[rows] = changed.round_().clamp_(0, 255).byte()
    return result


def blur_cpu(images: Batch, sigmas: Float[np.ndarray, " b"], side: int) -> Batch:
    """The images under a Gaussian of `side` pixels, each with a deviation of its own; edges are mirrored."""
    result = np.empty_like(images)
    for row, weights in enumerate(_gaussians(sigmas, side)):
        kernel = np.append(weights, 0.0)  # as it is lopsided now, OpenCV does not round its weights to 1/256
        cv2.sepFilter2D(
            images[row],
            -1,
            kernel,
            kernel,
            dst=result[row],
            anchor=(side // 2, side // 2),
            borderType=cv2.BORDER_REFLECT_101,
        )
    return result


def blur_device(
    images: UInt8[Tensor, "b s s 3"], sigmas: Float[np.ndarray, " b"], side: int
) -> UInt8[Tensor, "b s s 3"]:
    """The same on the images' device."""
    size, reach = images.shape[1], side // 2
    taps = torch.from_numpy(_gaussians(sigmas, side)).float().to(images.device)[:, :, None, None, None]
    mirrored = torch.from_numpy(np.pad(np.arange(size), reach, mode="reflect")).to(images.device)
    levels = images.float()
    for axis in (1, 2):
        wider = levels.index_select(axis, mirrored)
        levels = torch.zeros_like(levels)
        for tap in range(side):  # in this order whatever the batch, so that a picture does not depend on its company
            levels += taps[:, tap] * wider.narrow(axis, tap, size)
    return levels.round_().clamp_(0, 255).byte()


def _gaussians(sigmas: Float[np.ndarray, " b"], side: int) -> Float[np.ndarray, "b side"]:
    """Weights that sum to one."""
    weights: Float[np.ndarray, "b side"] = np.exp(-0.5 * ((np.arange(side) - side // 2) / sigmas[:, None]) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return weights


def _looked_up(image: Picture, levels: Float[np.ndarray, "256 ..."]) -> Picture:
    """Each grey level replaced, in all channels alike or in each by a column of its own."""
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    changed: Picture = cv2.LUT(image, table.reshape(256, 1, -1))
    return changed


def _brightness_cpu(image: Picture, factor: float) -> Picture:
    return _looked_up(image, factor * _LEVELS)


def _contrast_cpu(image: Picture, factor: float) -> Picture:
    return _looked_up(image, factor * _LEVELS + (1 - factor) * np.dot(cv2.mean(image)[:3], _GREY))


def _saturation_cpu(image: Picture, factor: float) -> Picture:
    mixed = factor * np.eye(3) + (1 - factor) * np.array([_GREY] * 3)
    return _by_portions(image, lambda part: cv2.transform(part, mixed))


def _hue_cpu(image: Picture, turns: float) -> Picture:
    def turned(part: Floats) -> Floats:
        circle: Floats = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
        circle[:, :, 0] += 360 * (turns % 1)
        return cv2.cvtColor(circle, cv2.COLOR_HSV2RGB)

    return _by_portions(image, turned)


def _by_portions(image: Picture, change: Callable[[Floats], Any]) -> Picture:
    """A change that needs floats, a few rows at a time."""
    changed = np.empty_like(image)
    rows = max(1, _PORTION // image.shape[1])
    for start in range(0, len(image), rows):
        part = change(image[start : start + rows].astype(np.float32))
        cv2.addWeighted(part, 1, part, 0, 0, dst=changed[start : start + rows], dtype=cv2.CV_8U)  # rounds, and clamps
    return changed


def _sharpness_cpu(image: Picture, factor: float) -> Picture:
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    changed: Picture = cv2.filter2D(image, -1, kernel)
    for edge in (np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:]):  # has not all its neighbors, and stays
        changed[edge] = image[edge]
    return changed


def _posterize_cpu(image: Picture, bits: float) -> Picture:
    changed: Picture = image & np.uint8(256 - 2 ** (8 - int(bits)))
    return changed


def _solarize_cpu(image: Picture, threshold: float) -> Picture:
    return _looked_up(image, np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS))


def _autocontrast_cpu(image: Picture, _: float) -> Picture:
    tables = []
    for counts in _histograms(image):
        lowest, highest = np.flatnonzero(counts)[[0, -1]]
        tables.append(_LEVELS if lowest == highest else (_LEVELS - lowest) * 255 / (highest - lowest))
    return _looked_up(image, np.stack(tables, 1))


def _equalize_cpu(image: Picture, _: float) -> Picture:
    """Levels to their rank, as Pillow does: the highest level counts for nothing, and a step is a whole number."""
    tables = []
    for counts in _histograms(image):
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.cumsum(counts) - counts
        tables.append(_LEVELS if step == 0 else (below + step // 2) // step)
    return _looked_up(image, np.stack(tables, 1).astype(np.float64))


def _histograms(image: Picture) -> Shaped[np.ndarray, "3 256"]:
    return np.stack([cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(np.int64) for c in range(3)])


def _grey(images: Levels) -> Float[Tensor, "b s s 1"]:
    red, green, blue = images[..., :1], images[..., 1:2], images[..., 2:]
    grey: Float[Tensor, "b s s 1"] = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    return grey


def _brightness(images: Levels, factor: Strengths) -> Levels:
    return factor * images


def _contrast(images: Levels, factor: Strengths) -> Levels:
    # Whole numbers: a sum of floats would depend on how it is split, and so on the size of the batch.
    sums = images.long().sum((1, 2), keepdim=True).float()
    return factor * images + (1 - factor) * _grey(sums / (images.shape[1] * images.shape[2]))


def _saturation(images: Levels, factor: Strengths) -> Levels:
    return factor * images + (1 - factor) * _grey(images)


def _hue(images: Levels, turns: Strengths) -> Levels:
    """A shift on the color circle of the hexcone model (Smith, 1978)."""
    red, green, blue = images[..., :1], images[..., 1:2], images[..., 2:]
    value = images.amax(3, keepdim=True)
    chroma = value - images.amin(3, keepdim=True)
    divisor = chroma.clamp(min=1)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # How far each channel is below the largest, by where the hue then is on the circle.
    around = (sixths + 6 * turns + torch.tensor([5.0, 3.0, 1.0], device=images.device)).remainder(6)
    return value - chroma * torch.minimum(around, 4 - around).clamp(0, 1)


def _sharpness(images: Levels, factor: Strengths) -> Levels:
    smooth, size = torch.zeros_like(images[:, 2:, 2:]), images.shape[1]
    for (down, across), weight in np.ndenumerate(_SMOOTH):
        smooth += weight * images[:, down : size - 2 + down, across : size - 2 + across]
    inside = images[:, 1:-1, 1:-1]
    images[:, 1:-1, 1:-1] = factor * inside + (1 - factor) * smooth
    return images


def _posterize(images: Levels, bits: Strengths) -> Levels:
    step = torch.exp2(8 - bits)
    return (images / step).floor() * step


def _solarize(images: Levels, threshold: Strengths) -> Levels:
    return torch.where(images >= threshold, 255 - images, images)


def _autocontrast(images: Levels, _: Strengths) -> Levels:
    lowest, highest = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    return torch.where(lowest == highest, images, (images - lowest) * 255 / (highest - lowest).clamp(min=1))


def _equalize(images: Levels, _: Strengths) -> Levels:
    """The same as _equalize_cpu."""
    levels = images.long().flatten(1, 2)
    counts = torch.zeros(len(images), 256, 3, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    highest = levels.amax(1, keepdim=True)
    step = (levels.shape[1] - counts.gather(1, highest)) // 255
    ranks = (counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)
    return torch.where(step[:, None] == 0, images, ranks.gather(1, levels).view_as(images).float())


_ON_CPU: dict[str, Callable[[Picture, float], Picture]] = {
    "brightness": _brightness_cpu,
    "contrast": _contrast_cpu,
    "saturation": _saturation_cpu,
    "hue": _hue_cpu,
    "sharpness": _sharpness_cpu,
    "posterize": _posterize_cpu,
    "solarize": _solarize_cpu,
    "autocontrast": _autocontrast_cpu,
    "equalize": _equalize_cpu,
}

_ON_DEVICE: dict[str, Callable[[Levels, Strengths], Levels]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
