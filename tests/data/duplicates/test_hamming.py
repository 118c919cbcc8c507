import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.data.duplicates.hamming import matches_within, pairs_within
from discern.errors import DataError


def by_hand(queries, hashes, radius):
    """Every position with every other."""
    return np.argwhere(np.bitwise_count(queries[:, None] ^ hashes[None]) <= radius)


def crowded(count, seed, distances=9):
    """Random hashes, half of them near another one, some equal."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 64, count, dtype=np.uint64)
    for row in range(count // 2):
        bits = rng.choice(64, int(rng.integers(0, distances)), replace=False).astype(np.uint64)
        hashes[row] = hashes[rng.integers(0, count)] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    return hashes


few_bits = st.lists(st.sampled_from([1 << bit for bit in range(0, 64, 5)]), max_size=6).map(
    lambda bits: sum(set(bits))
)
any_hash = st.integers(0, 2**64 - 1)


@given(values=st.lists(few_bits | any_hash, max_size=60), radius=st.integers(0, 10))
@settings(deadline=None, max_examples=200)
def test_pairs_are_those_of_comparing_all_with_all(values, radius):
    hashes = np.array(values, np.uint64)
    expected = by_hand(hashes, hashes, radius)
    np.testing.assert_array_equal(pairs_within(hashes, radius), expected[expected[:, 0] < expected[:, 1]])


@given(
    queries=st.lists(few_bits | any_hash, max_size=30),
    values=st.lists(few_bits | any_hash, max_size=40),
    radius=st.integers(0, 10),
)
@settings(deadline=None, max_examples=200)
def test_matches_are_those_of_comparing_all_with_all(queries, values, radius):
    asked, hashes = np.array(queries, np.uint64), np.array(values, np.uint64)
    np.testing.assert_array_equal(matches_within(asked, hashes, radius), by_hand(asked, hashes, radius))


@pytest.mark.parametrize("count", [300, 1500, 4000])  # with one block to agree on, and more
@pytest.mark.parametrize("radius", [0, 1, 4, 6])
def test_many_hashes(count, radius):
    hashes = crowded(count, seed=count + radius)
    expected = by_hand(hashes, hashes, radius)
    pairs = expected[expected[:, 0] < expected[:, 1]]
    assert len(pairs) > count / 100
    np.testing.assert_array_equal(pairs_within(hashes, radius), pairs)
    np.testing.assert_array_equal(matches_within(hashes[:200], hashes, radius), expected[expected[:, 0] < 200])


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_have_no_pairs(count):
    hashes = np.arange(count, dtype=np.uint64)
    assert pairs_within(hashes, 4).shape == (0, 2)
    assert matches_within(hashes[:0], hashes, 4).shape == matches_within(hashes, hashes[:0], 4).shape == (0, 2)


@pytest.mark.parametrize("radius", [0, 6])
def test_equal_hashes_are_all_paired(radius):
    pairs = pairs_within(np.full(300, 7, np.uint64), radius)
    np.testing.assert_array_equal(pairs, np.stack(np.triu_indices(300, 1), axis=1))


def test_more_equal_hashes_than_could_be_listed_are_refused_at_once():
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"50,001 hashes, of which 2 are distinct, make 1,250,025,000 pairs"):
            pairs_within(np.array([3] + [1] * 50_000, np.uint64), 6)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_hashes_not_with_the_comparisons():
    hashes = crowded(50_000, seed=0, distances=30)
    tracemalloc.start()
    try:
        pairs_within(hashes, 4)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
