"""Prepare: a listing becomes data to train on - read, audited, split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from discern.data.audit.checks import audit, unreadable_findings
from discern.data.audit.findings import Finding, summarise
from discern.data.dataset import Dataset
from discern.data.duplicates.gate import Passage, refuse_way, through_gate
from discern.data.duplicates.search import copies
from discern.data.pixels import Pixels
from discern.data.sources import Data, listed
from discern.data.split import refuse_missing_classes, with_splits
from discern.data.streaming import Stream, images_of, refuse_small_disk
from discern.errors import DataError
from discern.progress import Progress
from discern.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data that can be trained on."""

    dataset: Dataset
    """Readable images, scanned and split."""
    pixels: Pixels | Stream
    """Of the dataset."""
    findings: tuple[Finding, ...]
    """What the audit found, unreadable files included."""
    passage: Passage
    """How it came through the gate."""


def prepare(data: Data, recipe: Recipe, *, size: int, progress: Progress) -> Prepared:
    """Read every image, leave out the unreadable, find copies, make the missing splits, pass the gate, audit.

    Raises DataError when nothing can be read, a class is missing from a split, or copies cross splits and the recipe
    names no way on.
    """
    refuse_way(recipe.leakage, recipe.because)
    listing = listed(data, group_by=recipe.group_by)
    if recipe.pixels == "disk":
        refuse_small_disk(listing, size=size, fit=recipe.fit)
    scanned, pixels, small = images_of(listing, size=size, fit=recipe.fit, kept=recipe.pixels, progress=progress)
    readable = scanned.filter(pl.col("problem").is_null())
    if not len(readable):
        raise DataError(
            f"None of the {len(scanned)} images in {scanned.root} can be decoded; the first, "
            f"{scanned.images[0]}: {scanned.table['problem'][0]}."
        )
    clusters, near = copies(readable, small, progress=progress)
    whole = with_splits(readable, seed=recipe.seed, val_share=recipe.val_share, clusters=clusters)
    dataset, passage = through_gate(whole, clusters, leakage=recipe.leakage, because=recipe.because)
    refuse_missing_classes(dataset)
    dataset = _as_asked(dataset, recipe)
    findings = (*unreadable_findings(scanned), *_after(passage, audit(whole, clusters, near)))
    for sentence in summarise(findings):
        progress.say(sentence)
    return Prepared(dataset=dataset, pixels=pixels, findings=findings, passage=passage)


def _as_asked(dataset: Dataset, recipe: Recipe) -> Dataset:
    """All that is not for testing in training (`final`), or a few training images alone (`overfit`)."""
    if recipe.final:
        return dataset.with_columns(dataset.table["split"].replace("val", "train"))
    if recipe.overfit is None:
        return dataset
    train = dataset.split("train")
    # Round after round one of each class that has more, as far as the number goes.
    turn = np.empty(len(train), np.int64)
    for label in range(len(train.classes)):
        rows = np.flatnonzero(train.labels == label)
        turn[rows] = np.arange(len(rows))
    return train.with_rows(np.sort(np.argsort(turn, kind="stable")[: recipe.overfit]))


def _after(passage: Passage, findings: list[Finding]) -> list[Finding]:
    """Leakage that was mended is a note: how, and which images; leakage that was allowed stays the error it is."""
    if passage.leakage not in ("drop", "group"):
        return findings
    note = Finding(
        kind="leakage",
        severity="note",
        rows=passage.dropped or passage.moved,
        evidence=str(passage),
        remedy="Nothing is left to do; the findings of `discern audit` show each photo and its copies.",
        detail=passage.to_json(),
    )
    return [*(finding for finding in findings if finding.kind != "leakage"), note]
