"""Duplicates: exact ones by the digest of the bytes, near ones by signature and confirmed on the pixels.

Three steps, each on what the one before lets through:

1. Candidates. Pictures as they are: every pair whose signatures point the same way (one matrix product, in tiles).
   Mirrored and turned ones: every pair whose hash variants differ in few bits.
2. Windows. A copy that was cropped at an edge agrees with some window of the other picture far better than with all
   of it, so signatures of windows are compared: first those that follow from the signatures of the whole, which
   takes no pixels, then those of the pictures.
3. Pixels. The two views are laid on each other, aligned if need be (Evangelidis & Psarakis, 2008), and must then
   correlate as a whole and differ nowhere: two photos of one scene with another object in it are no copies.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int, Int8, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from discern.data.dataset import Dataset
from discern.data.decode import resized
from discern.data.duplicates.hamming import matches_within
from discern.data.duplicates.signature import VARIANTS, VIEW, Spectra, spectra, spectra_again, variants, varied
from discern.data.pixels import Beside, Pixels
from discern.data.statistics import inside_bars
from discern.data.store import kept_table
from discern.files import cache_folder, write_table
from discern.progress import Progress, Silent

ALIKE = 0.58
"""Cosine of two signatures from which a pair is looked at: 98 % of photos cropped by 5 % at one corner reach it."""

FLIPPED_RADIUS = 4
"""Bits in which the hash of a mirrored or turned copy may differ; recompression alone changes two or three."""

WINDOW_ALIKE = 0.80
"""Cosine of the best pair of windows from which the pixels are compared."""

ABOUT_ALIKE = 0.78
"""The same for windows that were made from signatures alone, which are a little off."""

ROUGHLY = 0.80
"""Correlation of the windows in a few coarse pixels, from which it is worth the time to lay them on each other."""

CORRELATION = 0.95
"""Of the aligned views, from which two pictures count as copies."""

LEAST_SIDE = 20
"""Pixels of the shorter side under which pictures have too little in them to tell copies from look-alikes."""

VERSION = 7
"""Raised when other pairs are found for the same images."""

LARGEST_DIFFERENCE = 40.0
"""Grey levels by which copies may differ in the worst spot, after alignment and one gain for the whole picture."""

_TILE = 64
"""Signatures a side of a matrix product: below the size from which BLAS divides it among threads."""

_AT_ONCE = 64
"""Such products together: their cosines stay in the processor's cache."""

_BLOCK = 8
"""Rows of tiles that are gone through together, each by a thread."""

_A_TASK = 16
"""Pairs that a thread compares one after the other."""

_KEPT: dict[str, Any] = {"first": pl.String, "second": pl.String, "variant": pl.Int64, "correlation": pl.Float64}
"""Columns of the cached pairs; images are named by their digests."""

_PORTION = 2048
"""Pairs whose views are held in memory together."""

_COARSE = 16
"""Side of the coarse pixels."""

_CROPPED = 61
"""Length of a window in a view of 64: the 95 % that a crop leaves."""

_WINDOWS = ((0, VIEW), (0, _CROPPED), (1, _CROPPED), (3, _CROPPED))
"""Start and length of the windows in each direction; the first is all of it."""


Rows = Int[np.ndarray, " row"]
Candidates = Int[np.ndarray, "pair 3"]
"""First row, second row, variant."""

View = UInt8[np.ndarray, "side side 3"]

Warp = Float[np.ndarray, "2 3"]
"""An affine map of positions in one view to those in another."""

Pair = tuple[int, int, int, float]
"""The same with the correlation."""


@dataclass(frozen=True, kw_only=True)
class NearPairs:
    """Pairs of near duplicates among the rows of a Dataset, none of them byte-identical."""

    first: Int[np.ndarray, " pair"]
    """Row of one picture."""
    second: Int[np.ndarray, " pair"]
    """Row of the other."""
    variant: Int[np.ndarray, " pair"]
    """Index into signature.VARIANTS: what was done to the second to lay it on the first."""
    correlation: Float[np.ndarray, " pair"]
    """Of the two, aligned."""


def exact_clusters(dataset: Dataset) -> list[list[int]]:
    """Rows of byte-identical files, each cluster of two or more, in table order."""
    rows = dataset.table.with_row_index("at").filter(pl.col("digest").is_not_null())
    clusters = rows.group_by("digest", maintain_order=True).agg("at").filter(pl.col("at").list.len() > 1)
    return [list(cluster) for cluster in clusters["at"].to_list()]


