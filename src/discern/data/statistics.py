"""Statistics: what a picture looks like in numbers, computed in the one pass over every image.

Of each picture a few small extracts are made; the numbers then come from those of many pictures at once.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from discern.data.decode import LONGER, resized
from discern.data.duplicates.signature import VIEW, signatures

Rgb = UInt8[np.ndarray, "height width 3"]
Grey = UInt8[np.ndarray, "height width"]
Views = UInt8[np.ndarray, "n side side"]
Samples = UInt8[np.ndarray, "n sampled sampled 3"]

SAMPLED = 32
"""Pixels in each direction that the colours are taken from: a thousand tell them."""

_BLACK, _WHITE = 20, 235
"""Grey levels of the bars that letterboxes, padding and scanners leave, give and take compression."""

LEAST_INSIDE = 16
"""Pixels between bars, of LONGER, under which a strip has too little in it to tell copies from look-alikes."""

_UNIFORM = 8
"""Grey levels between the darkest and the brightest pixel of a row that belongs to a border."""


def shrunk(picture: Rgb) -> Grey:
    """The picture in grey, its longer side LONGER pixels: sharpness depends on it. Smaller ones are not enlarged."""
    height, width = picture.shape[:2]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = LONGER / max(height, width)
    if scale >= 1:
        return grey
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return resized(grey, *shape)


def view(grey: Grey) -> UInt8[np.ndarray, "side side"]:
    """All of it squashed to a small square."""
    return resized(grey, VIEW, VIEW)


def edged(views: Views) -> Bool[np.ndarray, " n"]:
    """Whether an edge is of nothing but black or white, so that a bar may be there."""
    edges = np.stack([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]])
    bars: Bool[np.ndarray, "4 n"] = (edges.max(axis=-1) <= _BLACK) | (edges.min(axis=-1) >= _WHITE)
    return np.asarray(bars.any(axis=0))


def inside_bars(grey: Grey) -> tuple[slice, slice]:
    """Rows and columns of a picture within black or white bars, such as letterboxes and padding leave.

    Copies with and without them are copies, and pictures that share nothing but bars are none.
    """
    if not any(edge.max() <= _BLACK or edge.min() >= _WHITE for edge in (grey[0], grey[-1], grey[:, 0], grey[:, -1])):
        return slice(None), slice(None)
    found = []
    for axis in (1, 0):
        bar = (grey.max(axis=axis) <= _BLACK) | (grey.min(axis=axis) >= _WHITE)
        start, stop = int(np.argmin(bar)), len(bar) - int(np.argmin(bar[::-1]))
        if bar.all():
            return slice(None), slice(None)
        found.append(slice(start, stop))
    return found[0], found[1]


def sample(picture: Rgb) -> UInt8[np.ndarray, "sampled sampled 3"]:
    """Pixels spread evenly over it."""
    return cv2.resize(picture, (SAMPLED, SAMPLED), interpolation=cv2.INTER_NEAREST)


def sharpness(grey: Grey) -> float:
    """Deviation of the Laplacian over the deviation of the grey levels (after Pech-Pacheco et al., 2000).

    Under 0.1 a picture looks out of focus at any size; about 1 is usual. A picture without contrast counts as 0.
    """
    spread = cv2.meanStdDev(grey)[1].item()
    if spread < 1:
        return 0.0
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1].item() / spread)


def statistics(views: Views, samples: Samples, inner: Views | None = None) -> dict[str, np.ndarray]:
    """One array per column of dataset.FACTS that the extracts tell: brightness, contrast, hash, ...

    `inner` are views without bars, where there are any; the signature is of them.
    """
    histogram = _histograms(views)
    share = histogram / VIEW**2
    levels = np.arange(256)
    mean = share @ levels
    contrast = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    cumulated = share.cumsum(axis=1)
    signature, hashes = signatures(views if inner is None else inner)
    found = {
        "brightness": mean / 255,
        "contrast": contrast / 255,
        "low": (cumulated < 0.05).sum(axis=1) / 255,
        "high": (cumulated < 0.95).sum(axis=1) / 255,
        "entropy": -(share * logs).sum(axis=1),
        "colorfulness": _colorfulness(samples),
        "border": _border(views),
    }
    return {name: values.astype(np.float32) for name, values in found.items()} | {
        "signature": signature,
        "hash": hashes,
    }


def _histograms(views: Views) -> Float[np.ndarray, "n 256"]:
    counts = [cv2.calcHist([view], [0], None, [256], [0, 256]) for view in views]
    return np.array(counts, np.float64).reshape(-1, 256)


def _colorfulness(samples: Samples) -> Float[np.ndarray, " n"]:
    """Hasler & Suesstrunk (2003): deviation plus 0.3 x mean of the two opponent colours, over 255; 0 for grey."""
    red, green, blue = samples.transpose(3, 0, 1, 2).reshape(3, len(samples), -1).astype(np.float32)
    means, deviations = [], []
    for colour in (red - green, (red + green) / 2 - blue):
        mean = colour.mean(axis=1)
        square = np.einsum("np,np->n", colour, colour) / colour.shape[1]
        means.append(mean)
        deviations.append(np.sqrt(np.maximum(square - mean**2, 0)))
    return np.asarray((np.hypot(*deviations) + 0.3 * np.hypot(*means)) / 255, np.float64)


def _border(views: Views) -> Float[np.ndarray, " n"]:
    """Share of the area that uniform rows and columns at the edges take, as letterboxes and frames do."""
    inside = np.ones(len(views))
    for lines in (views.transpose(2, 0, 1), views.transpose(1, 0, 2)):  # position in a row, then in a column, first
        uniform = np.ptp(np.ascontiguousarray(lines), axis=0) <= _UNIFORM
        before = np.where(uniform.all(axis=1), VIEW, np.argmin(uniform, axis=1))
        after = np.where(uniform.all(axis=1), 0, np.argmin(uniform[:, ::-1], axis=1))
        inside *= (VIEW - before - after) / VIEW
    return 1 - inside
