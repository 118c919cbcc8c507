"""Pixels: the decoded images of a Dataset as one uint8 array, memory-mapped from disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from discern.data.decode import Fit, fitted_shape

Images = UInt8[np.ndarray, "image size size 3"]

CHUNK = 256
"""Images looked at together, so that statistics of any number of images need little memory."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Images fitted to one square size, addressed by the `index` column of their Dataset."""

    array: Images
    """uint8 RGB; rows of images that could not be decoded are black and belong to no Dataset row in use."""
    fit: Fit = "squash"
    """How the pictures were made square; as given, an image is taken to be all of its picture."""

    @property
    def size(self) -> int:
        """Side of the square, pixels."""
        return int(self.array.shape[1])

    def take(self, index: Int[np.ndarray, " batch"]) -> UInt8[np.ndarray, "batch size size 3"]:
        """A copy of the images at `index`, in that order."""
        copy: UInt8[np.ndarray, "batch size size 3"] = self.array[index]
        return copy

    def in_order(self, index: Int[np.ndarray, " image"], count: int) -> Iterator[Images]:
        """The images at `index` in that order, `count` at a time."""
        for start in range(0, len(index), count):
            yield self.take(index[start : start + count])

    def content(self, index: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image at `index` without the borders that padding a picture of `width` x `height` gave it."""
        image: UInt8[np.ndarray, "size size 3"] = self.array[index]
        if self.fit != "pad":
            return image
        w, h = fitted_shape(width, height, self.size, "pad")
        top, left = (self.size - h) // 2, (self.size - w) // 2
        return image[top : top + h, left : left + w]

    def statistics(self, index: Int[np.ndarray, " image"]) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, 3]]:
        """Mean and standard deviation per channel in [0, 1] over all pixels of the images at `index`."""
        starts = range(0, len(index), CHUNK)
        return channel_statistics(self.take(np.sort(index[start : start + CHUNK])) for start in starts)


def channel_statistics(chunks: Iterable[Images]) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, 3]]:
    """Mean and standard deviation per channel in [0, 1] over all pixels of all images."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for chunk in chunks:
        mean, deviation = cv2.meanStdDev(chunk.reshape(-1, chunk.shape[1], 3))
        n = chunk.size // 3
        total += n * mean[:, 0]
        squares += n * (deviation[:, 0] ** 2 + mean[:, 0] ** 2)
        count += n
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean / 255, deviation / 255


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Two Pixels of one size as one: the indices of the second begin where those of the first end."""

    first: Pixels
    """Addressed by its own indices."""
    second: Pixels
    """Addressed by its own indices plus the length of the first."""

    @property
    def size(self) -> int:
        """Side of the square, pixels."""
        return self.first.size

    @property
    def fit(self) -> Fit:
        """How the pictures of both were made square."""
        return self.first.fit

    def content(self, index: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """As of Pixels."""
        behind = index - len(self.first.array)
        return self.second.content(behind, width, height) if behind >= 0 else self.first.content(index, width, height)
