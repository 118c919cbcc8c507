"""Randomness keyed by (seed, epoch, image): the same whatever the batch, the worker or the resumption."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, epoch: int, keys: UInt64[np.ndarray, " image"], draws: int) -> Float[np.ndarray, "image draws"]:
    """`draws` independent numbers in [0, 1) for each image (named by its key) of an epoch, float64.

    Each is SplitMix64 (Steele, Lea & Flood, 2014) of its own key, so no generator state exists to be kept.
    """
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64 by design
        key = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GOLDEN)
        key = _mix(key ^ (np.uint64(epoch) + np.uint64(1)) * _GOLDEN)
        per_image = _mix(key ^ (keys + np.uint64(1)) * _GOLDEN)
        bits = _mix(per_image[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, count: int) -> Int[np.ndarray, " image"]:
    """A shuffled 0 .. count-1 for one epoch."""
    draws = uniform(seed, epoch, np.arange(count, dtype=np.uint64), 1)[:, 0]
    order: Int[np.ndarray, " image"] = np.argsort(draws, kind="stable")
    return order


def _mix(x: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, "*shape"] = x ^ (x >> np.uint64(31))
    return mixed
