from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from discern.data.augment import Augmentation
from discern.data.batches import epoch_length, epoch_order, training_batches
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels


def dataset(counts):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    table = pl.DataFrame(
        {"index": range(len(labels)), "label": labels, "digest": [f"{k * 7919:032x}" for k in range(len(labels))]},
        {"index": pl.Int64, "label": pl.Int32, "digest": pl.String},
    )
    return Dataset(root=Path("/photos"), classes=tuple("abc"[: len(counts)]), table=table)


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_every_image_comes_once(balance):
    rows, turns = epoch_order(dataset([7, 3]), balance, seed=1, epoch=2)
    assert sorted(rows) == list(range(10))
    assert not turns.any()
    assert epoch_length(dataset([7, 3]), balance) == 10


def test_oversampling_repeats_small_classes_until_all_are_equal():
    data = dataset([40, 7, 12])
    rows, turns = epoch_order(data, "oversample", seed=3, epoch=0)
    assert len(rows) == epoch_length(data, "oversample") == 120
    assert np.bincount(data.labels[rows]).tolist() == [40, 40, 40]
    often = np.bincount(rows)
    assert often[:40].tolist() == [1] * 40
    assert set(often[40:47]) == {5, 6}
    for row in (0, 41, 50):
        assert sorted(turns[rows == row]) == list(range(often[row]))


def test_which_images_come_once_more_differs_by_epoch():
    data = dataset([10, 7])
    once_more = [
        frozenset(np.flatnonzero(np.bincount(epoch_order(data, "oversample", seed=0, epoch=e)[0]) > 1))
        for e in range(8)
    ]
    assert len(set(once_more)) > 4


def test_the_sampler_draws_every_class_as_often():
    data = dataset([900, 80, 20])
    rows = np.concatenate([epoch_order(data, "sampler", seed=5, epoch=epoch)[0] for epoch in range(20)])
    shares = np.bincount(data.labels[rows]) / len(rows)
    assert np.abs(shares - 1 / 3).max() < 4 * (2 / 9 / len(rows)) ** 0.5  # four standard errors
    assert set(rows[data.labels[rows] == 2]) == set(range(980, 1000))


@pytest.mark.parametrize("balance", ["sampler", "oversample"])
def test_an_epoch_follows_from_its_seed_and_number(balance):
    data = dataset([30, 5])
    first, again, other = (epoch_order(data, balance, seed=s, epoch=4)[0].tolist() for s in (1, 1, 2))
    assert first == again != other


def test_a_repeated_image_is_varied_otherwise_each_time():
    data = dataset([12, 1])
    pixels = Pixels(array=np.random.default_rng(0).integers(0, 256, (13, 16, 16, 3), np.uint8))
    batches = training_batches(
        data,
        pixels,
        batch_size=5,
        augmentation=Augmentation(rotate=40, shift=0.2),
        balance="oversample",
        seed=0,
        epoch=0,
        device=torch.device("cpu"),
    )
    seen = [image for batch in batches for image, row in zip(batch.images, batch.rows, strict=True) if row == 12]
    assert len(seen) == 12
    assert len({image.numpy().tobytes() for image in seen}) == 12
