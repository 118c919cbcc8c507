"""Pixels: the decoded images of a Dataset as one uint8 array, memory-mapped from disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from discern.errors import storing

Images = UInt8[np.ndarray, "image size size 3"]

_NPY_HEADER = 128  # bytes before the values in a .npy file of four dimensions

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


def read_pixels(path: Path) -> Pixels:
    """Map an array that `creating_pixels` wrote; the operating system keeps in memory what is used."""
    return Pixels(array=np.asarray(np.load(path, mmap_mode="r")))


def _reserve(file: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    start = len(file.read(_NPY_HEADER))  # macOS: write the zeros out
    for offset in range(start, size, 1 << 24):
        file.write(bytes(min(1 << 24, size - offset)))


@contextmanager
def creating_pixels(path: Path, count: int, size: int) -> Iterator[Images]:
    """Give a writable array of `count` black squares backed by a new file at `path`.

    The whole file is reserved on disk first: a full disk is then a StorageError here, not a crash (SIGBUS) in
    the middle of writing to mapped memory.
    """
    with storing(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        with open(path, "r+b") as file:
            _reserve(file, os.path.getsize(path))
        yield array
        array.flush()
