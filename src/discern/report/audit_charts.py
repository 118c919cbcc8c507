"""Charts: what a finding without pictures looks like in numbers, and what the images of a Dataset are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from discern.data.audit.findings import Finding
from discern.data.dataset import SPLITS, Dataset
from discern.report import wording
from discern.report.plots import count_plot, distribution_plot
from discern.report.subject import SPLIT_NAMES

_GROUPS = 12
"""Classes in one distribution plot at most: what fits a screen."""

_BARS = 60
"""Classes in the plot and the table of counts at most: two screens."""

_VALUES = 6
"""Formats in a table of shares at most; the rest is one column."""

_LOGARITHMIC = 20.0
"""From this ratio of the 99th to the 1st percentile a linear axis would crush most images into its first bar."""

_PROPERTIES = {  # what is drawn for every Dataset, as far as the scan knows it, with its unit or how to read it
    "shorter_side": ("Shorter side", "pixels"),
    "aspect": ("Aspect", "width over height"),
    "kilobytes": ("File size", "KB"),
    "brightness": ("Brightness", "mean grey level, from 0 (black) to 1 (white)"),
    "contrast": ("Contrast", "standard deviation of the grey levels"),
    "sharpness": ("Sharpness", "under 0.1 looks out of focus"),
    "entropy": ("Entropy", "bits, at most 8; little for an even surface"),
    "colorfulness": ("Colourfulness", "0 is grey"),
}

_READING = "Every row is drawn to its own height; the upright line is its median."

_DERIVED = {
    "shorter_side": pl.min_horizontal("width", "height"),
    "aspect": pl.col("width") / pl.col("height"),
    "area": pl.col("width").cast(pl.Int64) * pl.col("height"),
    "kilobytes": pl.when(pl.col("row").is_null()).then(pl.col("bytes") / 1000),  # of a Parquet file it is all images'
}


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How often each value of a property occurs in each group."""

    values: tuple[str, ...]
    """Column heads."""
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Group, its number of images, and the share of each value."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One finding or property as a picture of its numbers."""

    title: str
    """What is drawn; empty when only a sentence is left."""
    sentence: str
    """The evidence; empty for a property that is no finding."""
    plot: Markup | None
    """The drawing; none when the property is not a number or not known."""
    shares: Shares | None
    """The table, for a property that is a word."""
    key: tuple[tuple[str, str], ...]
    """Split and its name in words, for every colour that the drawing itself does not name."""
    note: str
    """What is left out, or how to read it; empty when nothing needs saying."""


@dataclass(frozen=True, kw_only=True)
class ClassLine:
    """One class in numbers."""

    name: str
    """Class name."""
    images: int
    """All of its images."""
    share: float
    """The same as a share of the largest class."""
    splits: tuple[int, ...]
    """Images per split, in the order of the table's columns."""
    formats: str
    """Formats and colour modes with their numbers, the most frequent first."""
    side: str
    """Median of the shorter side, pixels."""


@dataclass(frozen=True, kw_only=True)
class Nature:
    """What the images of a Dataset are like."""

    splits: tuple[str, ...]
    """Splits that have a column, in words."""
    classes: tuple[ClassLine, ...]
    """In the order of the Dataset; of very many the largest and the smallest."""
    left_out: str
    """How many classes are not shown; empty when all are."""
    charts: tuple[Chart, ...]
    """A distribution per property."""
    note: str
    """How to read them."""


def chart(finding: Finding, dataset: Dataset, *, name: str) -> Chart:
    """The finding's sentence with the plot of what it is about, as far as the data has it."""
    if finding.kind == "imbalance":
        return _counts(finding.evidence, dataset, name)
    detail = finding.detail or {}
    property_ = str(detail.get("property", "")).replace(" ", "_")
    by = "split" if finding.kind == "shift" else "class"
    values = measured(dataset, property_) if finding.kind in ("giveaway", "shift") else None
    groups = {} if values is None else _by_split(dataset, values) if by == "split" else _by_class(dataset, values)
    if values is None or not groups:
        return Chart(title="", sentence=finding.evidence, plot=None, shares=None, key=(), note="")
    auc = f", AUC {detail['auc']:.2f}" if "auc" in detail else ""
    title, unit = _PROPERTIES.get(property_, (property_.replace("_", " ").capitalize(), ""))
    words = values.dtype == pl.String
    missing = max(0, len(dataset.classes) - _GROUPS) if by == "class" else 0
    left_out = f"{missing:,} more classes are not drawn: these are the largest and the smallest." if missing else ""
    return Chart(
        title=f"{title} per {by}{auc}",
        sentence=finding.evidence,
        plot=None if words else _distribution(groups, title, unit, by, name),
        shares=_shares(groups) if words else None,
        key=(),
        note=" ".join(part for part in ("" if words else _READING, left_out) if part),
    )


def measured(dataset: Dataset, property_: str) -> pl.Series | None:
    """A property of every image, null where unknown; None when the scan did not look at it or found nothing."""
    table = dataset.table
    if property_ not in _DERIVED and property_ not in table.columns:
        return None
    values = table.select(_DERIVED.get(property_, pl.col(property_)).alias(property_)).to_series()
    if values.dtype.is_float():
        values = values.fill_nan(None)
    known = values.dtype == pl.String or values.dtype.is_numeric() or values.dtype == pl.Boolean
    return None if not known or values.null_count() == len(values) else values


