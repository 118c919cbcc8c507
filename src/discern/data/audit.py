"""The audit: what is wrong or notable in a scanned Dataset, as Findings.

Each check is a function of the table that yields Findings; `audit` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from discern.data.dataset import Dataset
from discern.data.findings import Finding

TINY = 20
"""Pixels: a picture with a shorter side shows no object that a person could name."""

IMBALANCE = 3.0
"""Largest class over smallest from which plain accuracy begins to mislead."""


def audit(dataset: Dataset) -> list[Finding]:
    """Every Finding of a scanned Dataset: unreadable files, copies, leakage, two labels, tiny, imbalance."""
    readable = dataset.filter(pl.col("problem").is_null())
    return [
        *_unreadable(dataset),
        *_copies(readable),
        *_tiny(readable),
        *_imbalance(readable),
    ]


def _unreadable(dataset: Dataset) -> Iterator[Finding]:
    for image, problem in dataset.table.filter(pl.col("problem").is_not_null()).select("image", "problem").iter_rows():
        yield Finding(
            kind="unreadable",
            severity="warning",
            rows=(image,),
            evidence=f"{image} cannot be used: {problem}.",
            remedy="It is left out; replace it with a good copy to have it back.",
        )


def _copies(dataset: Dataset) -> Iterator[Finding]:
    """Clusters of byte-identical files: leakage when they cross splits, a conflict when they differ in label."""
    clusters = (
        dataset.table.group_by("digest")
        .agg(pl.col("image", "label", "split"))
        .filter(pl.col("image").list.len() > 1)
        .sort(pl.col("image").list.first())
    )
    for images, labels, splits in clusters.select("image", "label", "split").iter_rows():
        rows = tuple(images)
        named = sorted({dataset.classes[label] for label in labels})
        if len(named) > 1:
            yield Finding(
                kind="label_conflict",
                severity="error",
                rows=rows,
                evidence=f"One photo has {len(named)} labels ({', '.join(named)}): {', '.join(rows)}.",
                remedy="Keep the right one and remove the others.",
            )
        crossed = sorted({split for split in splits if split is not None})
        if len(crossed) > 1:
            yield Finding(
                kind="leakage",
                severity="error",
                rows=rows,
                evidence=f"The same file is in {' and '.join(crossed)}: {', '.join(rows)}.",
                remedy="Remove all copies but one: a model that has seen a test image is not tested by it.",
            )
        elif len(named) == 1:
            yield Finding(
                kind="exact_duplicate",
                severity="note",
                rows=rows,
                evidence=f"{len(rows)} files are byte-identical: {', '.join(rows)}.",
                remedy="Keep one; copies weigh double in training and in every score.",
            )


def _tiny(dataset: Dataset) -> Iterator[Finding]:
    table = dataset.table.filter(pl.min_horizontal("width", "height") < TINY)
    if not table.is_empty():
        smallest = table.select(pl.min_horizontal("width", "height").min()).item()
        yield Finding(
            kind="tiny",
            severity="warning",
            rows=tuple(table["image"]),
            evidence=f"{_images(table.height)} with a side under {TINY} pixels, the smallest {smallest}.",
            remedy="Look at them; remove those that show nothing.",
        )


def _imbalance(dataset: Dataset) -> Iterator[Finding]:
    counts = {name: n for name, n in dataset.class_counts().items() if n}
    if len(counts) < 2:
        return
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / counts[smallest]
    if ratio >= IMBALANCE:
        yield Finding(
            kind="imbalance",
            severity="warning",
            rows=(),
            evidence=(
                f"Class '{largest}' has {counts[largest]} images, '{smallest}' {counts[smallest]}: {ratio:.1f} to 1."
            ),
            remedy="Training lets every class weigh the same (`balance: weights`); judge by macro F1 and recall.",
        )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
