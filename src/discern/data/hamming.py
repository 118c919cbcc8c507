"""All pairs of 64-bit hashes that differ in few bits, exactly, in nearly linear time and memory.

Cut the hashes into radius + k blocks: two hashes within the radius agree on at least k whole blocks (pigeonhole;
Norouzi, Punjani & Fleet, 2012, for k = 1). So for every choice of k blocks, sort by those blocks and compare only
hashes that agree on them. k grows with the number of hashes so that few agree by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Int, UInt64

Hashes = UInt64[np.ndarray, " n"]
Pairs = Int[np.ndarray, "pair 2"]

_AT_ONCE = 1 << 22
"""Comparisons made together: 100 MB at most."""

_BITS = 64


def pairs_within(hashes: Hashes, radius: int) -> Pairs:
    """Positions (i, j), i < j, of all hashes that differ in at most `radius` bits, sorted."""
    found = []
    for mask in _masks(len(hashes), radius):
        key = hashes & mask
        order = np.argsort(key)
        sorted_key = key[order]
        stop = np.searchsorted(sorted_key, sorted_key, side="right")
        for left, right in _ranges(np.arange(1, len(hashes) + 1), stop):
            first, second = order[left], order[right]
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= radius
            found.append(np.stack([first[near], second[near]], axis=1))
    return _unique(np.sort(np.concatenate(found), axis=1)) if found else np.zeros((0, 2), np.int64)


def matches_within(queries: Hashes, hashes: Hashes, radius: int) -> Pairs:
    """(q, i) of all queries and hashes that differ in at most `radius` bits, sorted."""
    found = []
    for mask in _masks(len(hashes), radius):
        key = hashes & mask
        order = np.argsort(key)
        sorted_key, wanted = key[order], queries & mask
        asking = np.argsort(wanted)  # in sorted order the lookups stay in the cache
        start = np.searchsorted(sorted_key, wanted[asking], side="left")
        stop = np.searchsorted(sorted_key, wanted[asking], side="right")
        for left, right in _ranges(start, stop):
            first, second = asking[left], order[right]
            near = np.bitwise_count(queries[first] ^ hashes[second]) <= radius
            found.append(np.stack([first[near], second[near]], axis=1))
    return _unique(np.concatenate(found)) if found else np.zeros((0, 2), np.int64)


def _masks(count: int, radius: int) -> Iterator[np.uint64]:
    """The bits to agree on, one mask for each choice of blocks."""
    agreeing = 1
    while count > 4 * 2 ** (_BITS * agreeing / (radius + agreeing)) and agreeing < 6:
        agreeing += 1
    edges = np.linspace(0, _BITS, radius + agreeing + 1).round().astype(int).tolist()
    blocks = [(1 << stop) - (1 << start) for start, stop in pairwise(edges)]
    for chosen in combinations(blocks, agreeing):
        yield np.uint64(sum(chosen))


def _ranges(
    start: Int[np.ndarray, " n"], stop: Int[np.ndarray, " n"]
) -> Iterator[tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]]:
    """(k, every position from start[k] to stop[k]) for all k, some at a time."""
    lengths = stop - start
    some = np.flatnonzero(lengths > 0)
    lengths, start = lengths[some], start[some]
    totals = lengths.cumsum()
    begin = 0
    while begin < len(some):
        before = totals[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, before + _AT_ONCE, side="right")))
        length = lengths[begin:end]
        within = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length)
        yield np.repeat(some[begin:end], length), np.repeat(start[begin:end], length) + within
        begin = end


def _unique(pairs: Pairs) -> Pairs:
    if not len(pairs):
        return pairs
    width = int(pairs[:, 1].max()) + 1
    codes = np.unique(pairs[:, 0].astype(np.int64) * width + pairs[:, 1])
    return np.stack(np.divmod(codes, width), axis=1)
