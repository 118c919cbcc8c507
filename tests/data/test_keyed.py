import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from discern.data import keyed

KEYS = np.random.default_rng(0).integers(0, 2**64, 5000, np.uint64, endpoint=False)
SEQUENCE = np.arange(5000, dtype=np.uint64)


@pytest.mark.parametrize("keys", [KEYS, SEQUENCE], ids=["random", "sequence"])
def test_the_numbers_are_uniform_and_unrelated(keys):
    numbers = keyed.uniform(7, 3, keys, 4)
    assert numbers.shape == (5000, 4)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for draw in range(4):
        assert stats.kstest(numbers[:, draw], "uniform").pvalue > 1e-4
    counts, *_ = np.histogram2d(numbers[:, 0], numbers[:, 1], bins=10, range=[(0, 1), (0, 1)])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    related = np.corrcoef(numbers.T)[np.triu_indices(4, 1)]
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert np.abs([*related, neighbours]).max() < 0.06


@pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 4}, {"seed": 3, "epoch": 7}])
def test_another_seed_or_epoch_gives_unrelated_numbers(other):
    first = keyed.uniform(7, 3, KEYS, 2)
    second = keyed.uniform(**{"seed": 7, "epoch": 3} | other, keys=KEYS, draws=2)
    assert not (first == second).any()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


@given(seed=st.integers(-(2**63), 2**64 - 1), epoch=st.integers(0, 10**6), data=st.data())
@settings(deadline=None, max_examples=60)
def test_an_image_has_its_numbers_whatever_stands_beside_it(seed, epoch, data):
    order = data.draw(st.permutations(range(8)))
    part = order[: data.draw(st.integers(1, 8))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = keyed.uniform(seed, epoch, KEYS[:8], 3)
        apart = keyed.uniform(seed, epoch, KEYS[:8][part], 3)
    np.testing.assert_array_equal(apart, together[part])


def test_more_draws_do_not_change_the_first_ones():
    np.testing.assert_array_equal(keyed.uniform(1, 2, KEYS, 6)[:, :2], keyed.uniform(1, 2, KEYS, 2))


def test_the_numbers_do_not_change_between_versions():
    # Runs of old versions can be repeated only as long as these stay.
    numbers = keyed.uniform(0, 0, np.array([0, 2**64 - 1], np.uint64), 2)
    assert numbers.tolist() == [[0.6129305541874254, 0.4571219854292796], [0.6338180526166982, 0.3480043248257729]]


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 1000), count=st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_a_permutation_has_every_number_once(seed, epoch, count):
    assert sorted(keyed.permutation(seed, epoch, count).tolist()) == list(range(count))


def test_permutations_differ_between_epochs_and_seeds():
    first = keyed.permutation(0, 0, 100)
    for seed, epoch in ((0, 1), (1, 0)):
        assert (keyed.permutation(seed, epoch, 100) == first).mean() < 0.1
    assert abs(stats.spearmanr(first, np.arange(100)).statistic) < 0.4
