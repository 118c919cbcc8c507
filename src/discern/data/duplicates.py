"""Duplicates: exact ones by the digest of the bytes, near ones by signature and confirmed on the pixels.

Three steps, each on what the one before lets through:

1. Candidates. Pictures as they are: every pair whose signatures point the same way (one matrix product, in blocks).
   Mirrored and turned ones: every pair whose hash variants differ in few bits.
2. Windows. A copy that was cropped at an edge agrees with some window of the other picture far better than with all
   of it, so signatures of windows are compared.
3. Pixels. The two views are laid on each other (Evangelidis & Psarakis, 2008), and must then correlate as a whole
   and differ nowhere: two photos of one scene with another object in it are no copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from discern.data.dataset import Dataset
from discern.data.hamming import matches_within
from discern.data.pixels import Beside, Pixels
from discern.data.signature import VARIANTS, VIEW, spectra, variants, varied
from discern.files import cache_folder, write_table
from discern.progress import Progress, Silent

ALIKE = 0.58
"""Cosine of two signatures from which a pair is looked at: 98 % of photos cropped by 5 % at one corner reach it."""

FLIPPED_RADIUS = 4
"""Bits in which the hash of a mirrored or turned copy may differ; recompression alone changes two or three."""

WINDOW_ALIKE = 0.80
"""Cosine of the best pair of windows from which the pixels are compared."""

CORRELATION = 0.95
"""Of the aligned views, from which two pictures count as copies."""

VERSION = 1
"""Raised when other pairs are found for the same images."""

LARGEST_DIFFERENCE = 40.0
"""Grey levels by which copies may differ in the worst spot, after alignment and one gain for the whole picture."""

_BLOCK, _TILE = 512, 2048
"""Rows and columns of signatures that are compared together: their cosines stay in the processor's cache."""

_PORTION = 2048
"""Pairs whose views are held in memory together."""

_CROPPED = 61
"""Length of a window in a view of 64: the 95 % that a crop leaves."""

_WINDOWS = ((0, VIEW), (0, _CROPPED), (1, _CROPPED), (3, _CROPPED))
"""Start and length of the windows in each direction; the first is all of it."""


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
    digests = dataset.table["digest"].drop_nulls().unique().sort()
    key = hashlib.blake2b(f"{VERSION}|{pixels.size}|".encode() + "".join(digests).encode(), digest_size=12).hexdigest()
    path = (cache or cache_folder()) / "copies" / f"{key}.parquet"
    place = {digest: row for row, digest in reversed(list(enumerate(dataset.table["digest"]))) if digest}
    if path.exists():
        table = pl.read_parquet(path)
    else:
        found = near_pairs(dataset, pixels, progress=progress)
        digest = dataset.table["digest"]
        table = pl.DataFrame(
            {
                "first": digest[found.first],
                "second": digest[found.second],
                "variant": found.variant,
                "correlation": found.correlation,
            },
            {"first": pl.String, "second": pl.String, "variant": pl.Int64, "correlation": pl.Float64},
        )
        write_table(path, table)
    near = NearPairs(
        first=np.array([place[digest] for digest in table["first"]], np.int64),
        second=np.array([place[digest] for digest in table["second"]], np.int64),
        variant=table["variant"].to_numpy(),
        correlation=table["correlation"].to_numpy(),
    )
    exact = [(cluster[0], row) for cluster in exact_clusters(dataset) for row in cluster[1:]]
    pairs = [*exact, *zip(near.first.tolist(), near.second.tolist(), strict=True)]
    return clusters(len(dataset), np.array(pairs, np.int64).reshape(-1, 2)), near


def near_pairs(
    dataset: Dataset,
    pixels: Pixels | Beside,
    *,
    progress: Progress | None = None,
) -> NearPairs:
    """All pairs of readable pictures that are edited copies of each other.

    One picture of each exact cluster stands for it. Flat pictures, which show nothing, are left out. Of pictures
    that are joined already through others not every pair is looked at.
    """
    rows = _distinct(dataset)
    found: list[tuple[int, int, int, float]] = []
    joined = _Joined(len(dataset))
    work = len(rows) * 2
    with (progress or Silent()).track("Comparing images", work) as advance:
        for done, candidates in _candidates(dataset, rows):
            for start in range(0, len(candidates), _PORTION):
                portion = candidates[start : start + _PORTION]
                fresh = portion[[not joined(first, second) for first, second, _ in portion.tolist()]]
                for pair in _confirmed(dataset, pixels, fresh):
                    joined.join(pair[0], pair[1])
                    found.append(pair)
            advance(done, f"{len(found)} copies" if found else "")
    columns = list(zip(*sorted(found), strict=True)) or [(), (), (), ()]
    return NearPairs(
        first=np.array(columns[0], np.int64),
        second=np.array(columns[1], np.int64),
        variant=np.array(columns[2], np.int64),
        correlation=np.array(columns[3], np.float64),
    )


