"""Pixels: the decoded images of a Dataset as one uint8 array, memory-mapped from disk."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from discern.data.decode import fitted_shape

Images = UInt8[np.ndarray, "image size size 3"]

_CHUNK = 256  # images looked at together, so that statistics of any number of images need little memory


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Images fitted to one square size, addressed by the `index` column of their Dataset."""

    array: Images
    """uint8 RGB; rows of images that could not be decoded are black and belong to no Dataset row in use."""

    @property
    def size(self) -> int:
        """Side of the square, pixels."""
        return int(self.array.shape[1])

    def take(self, index: Int[np.ndarray, " batch"]) -> UInt8[np.ndarray, "batch size size 3"]:
        """A copy of the images at `index`, in that order."""
        copy: UInt8[np.ndarray, "batch size size 3"] = self.array[index]
        return copy

    def content(self, index: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image at `index` without the borders that padding a picture of `width` x `height` gave it.

        Squashed and cropped images have none and come whole (a padded one has at least two black edges).
        """
        image: UInt8[np.ndarray, "size size 3"] = self.array[index]
        w, h = fitted_shape(width, height, self.size, "pad")
        top, left = (self.size - h) // 2, (self.size - w) // 2
        padded = not (
            image[:top].any() or image[top + h :].any() or image[:, :left].any() or image[:, left + w :].any()
        )
        return image[top : top + h, left : left + w] if padded else image

    def statistics(self, index: Int[np.ndarray, " image"]) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, 3]]:
        """Mean and standard deviation per channel in [0, 1] over all pixels of the images at `index`."""
        total, squares, count = np.zeros(3), np.zeros(3), 0
        for start in range(0, len(index), _CHUNK):
            chunk = self.array[np.sort(index[start : start + _CHUNK])]
            mean, deviation = cv2.meanStdDev(chunk.reshape(-1, self.size, 3))
            n = chunk.size // 3
            total += n * mean[:, 0]
            squares += n * (deviation[:, 0] ** 2 + mean[:, 0] ** 2)
            count += n
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean / 255, deviation / 255
