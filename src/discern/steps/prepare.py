"""Prepare: a listing becomes data to train on - read, audited, split."""

from __future__ import annotations

import os
from dataclasses import dataclass

import polars as pl

from discern.data.audit import audit
from discern.data.dataset import Dataset
from discern.data.decode import Fit
from discern.data.findings import Finding, summarise
from discern.data.pixels import Pixels
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.split import with_splits
from discern.errors import DataError
from discern.progress import Progress

Data = Dataset | str | os.PathLike[str]
"""A Dataset, or the path of one."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data that can be trained on."""

    dataset: Dataset
    """Readable images, scanned and split."""
    pixels: Pixels
    """Of the dataset."""
    findings: tuple[Finding, ...]
    """What the audit found, unreadable files included."""


def listed(data: Data) -> Dataset:
    """The Dataset itself, or the one at that path."""
    return data if isinstance(data, Dataset) else open_dataset(data)


def prepare(data: Data, *, size: int, fit: Fit, seed: int, val_share: float, progress: Progress) -> Prepared:
    """Read every image, leave out the unreadable, make the missing splits, audit the result.

    Raises DataError when nothing can be read or a class is missing from a split.
    """
    scanned, pixels = scan(listed(data), size=size, fit=fit, progress=progress)
    readable = scanned.filter(pl.col("problem").is_null())
    if not len(readable):
        raise DataError(
            f"None of the {len(scanned)} images in {scanned.root} can be decoded; the first, "
            f"{scanned.images[0]}: {scanned.table['problem'][0]}."
        )
    dataset = with_splits(readable, seed=seed, val_share=val_share)
    unreadable = scanned.filter(pl.col("problem").is_not_null())
    findings = (*audit(unreadable), *audit(dataset))
    for sentence in summarise(findings):
        progress.say(sentence)
    return Prepared(dataset=dataset, pixels=pixels, findings=findings)
