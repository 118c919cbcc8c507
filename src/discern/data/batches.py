"""Batches: an epoch's images in its order, gathered from Pixels or a Stream, augmented, ready to be normalised."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8, UInt64
from torch import Tensor

from discern.data import keyed
from discern.data.augment import Augmentation
from discern.data.dataset import Dataset
from discern.data.pixels import Images, Pixels
from discern.data.streaming import Stream
from discern.errors import UsageError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it differ in all bits

Balance = Literal["none", "weights", "sampler", "oversample"]
"""How smaller classes are helped; the first two see every image once an epoch."""


@dataclass(frozen=True)
class Share:
    """Which of how many processes takes what of each batch."""

    rank: int = 0
    world: int = 1

    def of(self, values: np.ndarray) -> np.ndarray:
        """Every world-th value; where there are fewer values than processes, one that another has, too."""
        own = values[self.rank :: self.world]
        return own if len(own) else values[:1]

    def counts(self, step: int) -> bool:
        """Whether this process has values of its own among so many."""
        return self.rank < step


ALONE = Share()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some images with their labels, on the device."""

    images: UInt8[Tensor, "b s s 3"]
    """RGB, augmented when for training."""
    labels: Int64[Tensor, " b"]
    """Class indices."""
    rows: Int[np.ndarray, " b"]
    """Positions in the Dataset that the batch came from."""
    keys: UInt64[np.ndarray, " b"]
    """What the randomness about each of them is drawn by."""
    step_labels: Int64[np.ndarray, " step"]
    """Class indices of all images of the step, those of other processes included."""


def training_batches(
    dataset: Dataset,
    pixels: Pixels | Stream,
    *,
    batch_size: int,
    augmentation: Augmentation,
    balance: Balance,
    seed: int,
    epoch: int,
    device: torch.device,
    first: int = 0,
    share: Share = ALONE,
) -> Iterator[Batch]:
    """The training images of one epoch, shuffled; the last batch may be smaller.

    Begins with batch `first`, counted from zero; of each batch one process takes its `share`. The next batch is
    gathered and warped in a thread while the network works on this one. Raises UsageError for a Stream with a balance
    that it cannot give.
    """
    labels = dataset.labels
    drawn = _drawn_batches(dataset, pixels, batch_size, balance, seed=seed, epoch=epoch, first=first, share=share)

    def make() -> Batch | None:
        if (found := next(drawn, None)) is None:
            return None
        rows, its_keys, images, step = found
        tensor = augmentation.apply(images, seed=seed, epoch=epoch, keys=its_keys, device=device)
        mine = torch.from_numpy(labels[rows]).to(device)
        return Batch(images=tensor, labels=mine, rows=rows, keys=its_keys, step_labels=labels[step])

    with closing(drawn), ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(make)
        while (batch := coming.result()) is not None:
            coming = ahead.submit(make)
            yield batch


_Drawn = tuple[Int[np.ndarray, " b"], UInt64[np.ndarray, " b"], Images, Int[np.ndarray, " step"]]


def _drawn_batches(
    dataset: Dataset,
    pixels: Pixels | Stream,
    batch_size: int,
    balance: Balance,
    *,
    seed: int,
    epoch: int,
    first: int,
    share: Share,
) -> Generator[_Drawn, None, None]:
    """Of each batch the share's rows, their keys and images as they are kept, and the rows of all processes."""
    if isinstance(pixels, Stream):
        refuse_to_stream(balance)
        own = -(-batch_size // share.world)
        portions = pixels.shuffled(
            dataset.index, own, seed=seed, epoch=epoch, first=first, rank=share.rank, world=share.world
        )
        for rows, images in portions:
            yield rows, dataset.keys[rows], images, rows
        return
    for rows, keys, step in drawn_rows(dataset, balance, batch_size, seed=seed, epoch=epoch, first=first, share=share):
        yield rows, keys, pixels.take(dataset.index[rows]), step


def drawn_rows(
    dataset: Dataset, balance: Balance, batch_size: int, *, seed: int, epoch: int, first: int, share: Share
) -> Iterator[tuple[Int[np.ndarray, " b"], UInt64[np.ndarray, " b"], Int[np.ndarray, " step"]]]:
    """Of each step of an epoch from the `first` on the share's rows and their keys, and the rows of all processes.

    An image that comes again in one epoch has another key then.
    """
    order, turns = epoch_order(dataset, balance, seed=seed, epoch=epoch)
    keys = dataset.keys[order] ^ (turns * _GOLDEN)
    for start in range(first * batch_size, len(order), batch_size):
        step = slice(start, start + batch_size)
        yield share.of(order[step]), share.of(keys[step]), order[step]


def refuse_to_stream(balance: Balance) -> None:
    """Raise UsageError for a balance that must take images in any order and more than once."""
    if balance in ("sampler", "oversample"):
        raise UsageError(
            f"balance '{balance}' takes images in any order, which is not possible with pixels 'stream': take balance "
            "'weights', or pixels 'disk'."
        )


def epoch_length(dataset: Dataset, balance: Balance) -> int:
    """Images in one epoch."""
    if balance != "oversample":
        return len(dataset)
    counts = [count for count in dataset.class_counts().values() if count]
    return max(counts) * len(counts)


def epoch_order(
    dataset: Dataset, balance: Balance, *, seed: int, epoch: int
) -> tuple[Int[np.ndarray, " image"], UInt64[np.ndarray, " image"]]:
    """The rows of an epoch in their order, and for each how many times it has come before in this epoch."""
    if balance in ("none", "weights"):
        return keyed.permutation(seed, epoch, len(dataset)), np.zeros(len(dataset), np.uint64)
    rows = _drawn(dataset, seed, epoch) if balance == "sampler" else _repeated(dataset, seed, epoch)
    rows = rows[keyed.permutation(seed, epoch, len(rows))]
    by_row = np.argsort(rows, kind="stable")
    ordered = rows[by_row]
    turns = np.empty(len(rows), np.uint64)
    turns[by_row] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return rows, turns


def _drawn(dataset: Dataset, seed: int, epoch: int) -> Int[np.ndarray, " image"]:
    """As many rows as there are, with replacement, every class as likely."""
    # The first draw is left out: the permutation goes by it, and would put the classes one after the other.
    draws = keyed.uniform(seed, epoch, np.arange(len(dataset), dtype=np.uint64), 3)[:, 1:]
    members = [np.flatnonzero(dataset.labels == label) for label in np.unique(dataset.labels)]
    chosen = (draws[:, 0] * len(members)).astype(int)
    return np.array([members[k][int(draw * len(members[k]))] for k, draw in zip(chosen, draws[:, 1], strict=True)])


def _repeated(dataset: Dataset, seed: int, epoch: int) -> Int[np.ndarray, " image"]:
    """Every row as often as its class needs to equal the largest; which come once more differs by epoch."""
    labels, rows = dataset.labels, []
    most = int(np.bincount(labels).max())
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[keyed.permutation(seed, epoch, len(members))]
        rows.append(np.resize(members, most))
    return np.concatenate(rows)


def plain_batches(pixels: Pixels | Stream, index: Int[np.ndarray, " image"], *, batch_size: int) -> Iterator[Tensor]:
    """The images at `index` in that order, uint8, unchanged; the last batch may be smaller."""
    for images in pixels.in_order(index, batch_size):
        yield torch.from_numpy(images)
