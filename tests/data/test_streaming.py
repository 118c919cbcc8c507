"""Streaming: the same images as Pixels give, shuffled, in parts, from where it stopped, in little memory."""

import os
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from discern.data import streaming
from discern.data.augment import Augmentation
from discern.data.batches import plain_batches, training_batches
from discern.data.decode import FITS
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.streaming import SAMPLE, Stream, images_of, refuse_small_disk
from discern.errors import DataError, StorageError, UsageError
from discern.progress import Silent
from discern.training.recipe import Recipe

SIDE = 12
KINDS = ("folder", "tar", "parquet", "idx")
STRONG = Augmentation(flip=0.5, shift=0.2, rotate=20, zoom=0.2)


def waiting(images):
    """Memory for so many to wait on average."""
    return images * 3 * SIDE**2


@pytest.fixture(params=KINDS)
def packed(request, photos, pack):
    """70 images in each kind of place, with their Pixels and a Stream of them that keeps 10 waiting."""
    place = pack(photos({"cat": 35, "dog": 35}), request.param)
    dataset, pixels = scan(open_dataset(place), size=SIDE, fit="pad")
    return dataset, pixels, Stream(dataset=dataset, size=SIDE, fit="pad", memory=waiting(10))


@pytest.fixture
def shards(photos, pack):
    """90 images in shards of 10, sorted by class, with a Stream of them that keeps 10 waiting."""
    place = pack(photos({"cat": 30, "cow": 30, "dog": 30}), "tar")
    dataset, _ = scan(open_dataset(place), size=SIDE, fit="pad")
    return dataset, Stream(dataset=dataset, size=SIDE, fit="pad", memory=waiting(10))


def order_of(stream, dataset, *, count=8, seed=0, epoch=0, **options):
    found = [places for places, _ in stream.shuffled(dataset.index, count, seed=seed, epoch=epoch, **options)]
    return np.concatenate([np.zeros(0, int), *found]).tolist()


def epoch_of(dataset, pixels, *, balance="none", epoch=0):
    options = {"batch_size": 8, "augmentation": STRONG, "balance": balance, "seed": 0, "epoch": epoch}
    return list(training_batches(dataset, pixels, **options, device=torch.device("cpu")))


def test_the_images_in_order_are_those_of_the_pixels(packed):
    dataset, pixels, stream = packed
    for rows in (np.arange(70), np.arange(3, 61, 4), np.array([7])):
        index = dataset.index[rows]
        given = list(stream.in_order(index, 8))
        np.testing.assert_array_equal(np.concatenate(given), pixels.take(index))
        assert [len(images) for images in given[:-1]] == [8] * (len(given) - 1)


def test_any_order_that_is_asked_for_is_given(packed):
    dataset, pixels, stream = packed
    index = dataset.index[np.random.default_rng(0).permutation(70)]
    np.testing.assert_array_equal(np.concatenate(list(stream.in_order(index, 30))), pixels.take(index))


def test_plain_batches_may_come_from_a_stream(packed):
    dataset, pixels, stream = packed
    given, expected = (list(plain_batches(source, dataset.index, batch_size=32)) for source in (stream, pixels))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(given, expected, strict=True))


@pytest.mark.parametrize("fit", FITS)
def test_pictures_are_fitted_as_asked(photos, fit):
    dataset, pixels = scan(open_dataset(photos({"cat": 3, "dog": 3})), size=SIDE, fit=fit)
    given = np.concatenate(list(Stream(dataset=dataset, size=SIDE, fit=fit).in_order(dataset.index, 4)))
    np.testing.assert_array_equal(given, pixels.take(dataset.index))


def test_an_epoch_has_the_same_augmented_images_as_one_from_pixels(packed):
    dataset, pixels, stream = packed
    dataset = dataset.with_rows(np.arange(0, 70, 3))
    streamed, kept = epoch_of(dataset, stream), epoch_of(dataset, pixels)
    pictures, expected = (
        {row: image for batch in batches for row, image in zip(batch.rows.tolist(), batch.images, strict=True)}
        for batches in (streamed, kept)
    )
    assert sorted(row for batch in streamed for row in batch.rows) == list(range(len(dataset)))
    assert all(torch.equal(pictures[row], expected[row]) for row in expected)
    assert [len(batch.rows) for batch in streamed] == [len(batch.rows) for batch in kept]
    assert all(batch.labels.tolist() == dataset.labels[batch.rows].tolist() for batch in streamed)


def test_the_order_does_not_depend_on_threads(packed, monkeypatch):
    dataset, _, stream = packed
    orders = []
    for processors in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        orders.append(order_of(stream, dataset))
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_another_epoch_or_seed_has_another_order(shards, other):
    dataset, stream = shards
    first, second = np.array(order_of(stream, dataset)), np.array(order_of(stream, dataset, **other))
    assert (first == second).mean() < 0.1


def test_what_lies_together_is_torn_apart(shards):
    dataset, stream = shards
    order = np.array(order_of(stream, dataset))
    neighbours = np.abs(np.diff(order)) == 1
    assert neighbours.mean() < 0.2
    first, last = order[:45], order[45:]
    for k in range(3):  # sorted by class in the shards, in both halves of the epoch
        assert min((dataset.labels[half] == k).sum() for half in (first, last)) > 5


def test_nothing_waits_longer_than_it_may(shards):
    dataset, _ = shards
    still, lively = (Stream(dataset=dataset, size=SIDE, fit="pad", memory=waiting(n)) for n in (0, 10))
    read = {row: place for place, row in enumerate(order_of(still, dataset))}
    delays = [place - read[row] for place, row in enumerate(order_of(lively, dataset))]
    assert 10 < max(delays) <= lively.reach == 20


