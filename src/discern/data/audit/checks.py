"""The audit: what is wrong or notable in a scanned Dataset, as Findings.

Each check is a function that yields Findings; `audit` runs those that need no more than the scan and the copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from discern.data.audit.findings import Finding
from discern.data.audit.giveaway import giveaways, shifts
from discern.data.audit.quality import quality_findings
from discern.data.dataset import Dataset
from discern.data.duplicates.search import NearPairs
from discern.data.duplicates.signature import VARIANTS

IMBALANCE = 3.0
"""Largest class over smallest from which plain accuracy begins to mislead."""


def audit(dataset: Dataset, clusters: Sequence[Sequence[int]], near: NearPairs) -> list[Finding]:
    """Findings about readable images, given what `copies` found in them: rows of one picture, and the near pairs."""
    return [
        *_copies(dataset, clusters, near),
        *quality_findings(dataset),
        *_imbalance(dataset),
        *giveaways(dataset),
        *shifts(dataset),
    ]


def unreadable_findings(dataset: Dataset) -> Iterator[Finding]:
    """One Finding for each image that cannot be decoded."""
    for image, problem in dataset.table.filter(pl.col("problem").is_not_null()).select("image", "problem").iter_rows():
        yield Finding(
            kind="unreadable",
            severity="warning",
            rows=(image,),
            evidence=f"{image} cannot be used: {problem}.",
            remedy="It is left out; replace it with a good copy to have it back.",
        )


def _copies(dataset: Dataset, clusters: Sequence[Sequence[int]], near: NearPairs) -> Iterator[Finding]:
    """Copies of one picture: leakage when they cross splits, a conflict when they differ in label."""
    digests, images = dataset.table["digest"].to_list(), dataset.images
    labels, splits = dataset.labels, dataset.table["split"].to_list()
    edits = _edits(near)
    for cluster in clusters:
        rows = tuple(images[row] for row in cluster)
        same_file = len({digests[row] for row in cluster}) == 1
        what = "The same file" if same_file else "The same picture"
        how, detail = "", {}
        if not same_file:
            known = [edits[row] for row in cluster if row in edits]
            variants = sorted({VARIANTS[variant] for variant, _ in known if variant})
            detail = {"correlation": round(min(c for _, c in known), 4), "variants": variants}
            how = f" (edited: correlation {detail['correlation']:.3f}{''.join(f', {each}' for each in variants)})"
        named = sorted({dataset.classes[labels[row]] for row in cluster if labels[row] >= 0})
        if len(named) > 1:
            yield Finding(
                kind="label_conflict",
                severity="error",
                rows=rows,
                evidence=f"{what} has {len(named)} labels ({', '.join(named)}){how}: {', '.join(rows)}.",
                remedy="Keep the right one: `discern relabel PHOTOS IMAGE --drop --because ...` leaves out the rest.",
                detail=detail,
            )
        crossed = sorted({split for row in cluster if (split := splits[row]) is not None})
        if len(crossed) > 1:
            yield Finding(
                kind="leakage",
                severity="error",
                rows=rows,
                evidence=f"{what} is in {' and '.join(crossed)}{how}: {', '.join(rows)}.",
                remedy=(
                    "Training refuses it: a model that has seen a test image is not tested by it. "
                    "`--leakage drop` leaves the training copies out."
                ),
                detail=detail,
            )
        elif len(named) < 2:
            yield from _plain_copies(cluster, rows, digests, same_file, how, detail)


def _plain_copies(
    cluster: Sequence[int],
    rows: tuple[str, ...],
    digests: Sequence[str],
    same_file: bool,
    how: str,
    detail: dict[str, object],
) -> Iterator[Finding]:
    """Copies in one class and split; identical files among edited copies are named on their own too."""
    remedy = "Keep one; copies weigh double in training and in every score."
    identical: dict[str, list[str]] = {}
    for row, name in zip(cluster, rows, strict=True):
        identical.setdefault(digests[row], []).append(name)
    for names in identical.values():
        if len(names) > 1:
            yield Finding(
                kind="exact_duplicate",
                severity="note",
                rows=tuple(names),
                evidence=f"{len(names)} files are byte-identical: {', '.join(names)}.",
                remedy=remedy,
            )
    if not same_file:
        yield Finding(
            kind="near_duplicate",
            severity="note",
            rows=rows,
            evidence=f"{len(rows)} files show the same picture{how}: {', '.join(rows)}.",
            remedy=remedy,
            detail=dict(detail),
        )


def _edits(near: NearPairs) -> dict[int, tuple[int, float]]:
    """For each row of a near pair, the variant and correlation of its least alike pair."""
    found: dict[int, tuple[int, float]] = {}
    columns = (near.first.tolist(), near.second.tolist(), near.variant.tolist(), near.correlation.tolist())
    for first, second, variant, correlation in zip(*columns, strict=True):
        for row in (first, second):
            if row not in found or correlation < found[row][1]:
                found[row] = (variant, correlation)
    return found


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
            detail={"counts": counts},
        )
