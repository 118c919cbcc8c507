"""Features of images without any pretrained weights: which small patches they are made of.

A dictionary of 6 x 6 patches is learned from the images themselves by k-means on whitened patches, and an image is
described by how near its patches are to each word, averaged over four quadrants (Coates, Lee & Ng, 2011). Far
weaker than a pretrained backbone, but always at hand.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.cluster import MiniBatchKMeans

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.progress import Progress, Silent

_SIDE, _PATCH, _STRIDE, _WORDS = 32, 6, 2, 256

_TAUGHT_BY, _PATCHES_EACH = 4000, 20
"""Images, and patches of each, that the dictionary is learned from; of few images more of each."""

_AT_ONCE = 64

Patches = Float[np.ndarray, "patch value"]


def patch_features(
    dataset: Dataset, pixels: Pixels, *, seed: int = 0, progress: Progress | None = None
) -> Float[np.ndarray, "image 1024"]:
    """A row of 4 quadrants x 256 words for every image, float32."""
    whole = np.arange(len(dataset))
    random = np.random.default_rng(seed)
    taught = np.sort(random.choice(whole, min(len(whole), _TAUGHT_BY), replace=False))
    each = max(_PATCHES_EACH, -(-4 * _WORDS // len(taught)))
    some = np.concatenate(
        [_some_patches(_small(dataset, pixels, taught[[at]]), each, random) for at in range(len(taught))]
    )
    mean, whiten = _whitening(some)
    words = MiniBatchKMeans(_WORDS, n_init=1, random_state=seed, batch_size=4096, max_iter=20)
    words.fit((some - mean) @ whiten)
    centres = words.cluster_centers_.astype(np.float32)
    features = np.empty((len(dataset), 4 * _WORDS), np.float32)
    with (progress or Silent()).track("Describing images", len(dataset)) as advance:
        for start in range(0, len(dataset), _AT_ONCE):
            rows = whole[start : start + _AT_ONCE]
            patches = (_patches(_small(dataset, pixels, rows), _STRIDE) - mean) @ whiten
            features[rows] = _pooled(patches, centres, len(rows))
            advance(len(rows), "")
    return features


def _small(dataset: Dataset, pixels: Pixels, rows: np.ndarray) -> UInt8[np.ndarray, "row side side 3"]:
    table = dataset.table[rows]
    return np.stack(
        [
            cv2.resize(pixels.content(*where), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            for where in table.select("index", "width", "height").iter_rows()
        ]
    )


def _patches(images: UInt8[np.ndarray, "n side side 3"], stride: int) -> Patches:
    """Every patch of the images, its own brightness and contrast taken out."""
    windows = sliding_window_view(images, (_PATCH, _PATCH), axis=(1, 2))[:, ::stride, ::stride]
    flat = windows.reshape(-1, 3 * _PATCH * _PATCH).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.sqrt(flat.var(axis=1, keepdims=True) + 10)  # 10: noise of flat patches is not blown up
    return flat


def _some_patches(image: UInt8[np.ndarray, "1 side side 3"], count: int, random: np.random.Generator) -> Patches:
    patches = _patches(image, 1)
    return patches[random.choice(len(patches), min(count, len(patches)), replace=False)]


def _whitening(patches: Patches) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, "value value"]]:
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    return mean, ((vectors / np.sqrt(values + 0.1)) @ vectors.T).astype(np.float32)


def _pooled(patches: Patches, centres: Patches, images: int) -> Float[np.ndarray, "image 1024"]:
    squared = (patches**2).sum(axis=1)[:, None] - 2 * patches @ centres.T + (centres**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared, 0))
    near = np.maximum(distance.mean(axis=1, keepdims=True) - distance, 0)  # how much nearer than the mean word
    side = round((len(patches) / images) ** 0.5)
    grid, half = near.reshape(images, side, side, -1), side // 2
    quadrants = [grid[:, rows, columns] for rows in _halves(half) for columns in _halves(half)]
    return np.concatenate([quadrant.mean(axis=(1, 2)) for quadrant in quadrants], axis=1)


def _halves(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(half, None)