@pytest.mark.parametrize("first", [0, 1, 5, 11, 12, 40])
def test_a_stream_goes_on_from_any_batch(packed, first):
    dataset, _, stream = packed
    whole = list(stream.shuffled(dataset.index, 6, seed=3, epoch=2))
    rest = list(stream.shuffled(dataset.index, 6, seed=3, epoch=2, first=first))
    assert len(rest) == max(0, len(whole) - first)
    for (rows, images), (expected_rows, expected) in zip(rest, whole[first:], strict=True):
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(images, expected)


def test_what_was_given_before_is_not_decoded_again(shards, monkeypatch):
    dataset, stream = shards
    decoded, decode = [], streaming.decode
    monkeypatch.setattr(streaming, "decode", lambda *data, **options: decoded.append(1) or decode(*data, **options))
    assert len(order_of(stream, dataset, first=10)) == len(decoded) == 10


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_processes_share_the_images(packed, world):
    dataset, _, stream = packed
    shares = [order_of(stream, dataset, rank=rank, world=world) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == list(range(70))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    again = [order_of(stream, dataset, rank=rank, world=world, first=1) for rank in range(world)]
    assert again == [share[8:] for share in shares]


def test_more_processes_than_images(photos):
    dataset, _ = scan(open_dataset(photos({"cat": 1, "dog": 1})), size=SIDE, fit="pad")
    stream = Stream(dataset=dataset, size=SIDE, fit="pad")
    shares = [order_of(stream, dataset, rank=rank, world=3) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == [0, 1]


def peak(stream, dataset):
    """The most memory that one epoch takes at a time, bytes."""
    tracemalloc.start()
    for _ in stream.shuffled(dataset.index, 16, seed=0, epoch=0):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_four_times_the_images_take_no_more_memory(photos, pack, monkeypatch, kind):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    small, large = (photos({"cat": half, "dog": half}, into=f"of-{half}", side=8) for half in (300, 1200))
    peaks = []
    for root in (small, large):
        dataset, _ = scan(open_dataset(pack(root, kind, together=50)), size=8, fit="pad")
        peaks.append(peak(Stream(dataset=dataset, size=96, fit="pad", memory=50 * 3 * 96**2), dataset))
    image = 3 * 96**2
    assert peaks[1] - peaks[0] < 100 * image  # for 1,800 images more
    assert peaks[1] < 600 * image


def test_leaving_an_epoch_early_is_quiet_and_spoils_nothing(shards):
    dataset, stream = shards
    whole = epoch_of(dataset, stream)
    batches = training_batches(
        dataset,
        stream,
        batch_size=8,
        augmentation=STRONG,
        balance="none",
        seed=0,
        epoch=0,
        device=torch.device("cpu"),
    )
    assert torch.equal(next(batches).images, whole[0].images)
    batches.close()
    assert torch.equal(epoch_of(dataset, stream)[1].images, whole[1].images)


def test_an_image_that_is_gone_is_named(photos):
    root = photos({"cat": 5, "dog": 5})
    dataset, _ = scan(open_dataset(root), size=SIDE, fit="pad")
    stream = Stream(dataset=dataset, size=SIDE, fit="pad")
    (root / "dog" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"dog/2\.jpg in .* was readable before: No such file or directory; put it"):
        epoch_of(dataset, stream)
    (root / "dog" / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"dog/2\.jpg in .* was readable before: its content is not an image"):
        list(stream.in_order(dataset.index, 4))


@pytest.mark.parametrize("balance", ["sampler", "oversample"])
def test_a_balance_that_takes_images_in_any_order_is_refused(shards, balance):
    dataset, stream = shards
    with pytest.raises(UsageError, match=f"balance '{balance}' .* pixels 'stream': take balance 'weights', or pixels"):
        epoch_of(dataset, stream, balance=balance)
    with pytest.raises(UsageError, match=f"balance '{balance}'"):
        Recipe().with_changes({"balance": balance, "pixels": "stream"})
    assert Recipe().with_changes({"balance": "weights", "pixels": "stream"}).pixels == "stream"


def test_statistics_are_those_of_the_pixels(packed, monkeypatch):
    dataset, pixels, stream = packed
    np.testing.assert_allclose(stream.statistics(dataset.index), pixels.statistics(dataset.index), rtol=1e-12)
    assert len(dataset) < SAMPLE
    monkeypatch.setattr(streaming, "SAMPLE", 30)
    np.testing.assert_allclose(stream.statistics(dataset.index), pixels.statistics(dataset.index), rtol=0.02)


@pytest.mark.parametrize(("kept", "side"), [("disk", SIDE), ("stream", streaming.SMALL)])
def test_a_scan_for_a_stream_keeps_small_images_only(photos, cache, kept, side):
    listing = open_dataset(photos({"cat": 4, "dog": 4}))
    dataset, pixels, small = images_of(listing, size=SIDE, fit="pad", kept=kept, progress=Silent())
    assert pixels.size == SIDE
    assert small.size == side
    assert [file.stat().st_size for file in cache.rglob("pixels.u8")] == [8 * 3 * side**2]
    assert dataset.scanned


def test_pixels_for_which_the_disk_is_too_small_are_refused(photos, cache, monkeypatch):
    listing = open_dataset(photos({"cat": 4, "dog": 4}))
    needed = 8 * 3 * 224**2
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(StorageError, match=r"8 images at 224 pixels need 1 MB in .*--set pixels=stream"):
        refuse_small_disk(listing, size=224, fit="pad")
    scan(listing, size=224, fit="pad")
    refuse_small_disk(listing, size=224, fit="pad")  # they are there already
