"""All pairs of 64-bit hashes that differ in few bits, exactly, in nearly linear time and memory.

Cut the hashes into radius + k blocks: two hashes within the radius agree on at least k whole blocks (pigeonhole;
Norouzi, Punjani & Fleet, 2012, for k = 1). So for every choice of k blocks, sort by those blocks and compare only
hashes that agree on them. k grows with the number of hashes so that few agree by chance. A pair that agrees on more
blocks is met again and again, and counts the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Int, UInt64

from discern.errors import DataError

Hashes = UInt64[np.ndarray, " n"]
Pairs = Int[np.ndarray, "pair 2"]

_AT_ONCE = 1 << 22
"""Comparisons made together: 100 MB at most."""

_MOST = 1 << 28
"""Pairs that are returned at most: 4 GB."""

_BITS = 64


def pairs_within(hashes: Hashes, radius: int) -> Pairs:
    """Positions (i, j), i < j, of all hashes that differ in at most `radius` bits, sorted.

    Equal hashes are searched for once, but k of them are k (k - 1) / 2 pairs: raises DataError when there would be
    too many for the memory.
    """
    values, member, count = np.unique(hashes, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(count > 1)
    near = np.concatenate([_near(values, values, radius, among=True), np.stack([repeated, repeated], axis=1)])
    pairs = count[near].prod(axis=1)
    total = pairs.sum() - (count * (count + 1) // 2)[repeated].sum()  # of k equal ones not k * k
    if total > _MOST:
        raise DataError(
            f"{len(hashes):,} hashes, of which {len(values):,} are distinct, make {total:,} pairs: too many to list; "
            "look for pairs among the distinct ones."
        )
    order, begin = np.argsort(member, kind="stable"), count.cumsum() - count
    first, second = np.repeat(near, pairs, axis=0).T
    turn = np.arange(pairs.sum()) - np.repeat(pairs.cumsum() - pairs, pairs)
    one, other = order[begin[first] + turn // count[second]], order[begin[second] + turn % count[second]]
    once = (first != second) | (one < other)
    return _sorted(np.sort(np.stack([one[once], other[once]], axis=1), axis=1))


def matches_within(queries: Hashes, hashes: Hashes, radius: int) -> Pairs:
    """(q, i) of all queries and hashes that differ in at most `radius` bits, sorted; best asked of distinct ones."""
    return _sorted(_near(queries, hashes, radius, among=False))


def _near(queries: Hashes, hashes: Hashes, radius: int, *, among: bool) -> Pairs:
    """Every near (query, hash) once; when looking among themselves, each pair in one direction only."""
    found, earlier = [np.zeros((0, 2), np.int64)], list[np.uint64]()
    for mask in _masks(len(hashes), radius):
        key, wanted = hashes & mask, queries & mask
        order = np.argsort(key)
        asking = order if among else np.argsort(wanted)  # in sorted order the lookups stay in the cache
        key, wanted = key[order], wanted[asking]
        start = np.arange(1, len(key) + 1) if among else np.searchsorted(key, wanted, side="left")
        for left, right in _ranges(start, np.searchsorted(key, wanted, side="right")):
            first, second = asking[left], order[right]
            difference = queries[first] ^ hashes[second]
            new = np.bitwise_count(difference) <= radius
            for agreed in earlier:
                new[new] = (difference[new] & agreed) != 0
            found.append(np.stack([first[new], second[new]], axis=1))
        earlier.append(mask)
    return np.concatenate(found)


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


def _sorted(pairs: Pairs) -> Pairs:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