def clusters(count: int, pairs: Int[np.ndarray, "pair 2"]) -> list[list[int]]:
    """Rows joined by pairs, directly or through others: each cluster of two or more, in table order."""
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return sorted(part.tolist() for part in parts if len(part) > 1)


def copies(
    dataset: Dataset, pixels: Pixels | Beside, *, cache: Path | None = None, progress: Progress | None = None
) -> tuple[list[list[int]], NearPairs]:
    """Clusters of rows that show one picture, exact and near copies alike, and the near pairs among them.

    What was found is cached under the images' content, so that it is looked for once.
    """
    digests = "".join(dataset.table["digest"].drop_nulls().unique().sort())
    key = hashlib.blake2b(f"{VERSION}|{pixels.size}|{pixels.fit}|{digests}".encode(), digest_size=12).hexdigest()
    path = (cache or cache_folder()) / "copies" / f"{key}.parquet"
    table = kept_table(path, _KEPT)
    if table is None:
        found, digest = near_pairs(dataset, pixels, progress=progress), dataset.table["digest"]
        columns = (digest[found.first], digest[found.second], found.variant, found.correlation)
        table = pl.DataFrame(dict(zip(_KEPT, columns, strict=True)), _KEPT)
        write_table(path, table)
    place = {digest: row for row, digest in reversed(list(enumerate(dataset.table["digest"]))) if digest}
    near = NearPairs(
        first=np.array([place[digest] for digest in table["first"]], np.int64),
        second=np.array([place[digest] for digest in table["second"]], np.int64),
        variant=table["variant"].to_numpy(),
        correlation=table["correlation"].to_numpy(),
    )
    exact = [(cluster[0], row) for cluster in exact_clusters(dataset) for row in cluster[1:]]
    pairs = [*exact, *zip(near.first.tolist(), near.second.tolist(), strict=True)]
    return clusters(len(dataset), np.array(pairs, np.int64).reshape(-1, 2)), near


def near_pairs(dataset: Dataset, pixels: Pixels | Beside, *, progress: Progress | None = None) -> NearPairs:
    """All pairs of readable pictures that are edited copies of each other.

    One picture of each exact cluster stands for it. Flat pictures, which show nothing, are left out. Of pictures
    that are joined already through others not every pair is looked at.
    """
    rows = _distinct(dataset)
    found: list[Pair] = []
    label = np.arange(len(dataset))  # of the cluster that a row is in so far
    cv2.setNumThreads(1)  # parallel over pairs, not inside one
    with (
        (progress or Silent()).track("Comparing images", 2 * len(rows)) as advance,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for done, pairs in _candidates(dataset, rows, label, pool):
            while len(pairs := pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]):
                portion, pairs = pairs[:_PORTION], pairs[_PORTION:]
                for pair in _confirmed(dataset, pixels, portion, pool):
                    found.append(pair)
                    label[label == label[pair[1]]] = label[pair[0]]
            advance(done, f"{len(found)} copies" if found else "")
    columns = list(zip(*sorted(found), strict=True)) or [(), (), (), ()]
    return NearPairs(
        first=np.array(columns[0], np.int64),
        second=np.array(columns[1], np.int64),
        variant=np.array(columns[2], np.int64),
        correlation=np.array(columns[3], np.float64),
    )


def _distinct(dataset: Dataset) -> Rows:
    """The first row of every digest whose picture shows something."""
    shows = (pl.col("hash").fill_null(0) != 0) & (pl.min_horizontal("width", "height") >= LEAST_SIDE)
    table = dataset.table.with_row_index("at").filter(shows)
    return table.unique("digest", keep="first", maintain_order=True)["at"].to_numpy().astype(np.int64)


def _candidates(
    dataset: Dataset, rows: Rows, label: Rows, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Candidates]]:
    """(Rows done, pairs to look at), block after block; the most alike of a block first, joined ones left out."""
    shown = dataset.table[rows]  # unlike the whole table without nulls, so that integers stay integers
    tiles = _tiles(shown["signature"].to_numpy())
    across = np.ascontiguousarray(tiles.transpose(0, 2, 1))
    for start in range(0, len(tiles), _BLOCK):
        alike = partial(_alike, tiles, across, label[rows])
        parts = list(pool.map(alike, range(start, min(start + _BLOCK, len(tiles)))))
        pairs, cosine = (np.concatenate(part) for part in zip(*parts, strict=True))
        pairs = rows[pairs[np.argsort(-cosine, kind="stable")]]
        yield min(_BLOCK * _TILE, len(rows) - start * _TILE), np.pad(pairs, ((0, 0), (0, 1)))
    values, member = np.unique(
        shown["hash"].to_numpy(), return_inverse=True
    )  # copies have one hash: ask once for all of them
    ask = variants(values)
    for variant in range(1, len(VARIANTS)):
        hits = matches_within(ask[:, variant], values, FLIPPED_RADIUS)
        yield len(rows) // (len(VARIANTS) - 1), _of_hashes(hits, member, rows, variant)


