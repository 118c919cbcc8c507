from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.data.augment import Augmentation
from discern.data.batches import Balance, plain_batches, training_batches
from discern.data.dataset import Dataset
from discern.data.pixels import Pixels

STRONG = Augmentation(flip=0.5, shift=0.2, rotate=20, zoom=0.2)


def made(count, size=8):
    """Labelled noise; its Pixels hold other images too, in another order than the table."""
    rng = np.random.default_rng(count)
    index = rng.permutation(count + 5)[:count]
    dataset = Dataset(
        root=Path("/photos"),
        classes=("a", "b", "c"),
        table=pl.DataFrame(
            {
                "index": index,
                "image": [f"{i}.png" for i in range(count)],
                "label": rng.integers(0, 3, count).astype(np.int32),
                "digest": [rng.bytes(16).hex() for _ in range(count)],
            }
        ),
    )
    return dataset, Pixels(array=rng.integers(0, 256, (count + 5, size, size, 3), np.uint8))


def epoch_of(dataset, pixels, *, batch_size=7, augmentation=STRONG, balance="none", seed=0, epoch=0):
    return list(
        training_batches(
            dataset,
            pixels,
            batch_size=batch_size,
            augmentation=augmentation,
            balance=balance,
            seed=seed,
            epoch=epoch,
            device=torch.device("cpu"),
        )
    )


def by_row(batches):
    """The picture that each row of the Dataset got."""
    return {int(row): image for batch in batches for row, image in zip(batch.rows, batch.images.numpy(), strict=True)}


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), epoch=st.integers(0, 100))
@settings(deadline=None, max_examples=50)
def test_an_epoch_sees_each_image_once_with_its_label(count, batch_size, epoch):
    dataset, pixels = made(count)
    batches = epoch_of(dataset, pixels, batch_size=batch_size, epoch=epoch, augmentation=Augmentation())
    assert sorted(row for batch in batches for row in batch.rows) == list(range(count))
    assert [len(batch.rows) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    for batch in batches:
        np.testing.assert_array_equal(batch.labels.numpy(), dataset.labels[batch.rows])
        np.testing.assert_array_equal(batch.images.numpy(), pixels.array[dataset.index[batch.rows]])
        assert batch.labels.dtype == torch.int64


def test_the_same_epoch_is_the_same_again_bit_for_bit():
    dataset, pixels = made(30)
    for first, second in zip(epoch_of(dataset, pixels), epoch_of(dataset, pixels), strict=True):
        np.testing.assert_array_equal(first.rows, second.rows)
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)


def test_the_batch_size_changes_neither_the_order_nor_any_picture():
    dataset, pixels = made(30)
    small, large = epoch_of(dataset, pixels, batch_size=4), epoch_of(dataset, pixels, batch_size=30)
    assert np.concatenate([batch.rows for batch in small]).tolist() == large[0].rows.tolist()
    assert torch.equal(torch.cat([batch.images for batch in small]), large[0].images)


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_another_epoch_or_seed_has_another_order_and_other_pictures(other):
    dataset, pixels = made(60)
    first, second = epoch_of(dataset, pixels), epoch_of(dataset, pixels, **other)
    same = np.concatenate([batch.rows for batch in first]) == np.concatenate([batch.rows for batch in second])
    assert same.mean() < 0.2
    pictures, others = by_row(first), by_row(second)
    assert not any(np.array_equal(pictures[row], others[row]) for row in range(60))


@pytest.mark.parametrize("balance", get_args(Balance))
def test_every_part_of_an_epoch_has_all_classes(balance):
    dataset, pixels = made(600)
    labels = np.concatenate([batch.labels.numpy() for batch in epoch_of(dataset, pixels, balance=balance)])
    whole = np.bincount(labels) / len(labels)
    for part in np.array_split(labels, 6):
        assert np.abs(np.bincount(part, minlength=3) / len(part) - whole).max() < 0.2


@pytest.mark.parametrize("balance", ["sampler", "oversample"])
def test_an_image_that_comes_again_comes_varied(balance):
    dataset, pixels = made(40)
    pictures = {}
    for batch in epoch_of(dataset, pixels, balance=balance):
        for row, image in zip(batch.rows.tolist(), batch.images.numpy(), strict=True):
            pictures.setdefault(row, []).append(image.tobytes())
    again = [seen for seen in pictures.values() if len(seen) > 1]
    assert again
    assert all(len(set(seen)) == len(seen) for seen in again)


def test_a_batch_is_varied_in_every_way_that_its_augmentation_knows():
    dataset, pixels = made(30)
    every = Augmentation(flip=0.5, rotate=20, hue=0.5, contrast=0.5, blur=3, erase=0.5, policy="rand")
    device = torch.device("cpu")
    for batch in epoch_of(dataset, pixels, augmentation=every, seed=3, epoch=2):
        plain = pixels.array[dataset.index[batch.rows]]
        expected = every.apply(plain, seed=3, epoch=2, keys=dataset.keys[batch.rows], device=device)
        assert torch.equal(batch.images, expected)
        assert not np.array_equal(batch.images.numpy(), plain)


def test_leaving_an_epoch_early_is_quiet_and_spoils_nothing():
    dataset, pixels = made(30)
    batches = training_batches(
        dataset, pixels, batch_size=4, augmentation=STRONG, balance="none", seed=0, epoch=0, device=torch.device("cpu")
    )
    first = next(batches)
    batches.close()
    assert torch.equal(first.images, epoch_of(dataset, pixels, batch_size=4)[0].images)


def test_an_error_while_making_a_batch_reaches_the_loop():
    dataset, pixels = made(30)
    with pytest.raises(IndexError):
        epoch_of(dataset, Pixels(array=pixels.array[:10]))


def test_augmenting_leaves_the_pixels_alone():
    dataset, pixels = made(10)
    before = pixels.array.copy()
    for batch in epoch_of(dataset, pixels, augmentation=Augmentation()):
        batch.images.zero_()
    np.testing.assert_array_equal(pixels.array, before)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 99])
def test_plain_batches_are_the_images_in_order(batch_size):
    dataset, pixels = made(10)
    batches = list(plain_batches(pixels, dataset.index, batch_size=batch_size))
    np.testing.assert_array_equal(torch.cat(batches).numpy(), pixels.array[dataset.index])
    assert max(len(batch) for batch in batches) <= batch_size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_same_pictures_within_rounding():
    dataset, pixels = made(30, size=32)
    cuda = training_batches(
        dataset,
        pixels,
        batch_size=7,
        augmentation=STRONG,
        balance="none",
        seed=0,
        epoch=0,
        device=torch.device("cuda"),
    )
    for ours, theirs in zip(epoch_of(dataset, pixels), cuda, strict=True):
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        # Noise is the worst case for interpolation: sample places differ by up to 1/64 pixel.
        assert (ours.images.float() - theirs.images.cpu().float()).abs().mean() < 3
