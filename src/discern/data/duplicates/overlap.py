"""Overlap: which photos show what is among the images of a Run too, as the same file or as an edited copy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from discern.data.dataset import Dataset
from discern.data.decode import Fit
from discern.data.duplicates.search import copies
from discern.data.pixels import Beside, Pixels
from discern.data.reading import as_on_disk
from discern.data.scan import scan
from discern.progress import Progress, Silent

_COMPARED = ("index", "image", "digest", "width", "height", "hash", "signature")
"""Columns that the search for copies reads."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One photo that shows what a known image shows."""

    photo: str
    """Its name."""
    image: str
    """The known image: the identical one where there is one, else the first that shows the same."""
    split: str
    """The split the known image is in."""
    identical: bool
    """Whether the two are the same file, byte for byte; else one of them was edited."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What photos share with known images."""

    copies: tuple[Copy, ...]
    """One for each photo that is a copy, in the photos' order."""
    gone: int
    """Known images that are gone or have changed: the same file was looked for by its digest, edited copies not."""


def overlap(photos: Dataset, pixels: Pixels, known: Dataset, *, fit: Fit, progress: Progress | None = None) -> Overlap:
    """Which of the scanned `photos` are copies, or copies of copies, of the `known` images as a Run recorded them.

    The known images are looked at again, through the cache. Copies among the photos alone do not count.
    """
    identical = {digest: row for row, digest in reversed(list(enumerate(known.table["digest"])))}
    alike, compared = _alike(photos, pixels, known, fit, progress or Silent())
    images, splits, found = known.images, known.table["split"].to_list(), []
    for row, (photo, digest) in enumerate(photos.table.select("image", "digest").iter_rows()):
        at = identical.get(digest, alike.get(row))
        if at is not None:
            found.append(Copy(photo=photo, image=images[at], split=splits[at], identical=digest in identical))
    return Overlap(copies=tuple(found), gone=len(known) - compared)


def _alike(
    photos: Dataset, pixels: Pixels, known: Dataset, fit: Fit, progress: Progress
) -> tuple[dict[int, int], int]:
    """The row of a known image for each row of a photo that shows the same, and how many known ones were compared."""
    try:
        listed = as_on_disk(known)
    except Exception:  # a place behind a URL fails in all kinds of ways; that none was compared is told to the caller
        return {}, 0
    scanned, known_pixels = scan(listed, size=pixels.size, fit=fit, progress=progress)
    unchanged = (scanned.table["digest"] == known.table["digest"]).fill_null(value=False)
    rows = np.flatnonzero(unchanged & scanned.table["problem"].is_null())
    behind = photos.table.select(_COMPARED).with_columns(pl.col("index") + len(known_pixels.array))
    table = pl.concat([scanned.table.select(_COMPARED)[rows], behind])
    both = replace(scanned, table=table), Beside(first=known_pixels, second=pixels)
    clusters, _ = copies(*both, progress=progress)
    alike: dict[int, int] = {}
    for cluster in clusters:
        first, count = min(cluster), len(rows)
        if first < count:
            alike |= {row - count: int(rows[first]) for row in cluster if row >= count}
    return alike, len(rows)
