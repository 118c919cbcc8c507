import itertools

import numpy as np
import pytest

from discern.models.baselines import (
    TRAINING_LIMIT,
    color_histogram_model,
    color_histograms,
    majority,
    spread,
)


def test_majority_gives_every_image_the_training_shares():
    given = majority(np.array([0, 2, 2, 2]), 5, 4)
    assert given.shape == (5, 4)
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, [[0.25, 0, 0.75, 0]] * 5)


def test_histograms_are_the_naive_shares_of_64_colours():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 7, 7, 3), np.uint8)
    pictures[0] = 255  # the last colour of all
    pictures[1] = 0
    given = color_histograms(pictures)
    assert given.dtype == np.float32
    for picture, shares in zip(pictures, given, strict=True):
        naive = []
        for r, g, b in itertools.product(range(4), repeat=3):
            inside = [64 * k <= picture[..., c].astype(int) for c, k in enumerate((r, g, b))]
            inside += [picture[..., c].astype(int) < 64 * (k + 1) for c, k in enumerate((r, g, b))]
            naive.append(np.logical_and.reduce(inside).mean())
        np.testing.assert_allclose(shares, naive, atol=1e-7)
    assert given[0, 63] == 1
    assert given[1, 0] == 1


def test_histograms_of_no_image_are_none():
    assert color_histograms(np.zeros((0, 7, 7, 3), np.uint8)).shape == (0, 64)


def test_colour_alone_tells_red_from_blue_images():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 60)
    pictures = rng.integers(0, 100, (60, 8, 8, 3)).astype(np.uint8)
    pictures[np.arange(60), :, :, 2 * labels] += 150
    histograms = color_histograms(pictures)
    given = color_histogram_model(histograms[:40], labels[:40], histograms[40:], 3)
    assert given.shape == (20, 3)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given.sum(1), 1, atol=1e-6)
    assert (given.argmax(1) == labels[40:]).all()
    assert (given[:, 2] == 0).all(), "a class that training lacks gets no probability"


def test_columns_stay_with_their_class_when_one_is_missing_before_them():
    rng = np.random.default_rng(3)
    histograms, labels = rng.random((20, 64)).astype(np.float32), np.repeat([1, 3], 10)
    histograms[labels == 3, 0] += 5
    given = color_histogram_model(histograms, labels, histograms, 4)
    assert (given.argmax(1) == labels).all()


@pytest.mark.parametrize("count", [1, 2, 100, TRAINING_LIMIT])
def test_few_images_are_all_used(count):
    np.testing.assert_array_equal(spread(count), np.arange(count))


def test_many_images_are_thinned_evenly_from_end_to_end():
    rows = spread(3 * TRAINING_LIMIT + 7)
    assert len(rows) == TRAINING_LIMIT
    assert (rows[0], rows[-1]) == (0, 3 * TRAINING_LIMIT + 6)
    assert set(np.diff(rows)) <= {3, 4}
