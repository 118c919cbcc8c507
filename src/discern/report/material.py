"""Material: the data that runs were made from - classes, splits, copies, sizes, and what the audit found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from discern.data.audit.findings import grouped
from discern.data.dataset import SPLITS, Dataset
from discern.data.duplicates.gate import Passage
from discern.report import wording
from discern.report.plots import count_plot, side_plot
from discern.report.subject import SPLIT_NAMES, Subject

_EVIDENCE = 260
"""Characters of evidence in the table: a cluster of copies can name thousands of files."""


@dataclass(frozen=True, kw_only=True)
class FindingLine:
    """All findings of one kind and severity."""

    kind: str
    """In words."""
    severity: str
    """'error', 'warning' or 'note'."""
    count: int
    """Findings."""
    images: int
    """Images concerned."""
    evidence: str
    """That of the first."""
    remedy: str
    """What to do."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The data section, once per dataset."""

    title: str
    """Images, classes and root."""
    runs: str
    """Which runs used it; empty when all did."""
    splits: tuple[tuple[str, str, str], ...]
    """Split, its name in words, and its number of images."""
    counts: Markup
    """Images per class and split."""
    gate: str
    """What became of copies in several splits; empty for runs that were not asked."""
    leaky: bool
    """Whether they stayed there."""
    sides: Markup | None
    """The sizes of the images; none when the data was not scanned."""
    sides_sentence: str
    """Smallest, median and largest."""
    findings: tuple[FindingLine, ...]
    """The gravest first."""


def materials(subjects: Sequence[Subject]) -> tuple[Material, ...]:
    """A section per distinct dataset, in the order of the runs."""
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(str(subject.info["dataset"]["fingerprint"]), []).append(subject)
    return tuple(
        _material(group, f"d{number}", "" if len(groups) == 1 else wording.listing(tuple(s.name for s in group)))
        for number, group in enumerate(groups.values(), start=1)
    )


def _material(group: Sequence[Subject], anchor: str, runs: str) -> Material:
    first = group[0]
    dataset = first.dataset
    sides, sentence = _sides(dataset, int(first.info["preprocessing"]["size"]), anchor)
    return Material(
        title=f"{wording.count(len(dataset), 'image')} of {len(dataset.classes)} classes in {dataset.root}",
        runs=runs,
        splits=tuple(
            (split, SPLIT_NAMES[split].capitalize(), f"{number:,}") for split, number in dataset.split_counts().items()
        ),
        counts=_counts(dataset, anchor),
        gate=passed(first.passage) if first.passage else "",
        leaky=first.passage is not None and first.passage.leakage == "allow",
        sides=sides,
        sides_sentence=sentence,
        findings=_findings(first),
    )


def passed(passage: Passage) -> str:
    """What became of copies in several splits, in a sentence."""
    several = wording.count(passage.clusters, "photo was", "photos were") + " in several splits"
    if passage.leakage == "drop":
        left_out = wording.count(len(passage.dropped), "copy was", "copies were")
        return f"{several}: {left_out} left out of training and validation (--leakage drop), every test image kept."
    if passage.leakage == "group":
        moved = wording.count(len(passage.moved), "copy was", "copies were")
        return f"{several}: {moved} moved to the split of the held-out one (--leakage group), none left out."
    if passage.leakage == "allow":
        return f"{several} and stayed there (--leakage allow), because: {passage.because}"
    return "No photo is in two splits; edited copies were looked for as well as identical files."


def _counts(dataset: Dataset, anchor: str) -> Markup:
    labels, size = dataset.labels, len(dataset.classes)
    where = dataset.table["split"].to_numpy()
    counts = {
        split: np.bincount(labels[(where == split) & (labels >= 0)], minlength=size).tolist()
        for split in SPLITS
        if (where == split).any()
    }
    return count_plot(counts, dataset.classes, label="Images per class and split", name=f"{anchor}-counts")


def _sides(dataset: Dataset, model_side: int, anchor: str) -> tuple[Markup | None, str]:
    if not dataset.scanned:
        return None, "The sizes of the images were not recorded."
    table = dataset.table.select("width", "height").drop_nulls()
    if table.is_empty():
        return None, "No image could be decoded, so sizes are unknown."
    shorter = table.select(pl.min_horizontal("width", "height")).to_series()
    smallest, largest = table.row(int(shorter.arg_min() or 0)), table.row(int(shorter.arg_max() or 0))
    if shorter.n_unique() == 1 and table.n_unique() == 1:
        return None, f"Every image is {_size(smallest)} pixels; the model sees {model_side} \u00d7 {model_side}."
    small = int((shorter < model_side).sum())
    sentence = (
        f"From {_size(smallest)} to {_size(largest)} pixels, the shorter side {int(np.median(shorter.to_numpy())):,} "
        f"in the middle. {small:,} of {wording.count(len(shorter), 'image')} have fewer pixels than the model sees "
        "and are enlarged for it."
    )
    plot = side_plot(
        shorter.to_list(),
        model_side=model_side,
        label="Number of images by their shorter side in pixels",
        name=f"{anchor}-sides",
    )
    return plot, sentence


def _size(row: tuple[int, ...]) -> str:
    return f"{row[0]:,} \u00d7 {row[1]:,}"


def _findings(subject: Subject) -> tuple[FindingLine, ...]:
    return tuple(
        FindingLine(
            kind=group[0].kind.replace("_", " "),
            severity=group[0].severity,
            count=len(group),
            images=len({name for each in group for name in each.rows}),
            evidence=_shortened(group[0].evidence),
            remedy=group[0].remedy,
        )
        for group in grouped(subject.findings)
    )


def _shortened(evidence: str) -> str:
    return evidence if len(evidence) <= _EVIDENCE else f"{evidence[:_EVIDENCE].rstrip()}\u2026"