def nature(dataset: Dataset) -> Nature:
    """Classes, formats and the distribution of every property that the scan measured."""
    present = tuple(split for split in SPLITS if split in dataset.split_counts())
    shown = _shortlist(dataset, _BARS)
    missing = len(dataset.classes) - len(shown)
    charts = [
        Chart(title=title, sentence="", plot=plot, shares=None, key=(), note="")
        for key, (title, unit) in _PROPERTIES.items()
        if (plot := _portrait(dataset, key, title, unit)) is not None
    ]
    return Nature(
        splits=tuple(SPLIT_NAMES[split] for split in present),
        classes=_class_lines(dataset, shown, present),
        left_out=f"{missing:,} classes between the largest and the smallest are not shown." if missing else "",
        charts=tuple(charts),
        note=_READING if charts else "",
    )


def _counts(evidence: str, dataset: Dataset, name: str) -> Chart:
    shown = _shortlist(dataset, _BARS)
    counts = {
        split: np.bincount(part.labels[part.labels >= 0], minlength=len(dataset.classes))[shown].tolist()
        for split, part in _parts(dataset)
    }
    missing = len(dataset.classes) - len(shown)
    return Chart(
        title="Images per class",
        sentence=evidence,
        plot=count_plot(counts, [dataset.classes[k] for k in shown], label="Images per class and split", name=name),
        shares=None,
        key=tuple((split, SPLIT_NAMES[split]) for split in counts if split),
        note=f"{missing:,} classes between the largest and the smallest are not drawn." if missing else "",
    )


def _parts(dataset: Dataset) -> list[tuple[str, Dataset]]:
    """The splits there are, or the whole under no split's name."""
    return [(split, dataset.split(split)) for split in dataset.split_counts()] or [("", dataset)]


def _shortlist(dataset: Dataset, limit: int) -> list[int]:
    """Classes to show, in their own order: all, or of too many the largest and the smallest."""
    counts = list(dataset.class_counts().values())
    order = sorted(range(len(counts)), key=lambda k: -counts[k])
    return sorted(order if len(order) <= limit else [*order[: limit // 2], *order[-limit // 2 :]])


def _by_class(dataset: Dataset, values: pl.Series) -> dict[str, pl.Series]:
    """The known values of each shortlisted class that has any."""
    labels = dataset.table["label"]
    groups = {dataset.classes[k]: values.filter(labels == k).drop_nulls() for k in _shortlist(dataset, _GROUPS)}
    return {name: group for name, group in groups.items() if len(group)}


def _by_split(dataset: Dataset, values: pl.Series) -> dict[str, pl.Series]:
    where = dataset.table["split"]
    groups = {split: values.filter((where == split).fill_null(False)).drop_nulls() for split in SPLITS}
    return {name: group for name, group in groups.items() if len(group)}


def _distribution(groups: Mapping[str, pl.Series], title: str, unit: str, by: str, name: str) -> Markup:
    everything = np.concatenate([group.to_numpy().astype(float) for group in groups.values()])
    low, high = np.percentile(everything, (1, 99))
    return distribution_plot(
        {SPLIT_NAMES[key] if by == "split" else key: group.to_list() for key, group in groups.items()},
        splits=tuple(groups) if by == "split" else (),
        logarithmic=bool(everything.min() > 0 and high / low >= _LOGARITHMIC),
        unit=unit,
        label=f"{title} of the images per {by}",
        name=name,
    )


def _portrait(dataset: Dataset, key: str, title: str, unit: str) -> Markup | None:
    """The distribution per class where all fit, of all images together otherwise; none when all are the same."""
    values = measured(dataset, key)
    if values is None or values.drop_nulls().n_unique() < 2:
        return None
    groups = _by_class(dataset, values) if len(dataset.classes) <= _GROUPS else {}
    return _distribution(groups or {"all images": values.drop_nulls()}, title, unit, "class", f"n-{key}")


def _shares(groups: Mapping[str, pl.Series]) -> Shares:
    """The most frequent words as columns, the rest as one."""
    counts = pl.concat(list(groups.values())).value_counts(sort=True)
    frequent = sorted(counts.iter_rows(), key=lambda row: (-row[1], row[0]))[:_VALUES]
    heads = [str(word) for word, _ in frequent]
    rows = []
    for name, group in groups.items():
        parts = [int((group == head).sum()) for head in heads]
        rest = len(group) - sum(parts)
        shares = [wording.percent(part / len(group)) for part in (*parts, rest)]
        rows.append((SPLIT_NAMES.get(name, name), len(group), tuple(shares if len(counts) > _VALUES else shares[:-1])))
    return Shares(values=tuple([*heads, "others"] if len(counts) > _VALUES else heads), rows=tuple(rows))


def _class_lines(dataset: Dataset, shown: Sequence[int], splits: Sequence[str]) -> tuple[ClassLine, ...]:
    table, counts = dataset.table, list(dataset.class_counts().values())
    lines = []
    for k in shown:
        part = table.filter(pl.col("label") == k)
        side = part.select(_DERIVED["shorter_side"].median()).item()
        lines.append(
            ClassLine(
                name=dataset.classes[k],
                images=counts[k],
                share=counts[k] / max(*counts, 1),
                splits=tuple(int((part["split"] == split).sum()) for split in splits),
                formats=_formats(part),
                side="" if side is None else f"{side:,.0f}",
            )
        )
    return tuple(lines)


def _formats(part: pl.DataFrame) -> str:
    known = part.drop_nulls("format").group_by("format", "mode").len().sort(pl.col("len"), descending=True)
    rows = sorted(known.iter_rows(), key=lambda row: (-row[2], row[0], str(row[1])))
    return wording.listing(tuple(f"{format_} {mode} {number:,}" for format_, mode, number in rows), 4)