def _tiles(signature: Int8[np.ndarray, "row 64"]) -> Float[np.ndarray, "tile row 64"]:
    """Signatures of length 1, some at a time; zeros fill up the last tile."""
    values = np.zeros((-(-len(signature) // _TILE) * _TILE, 64), np.float32)
    values[: len(signature)] = signature
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)
    return values.reshape(-1, _TILE, 64)


def _alike(
    tiles: Float[np.ndarray, "tile row 64"],
    across: Float[np.ndarray, "tile 64 row"],
    label: Rows,
    at: int,
) -> tuple[Int[np.ndarray, "pair 2"], Float[np.ndarray, " pair"]]:
    """Pairs of a row in tile `at` and any later row, not joined yet, whose cosine is above ALIKE; and the cosine."""
    found = []
    for start in range(at, len(tiles), _AT_ONCE):
        cosine = tiles[at] @ across[start : start + _AT_ONCE]
        hit = np.flatnonzero(cosine > ALIKE)
        tile, first, second = np.unravel_index(hit, cosine.shape)
        pairs = np.stack([first + at * _TILE, second + (tile + start) * _TILE], axis=1)
        fresh = (pairs[:, 0] < pairs[:, 1]) & (label[pairs[:, 0]] != label[pairs[:, 1]])
        found.append((pairs[fresh], cosine.reshape(-1)[hit[fresh]]))
    pairs, cosine = (np.concatenate(part) for part in zip(*found, strict=True))
    return pairs, cosine


def _of_hashes(
    hits: Int[np.ndarray, "hit 2"], member: Int[np.ndarray, " row"], rows: Rows, variant: int
) -> Candidates:
    """Pairs of rows for pairs of hash values; the second, changed by the variant, looks like the first."""
    order = np.argsort(member, kind="stable")
    first_of = order[np.searchsorted(member[order], np.arange(member.max(initial=-1) + 1))]
    second, first = rows[first_of[hits[:, 0]]], rows[first_of[hits[:, 1]]]
    keep = first != second  # a symmetric picture is its own mirror image
    if variant not in (5, 6):  # all but the quarter turns undo themselves: each pair is found from both sides
        keep &= first < second
    pairs: Candidates = np.stack([first, second, np.full(len(first), variant)], axis=1)
    kept: Candidates = pairs[keep]
    return kept


def _confirmed(
    dataset: Dataset, pixels: Pixels | Beside, pairs: Candidates, pool: ThreadPoolExecutor
) -> Iterator[Pair]:
    """Those of the pairs, all of one variant, whose windows and pixels agree."""
    variant = int(pairs[0, 2])
    if variant == 0:
        pairs = _promising(dataset, pairs)
    if not len(pairs):
        return
    wanted, position = np.unique(pairs[:, :2], return_inverse=True)
    first, second = position.reshape(-1, 2).T
    views = _views(dataset, pixels, wanted)
    grey = cv2.cvtColor(views.reshape(-1, VIEW, 3), cv2.COLOR_RGB2GRAY).reshape(-1, VIEW, VIEW)
    windows = spectra(grey, _WINDOWS)
    turned = windows if variant == 0 else spectra(np.ascontiguousarray(varied(grey, variant)), _WINDOWS)
    window, swapped, cosine = _best_windows(windows, turned, first, second)

    def judge(jobs: Sequence[int]) -> list[tuple[int, float]]:
        found = []
        for job in jobs:
            one, two = views[first[job]], np.ascontiguousarray(varied(views[second[job]][None], variant)[0])
            whole, other = (two, one) if swapped[job] else (one, two)
            if (correlation := _correlation(whole, other, window[job])) is not None:
                found.append((job, correlation))
        return found

    jobs = np.flatnonzero(cosine > WINDOW_ALIKE).tolist()
    for found in pool.map(judge, [jobs[start : start + _A_TASK] for start in range(0, len(jobs), _A_TASK)]):
        for job, correlation in found:
            a, b, kind = pairs[job].tolist()
            yield (a, b, kind, correlation) if a < b else (b, a, _inverse(kind), correlation)


def _promising(dataset: Dataset, pairs: Candidates) -> Candidates:
    """Those whose windows may agree, to judge by their signatures."""
    wanted, position = np.unique(pairs[:, :2], return_inverse=True)
    windows = spectra_again(dataset.table["signature"][wanted].to_numpy(), _WINDOWS)
    _, _, cosine = _best_windows(windows, windows, *position.reshape(-1, 2).T)
    kept: Candidates = pairs[cosine > ABOUT_ALIKE]
    return kept


def _inverse(variant: int) -> int:
    return {5: 6, 6: 5}.get(variant, variant)


def _views(dataset: Dataset, pixels: Pixels | Beside, rows: Rows) -> UInt8[np.ndarray, "row side side 3"]:
    """Squashed views of pictures, made from Pixels; bars, their own and those that fitting added, are cut off."""
    index = dataset.index[rows]
    width, height = (dataset.table[name][rows].to_list() for name in ("width", "height"))
    views = np.empty((len(rows), VIEW, VIEW, 3), np.uint8)
    for at, row in enumerate(index.tolist()):
        content = pixels.content(row, width[at], height[at])
        inside = inside_bars(cv2.cvtColor(content, cv2.COLOR_RGB2GRAY))
        views[at] = resized(content[inside], VIEW, VIEW)
    return views


def _best_windows(
    windows: Spectra, turned: Spectra, first: Int[np.ndarray, " pair"], second: Int[np.ndarray, " pair"]
) -> tuple[Int[np.ndarray, " pair"], Bool[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """For each pair the window of one that agrees best with all of the other.

    Which window; whether it is the second's, the first being whole; and the cosine of the two.
    """
    windows, turned = (each.reshape(len(each), -1, 64) for each in (windows, turned))
    of_first = np.einsum("pwf,pf->pw", windows[first], turned[second, 0])
    of_second = np.einsum("pwf,pf->pw", turned[second], windows[first, 0])
    both = np.concatenate([of_first, of_second], axis=1)
    best, count = both.argmax(axis=1), len(_WINDOWS) ** 2
    return best % count, best >= count, both.max(axis=1)


def _correlation(one: View, other: View, window: int) -> float | None:
    """Correlation of `other` with the aligned window of `one`; none when they are not copies."""
    (top, height), (left, width) = _WINDOWS[window // len(_WINDOWS)], _WINDOWS[window % len(_WINDOWS)]
    shape = (_COARSE, _COARSE)
    coarse = (
        cv2.resize(each, shape, interpolation=cv2.INTER_AREA)
        for each in (one[top : top + height, left : left + width], other)
    )
    if _agreement(*coarse)[0] < ROUGHLY:
        return None
    start = np.array([[width / VIEW, 0, left], [0, height / VIEW, top]], np.float32)
    found = _laid(one, other, start)
    return found if found is not None else _laid(one, other, _aligned(one, other, start))


def _aligned(one: View, other: View, start: Warp) -> Warp:
    """The affine map that lays `one` on `other`, near the one to start with, or that one."""
    grey, other_grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (one, other))
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    try:
        _, warp = cv2.findTransformECC(other_grey, grey, start.copy(), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it does not converge: no alignment exists
        return start
    if np.abs(warp - start)[:, :2].max() > 0.06 or np.abs(warp - start)[:, 2].max() > 4:
        return start  # a copy is not sheared; what the alignment found is something else
    found: Warp = warp
    return found


def _laid(one: View, other: View, warp: Warp) -> float | None:
    """Correlation of `other` with `one` laid on it so; none when they are not copies."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(one, warp, (VIEW, VIEW), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inner = (slice(2, -2), slice(2, -2))  # the edge may have lain outside
    correlation, difference = _agreement(laid[inner], other[inner])
    if correlation < CORRELATION or cv2.blur(difference, (7, 7)).max() > LARGEST_DIFFERENCE:
        return None
    return correlation


def _agreement(one: View, other: View) -> tuple[float, Float[np.ndarray, "side side"]]:
    """Correlation of two views, and how far they differ at each place, in grey levels.

    A copy may have other levels and be paler as a whole, so mean and gain are taken out.
    """
    a, b = (cv2.subtract(each, np.array(cv2.mean(each)), dtype=cv2.CV_32F) for each in (one, other))
    product, energy = float(np.vdot(a, b)), float(np.vdot(a, a))
    correlation = product / max((energy * float(np.vdot(b, b))) ** 0.5, 1e-6)
    difference = cv2.absdiff(b, a * np.float32(product / max(energy, 1e-6)))
    return correlation, cv2.transform(difference, np.full((1, 3), 1 / 3, np.float32))