class _Joined:
    """Which rows are in one cluster so far (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def __call__(self, first: int, second: int) -> bool:
        return self.root(first) == self.root(second)

    def join(self, first: int, second: int) -> None:
        self._parent[self.root(first)] = self.root(second)


def _distinct(dataset: Dataset) -> Int[np.ndarray, " row"]:
    """The first row of every digest whose picture shows something."""
    table = dataset.table.with_row_index("at").filter(pl.col("hash").fill_null(0) != 0)
    return table.unique("digest", keep="first", maintain_order=True)["at"].to_numpy().astype(np.int64)


def _candidates(dataset: Dataset, rows: Int[np.ndarray, " row"]) -> Iterator[tuple[int, Int[np.ndarray, "pair 3"]]]:
    """(Rows done, pairs (first, second, variant) to look at), block after block; the most alike of a block first."""
    signature = dataset.table["signature"].to_numpy()[rows].astype(np.float32)
    signature /= np.linalg.norm(signature, axis=1, keepdims=True)
    for start in range(0, len(rows), _BLOCK):
        first, second = _alike(signature, start)
        pairs = np.stack([rows[first], rows[second], np.zeros_like(first)], axis=1)
        yield min(_BLOCK, len(rows) - start), pairs
    hashes = dataset.table["hash"].to_numpy()[rows]
    values, member = np.unique(hashes, return_inverse=True)  # copies have one hash: ask once for all of them
    ask = variants(values)
    for variant in range(1, len(VARIANTS)):
        hits = matches_within(ask[:, variant], values, FLIPPED_RADIUS)
        yield len(rows) // (len(VARIANTS) - 1), _of_hashes(hits, member, rows, variant)


def _alike(
    signature: Float[np.ndarray, "row 64"], start: int
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Pairs above ALIKE of a row in the block that begins at `start` and any later row, the most alike first."""
    block, found = signature[start : start + _BLOCK], []
    for column in range(start, len(signature), _TILE):
        cosine = block @ signature[column : column + _TILE].T
        hit = np.flatnonzero(cosine > ALIKE)
        first, second = np.divmod(hit, cosine.shape[1])
        found.append((first + start, second + column, cosine.reshape(-1)[hit]))
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(-cosine, kind="stable")
    order = order[second[order] > first[order]]
    return first[order], second[order]


def _of_hashes(
    hits: Int[np.ndarray, "hit 2"], member: Int[np.ndarray, " row"], rows: Int[np.ndarray, " row"], variant: int
) -> Int[np.ndarray, "pair 3"]:
    """Pairs of rows for pairs of hash values; the second, changed by the variant, looks like the first."""
    order = np.argsort(member, kind="stable")
    first_of = order[np.searchsorted(member[order], np.arange(member.max(initial=-1) + 1))]
    second, first = rows[first_of[hits[:, 0]]], rows[first_of[hits[:, 1]]]
    keep = first != second  # a symmetric picture is its own mirror image
    if variant not in (5, 6):  # all but the quarter turns undo themselves: each pair is found from both sides
        keep &= first < second
    pairs: Int[np.ndarray, "pair 3"] = np.stack([first, second, np.full(len(first), variant)], axis=1)
    kept: Int[np.ndarray, "pair 3"] = pairs[keep]
    return kept


