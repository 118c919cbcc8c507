"""Statistics: what a picture looks like in numbers, computed in the one pass over every image.

All but sharpness come from a small squashed view, for a portion of images at once.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from discern.data.signature import VIEW, signatures

Rgb = UInt8[np.ndarray, "height width 3"]
Views = UInt8[np.ndarray, "n side side 3"]

_SHARP_SIDE = 128
"""Pixels of the longer side at which sharpness is measured; smaller pictures are not enlarged."""

_UNIFORM = 8
"""Grey levels between the darkest and the brightest pixel of a row that belongs to a border."""


def view(picture: Rgb) -> UInt8[np.ndarray, "side side 3"]:
    """The whole picture squashed to a small square."""
    height, width = picture.shape[:2]
    method = cv2.INTER_AREA if min(height, width) >= VIEW else cv2.INTER_LINEAR
    return cv2.resize(picture, (VIEW, VIEW), interpolation=method)


def sharpness(picture: Rgb) -> float:
    """Deviation of the Laplacian over the deviation of the grey levels (after Pech-Pacheco et al., 2000).

    Under 0.1 a picture looks out of focus at any size; about 1 is usual. A picture without contrast counts as 0.
    """
    height, width = picture.shape[:2]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = _SHARP_SIDE / max(height, width)
    if scale < 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, shape, interpolation=cv2.INTER_AREA)
    spread = cv2.meanStdDev(grey)[1].item()
    if spread < 1:
        return 0.0
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1].item() / spread)


def statistics(views: Views) -> dict[str, np.ndarray]:
    """One array per column of dataset.FACTS that a view tells: brightness, contrast, hash, ..."""
    n = len(views)
    grey = cv2.cvtColor(views.reshape(n * VIEW, VIEW, 3), cv2.COLOR_RGB2GRAY).reshape(n, VIEW, VIEW)
    histogram = _histograms(grey)
    share = histogram / VIEW**2
    levels = np.arange(256)
    mean = share @ levels
    contrast = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    cumulated = share.cumsum(axis=1)
    signature, hashes = signatures(grey)
    found = {
        "brightness": mean / 255,
        "contrast": contrast / 255,
        "low": (cumulated < 0.05).sum(axis=1) / 255,
        "high": (cumulated < 0.95).sum(axis=1) / 255,
        "entropy": -(share * logs).sum(axis=1),
        "colorfulness": _colorfulness(views),
        "border": _border(grey),
    }
    return {name: values.astype(np.float32) for name, values in found.items()} | {
        "signature": signature,
        "hash": hashes,
    }


def _histograms(grey: UInt8[np.ndarray, "n side side"]) -> Float[np.ndarray, "n 256"]:
    n = len(grey)
    shifted = grey.reshape(n, -1) + np.arange(n, dtype=np.int32)[:, None] * 256
    return np.bincount(shifted.reshape(-1), minlength=n * 256).reshape(n, 256).astype(np.float64)


def _colorfulness(views: Views) -> Float[np.ndarray, " n"]:
    """Hasler & Suesstrunk (2003): deviation plus 0.3 x mean of the two opponent colours, over 255; 0 for grey."""
    channels = views[:, ::2, ::2].reshape(len(views), -1, 3).astype(np.float32)  # a quarter of the pixels tells it
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    across, along = red - green, (red + green) / 2 - blue
    deviation = np.hypot(across.std(axis=1), along.std(axis=1))
    distance = np.hypot(across.mean(axis=1), along.mean(axis=1))
    return np.asarray((deviation + 0.3 * distance) / 255, np.float64)


def _border(grey: UInt8[np.ndarray, "n side side"]) -> Float[np.ndarray, " n"]:
    """Share of the area that uniform rows and columns at the edges take, as letterboxes and frames do."""
    inside = np.ones(len(grey))
    for axis in (1, 2):
        uniform = np.ptp(grey, axis=3 - axis) <= _UNIFORM  # of every row, then of every column
        before = np.where(uniform.all(axis=1), VIEW, np.argmin(uniform, axis=1))
        after = np.where(uniform.all(axis=1), 0, np.argmin(uniform[:, ::-1], axis=1))
        inside *= (VIEW - before - after) / VIEW
    return 1 - inside
