"""Batches: an epoch's images in its order, gathered from Pixels and augmented, ready to be normalised."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from discern.data import keyed
from discern.data.augment import Augmentation, warp_cpu, warp_device
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some images with their labels, on the device."""

    images: UInt8[Tensor, "b s s 3"]
    """RGB, augmented when for training."""
    labels: Int64[Tensor, " b"]
    """Class indices."""
    rows: Int[np.ndarray, " b"]
    """Positions in the Dataset that the batch came from."""


def training_batches(
    dataset: Dataset,
    pixels: Pixels,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    device: torch.device,
) -> Iterator[Batch]:
    """The training images of one epoch, shuffled; the last batch may be smaller.

    The next batch is gathered and warped in a thread while the network works on this one.
    """
    order = keyed.permutation(seed, epoch, len(dataset))
    index, keys, labels = dataset.index, dataset.keys, dataset.labels

    def make(start: int) -> Batch:
        rows = order[start : start + batch_size]
        images = pixels.take(index[rows])
        affine = augmentation.affine(seed=seed, epoch=epoch, keys=keys[rows], size=pixels.size)
        if augmentation and device.type == "cpu":
            images = warp_cpu(images, affine)
        tensor = torch.from_numpy(images).to(device)
        if augmentation and device.type != "cpu":
            tensor = warp_device(tensor, affine)
        return Batch(images=tensor, labels=torch.from_numpy(labels[rows]).to(device), rows=rows)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(make, 0)
        for start in range(batch_size, len(dataset) + batch_size, batch_size):
            batch = coming.result()
            if start < len(dataset):
                coming = ahead.submit(make, start)
            yield batch


def plain_batches(pixels: Pixels, index: Int[np.ndarray, " image"], *, batch_size: int) -> Iterator[Tensor]:
    """The images at `index` in that order, uint8, unchanged; the last batch may be smaller."""
    for start in range(0, len(index), batch_size):
        yield torch.from_numpy(pixels.take(index[start : start + batch_size]))