def _confirmed(
    dataset: Dataset, pixels: Pixels | Beside, pairs: Int[np.ndarray, "pair 3"]
) -> Iterator[tuple[int, int, int, float]]:
    """Those of the pairs whose windows and pixels agree."""
    if not len(pairs):
        return
    wanted, position = np.unique(pairs[:, :2], return_inverse=True)
    position = position.reshape(-1, 2)
    views = _views(dataset, pixels, wanted)
    grey = cv2.cvtColor(views.reshape(-1, VIEW, 3), cv2.COLOR_RGB2GRAY).reshape(-1, VIEW, VIEW)
    for variant in np.unique(pairs[:, 2]).tolist():
        chosen = np.flatnonzero(pairs[:, 2] == variant)
        first, second = position[chosen].T
        turned_grey = np.ascontiguousarray(varied(grey, variant))
        window, swapped, agree = _best_windows(grey, turned_grey, first, second)
        jobs = np.flatnonzero(agree)

        def judge(job: int, variant: int = variant) -> float | None:
            one = views[first[job]]  # noqa: B023 - used within this turn of the loop
            two = np.ascontiguousarray(varied(views[second[job]][None], variant)[0])  # noqa: B023
            return _correlation(two, one, window[job]) if swapped[job] else _correlation(one, two, window[job])  # noqa: B023

        with ThreadPoolExecutor() as pool:
            judged = list(pool.map(judge, jobs.tolist()))
        for job, correlation in zip(jobs.tolist(), judged, strict=True):
            if correlation is not None:
                a, b, kind = pairs[chosen[job]].tolist()
                yield (a, b, kind, correlation) if a < b else (b, a, _inverse(kind), correlation)


def _inverse(variant: int) -> int:
    return {5: 6, 6: 5}.get(variant, variant)


def _views(
    dataset: Dataset, pixels: Pixels | Beside, rows: Int[np.ndarray, " row"]
) -> UInt8[np.ndarray, "row side side 3"]:
    """Squashed views of whole pictures, made from Pixels; the borders that fitting added are cut off."""
    index = dataset.index[rows]
    width, height = (dataset.table[name].to_numpy()[rows] for name in ("width", "height"))
    views = np.empty((len(rows), VIEW, VIEW, 3), np.uint8)
    for at, row in enumerate(index.tolist()):
        image = pixels.content(row, int(width[at]), int(height[at]))
        method = cv2.INTER_AREA if min(image.shape[:2]) >= VIEW else cv2.INTER_LINEAR
        cv2.resize(image, (VIEW, VIEW), dst=views[at], interpolation=method)
    return views


def _best_windows(
    grey: UInt8[np.ndarray, "view side side"],
    turned: UInt8[np.ndarray, "view side side"],
    first: Int[np.ndarray, " pair"],
    second: Int[np.ndarray, " pair"],
) -> tuple[Int[np.ndarray, " pair"], Bool[np.ndarray, " pair"], Bool[np.ndarray, " pair"]]:
    """For each pair the window of one that agrees best with all of the other.

    Which window; whether it is the second's, the first being whole; and whether they agree well enough.
    """
    windows, turned_windows = (spectra(each, _WINDOWS).reshape(len(each), -1, 64) for each in (grey, turned))
    of_first = np.einsum("pwf,pf->pw", windows[first], turned_windows[second, 0])
    of_second = np.einsum("pwf,pf->pw", turned_windows[second], windows[first, 0])
    both = np.concatenate([of_first, of_second], axis=1)
    best, count = both.argmax(axis=1), len(_WINDOWS) ** 2
    return best % count, best >= count, both.max(axis=1) > WINDOW_ALIKE


def _correlation(one: UInt8[np.ndarray, "s s 3"], other: UInt8[np.ndarray, "s s 3"], window: int) -> float | None:
    """Correlation of `other` with the aligned window of `one`; none when they are not copies."""
    (top, height), (left, width) = _WINDOWS[window // len(_WINDOWS)], _WINDOWS[window % len(_WINDOWS)]
    start = np.array([[width / VIEW, 0, left], [0, height / VIEW, top]], np.float32)
    grey, other_grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (one, other))
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        _, warp = cv2.findTransformECC(other_grey, grey, start.copy(), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it does not converge: no alignment exists
        warp = start
    if np.abs(warp - start)[:, :2].max() > 0.06 or np.abs(warp - start)[:, 2].max() > 4:
        warp = start  # a copy is not sheared; what the alignment found is something else
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(one, warp, (VIEW, VIEW), flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    inner = (slice(2, -2), slice(2, -2))  # the edge may have lain outside
    a, b = laid[inner].reshape(-1, 3), other[inner].reshape(-1, 3).astype(np.float32)
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    energy = float((a0**2).sum()), float((b0**2).sum())
    product = float((a0 * b0).sum())
    correlation = product / max((energy[0] * energy[1]) ** 0.5, 1e-6)
    if correlation < CORRELATION:
        return None
    gain = product / max(energy[0], 1e-6)  # a copy may be brighter or paler as a whole
    rest = np.abs(b0 - gain * a0).reshape(VIEW - 4, VIEW - 4, 3).mean(axis=2)
    worst = float(cv2.blur(rest, (7, 7)).max())
    return correlation if worst <= LARGEST_DIFFERENCE else None
