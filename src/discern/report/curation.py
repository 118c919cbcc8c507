"""Curation page: what went into a prepared copy, what did not, and how the images changed on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from discern.data.curation.curate import REASONS, LeftOut, Plan
from discern.data.dataset import SPLITS, Dataset
from discern.files import writing
from discern.report import wording
from discern.report.curation_samples import Strip, fitted_strips, varied_strips
from discern.report.html import filled
from discern.report.plots import count_plot, distribution_plot

_NAMED = 400
"""Images named per reason: curation.json names all."""

_GROUPS = 12
"""Classes with a distribution of their own; more are drawn together."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """What a prepared copy was made of."""

    folder: Path
    """Where the copy is now."""
    source: Dataset
    """The images as they were read and scanned, the unreadable ones too."""
    arguments: dict[str, Any]
    """What was asked for."""
    plan: Plan
    """What stayed, and in which split."""
    left_out: tuple[LeftOut, ...]
    """What did not stay."""
    outputs: pl.DataFrame
    """The files written: columns of OUTPUTS."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images per class as one picture."""

    title: str
    """Before or after."""
    keys: tuple[tuple[str, str, str], ...]
    """Part, the colour it is drawn in, and its number of images."""
    plot: Markup
    """A bar per class."""


@dataclass(frozen=True, kw_only=True)
class Absence:
    """The images that were left out for one reason."""

    title: str
    """The reason in words."""
    count: int
    """How many."""
    images: tuple[tuple[str, str], ...]
    """Name and detail of the first of them."""
    more: int
    """How many are not named."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Sizes and formats of the images of one class."""

    name: str
    """The class, or all of them."""
    images: int
    """How many can be decoded."""
    sizes: int
    """Different pairs of width and height."""
    smallest: str
    """Width and height of the one with the shortest shorter side."""
    median: str
    """The shorter side in the middle."""
    largest: str
    """Width and height of the one with the longest shorter side."""
    formats: str
    """File formats, with their numbers where there are several."""
    modes: str
    """Colour modes likewise."""


@dataclass(frozen=True, kw_only=True)
class CurationPage:
    """All that the template may print."""

    title: str
    """The name of the source."""
    root: str
    """Where the source is."""
    sentences: tuple[str, ...]
    """What was done, in order."""
    splits: tuple[tuple[str, str], ...]
    """Split in words and its number of images."""
    counts: tuple[Counts, ...]
    """Before and after."""
    absences: tuple[Absence, ...]
    """What was left out."""
    shapes: tuple[Shapes, ...]
    """A line per class, and one for all."""
    sides: Markup | None
    """The distribution of the shorter sides; none when all are the same."""
    fitted: tuple[Strip, ...]
    """Photos before and after resizing."""
    varied: tuple[Strip, ...]
    """Photos with their varied copies."""
    version: str
    """Of Discern."""


def write_curation(curation: Curation, path: Path) -> None:
    """Write the page about a prepared copy to `path`, whole or not at all; the same copy gives the same bytes."""
    text = filled("curation.html", page=_page(curation))
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _page(curation: Curation) -> CurationPage:
    source, outputs = curation.source, curation.outputs
    readable = source.filter(pl.col("problem").is_null())
    return CurationPage(
        title=source.root.name,
        root=str(source.root),
        sentences=tuple(_sentences(curation)),
        splits=tuple((split, f"{(outputs['split'] == split).sum():,}") for split in SPLITS),
        counts=(_before(source), _after(outputs, source.classes)),
        absences=tuple(_absences(curation.left_out)),
        shapes=tuple(_shapes(readable)),
        sides=_sides(readable),
        fitted=fitted_strips(readable, outputs, curation.folder) if curation.arguments["size"] else (),
        varied=varied_strips(readable, outputs, curation.folder),
        version=version("discern-vision"),
    )


def _sentences(curation: Curation) -> Iterable[str]:
    asked, outputs = curation.arguments, curation.outputs
    if curation.left_out:
        yield f"{wording.count(len(curation.left_out), 'image')} left out, listed below."
    if asked["test_per_class"] is not None:
        yield (
            f"{asked['test_per_class']:,} of each class were held out for testing before anything else"
            + (", fewer where groups that stay together did not fit." if curation.plan.short else ".")
        )
    if asked["max_per_class"] is not None:
        yield f"A class keeps at most {asked['max_per_class']:,} images to train and validate with."
    if asked["size"]:
        how = {"pad": "kept whole on black", "squash": "stretched", "crop": "cut to their centre"}[asked["fit"]]
        yield f"Every image is {asked['size']} × {asked['size']} pixels, {how}, and stored without loss."
    else:
        yield "Images are the source's files, byte for byte."
    copies = outputs.filter(pl.col("copy") > 0)
    for label, count in copies.group_by("label").len().sort("label").iter_rows():
        own = outputs.filter((pl.col("label") == label) & (pl.col("split") == "train") & (pl.col("copy") == 0)).height
        photos, made = wording.count(own, "training photo"), wording.count(count, "varied copy", "varied copies")
        yield f"{label}: {photos} and {made} of them, so that each stands there about {1 + count / own:.0f} times."


def _before(source: Dataset) -> Counts:
    unsplit = source.table["split"].null_count() == len(source)
    table = source.table.select("label", split=pl.col("split").fill_null("train"))
    parts = {}
    for split in SPLITS:
        labels = table.filter(pl.col("split") == split)["label"].to_numpy()
        if len(labels):
            parts[split] = np.bincount(labels, minlength=len(source.classes)).tolist()
    names = {"train": "not yet split"} if unsplit else {}
    return _counts("Before", parts, source.classes, "before", names)


def _after(outputs: pl.DataFrame, classes: tuple[str, ...]) -> Counts:
    parts: dict[str, list[int]] = {}
    for part, of_part in (
        ("train", (pl.col("split") == "train") & (pl.col("copy") == 0)),
        ("varied", pl.col("copy") > 0),
        ("val", pl.col("split") == "val"),
        ("test", pl.col("split") == "test"),
    ):
        found = dict(outputs.filter(of_part)["label"].value_counts().iter_rows())
        if found:
            parts[part] = [found.get(name, 0) for name in classes]
    return _counts("After", parts, classes, "after", {"varied": "varied copies for training"})


_NAMES = {"train": "training", "val": "validation", "test": "test"}
_COLOURS = {"train": "--third", "val": "--second", "test": "--accent", "varied": "--quiet"}


def _counts(
    title: str, parts: dict[str, list[int]], classes: tuple[str, ...], anchor: str, names: dict[str, str]
) -> Counts:
    return Counts(
        title=title,
        keys=tuple((names.get(p, _NAMES.get(p, p)), _COLOURS[p], f"{sum(n):,}") for p, n in parts.items()),
        plot=count_plot(parts, classes, label=f"Images per class {title.lower()}", name=f"{anchor}-counts"),
    )


def _absences(left_out: tuple[LeftOut, ...]) -> Iterable[Absence]:
    for reason, title in REASONS.items():
        of_it = [each for each in left_out if each.reason == reason]
        if of_it:
            yield Absence(
                title=title,
                count=len(of_it),
                images=tuple((each.image, each.detail) for each in of_it[:_NAMED]),
                more=max(0, len(of_it) - _NAMED),
            )


def _shapes(readable: Dataset) -> Iterable[Shapes]:
    for label, name in enumerate(readable.classes):
        rows = readable.table.filter(pl.col("label") == label)
        if not rows.is_empty():
            yield _shape(name, rows)
    yield _shape("All", readable.table)


def _shape(name: str, rows: pl.DataFrame) -> Shapes:
    shorter = rows.select(pl.min_horizontal("width", "height")).to_series()
    smallest, largest = int(shorter.arg_min() or 0), int(shorter.arg_max() or 0)
    return Shapes(
        name=name,
        images=rows.height,
        sizes=rows.select("width", "height").n_unique(),
        smallest=_size(rows, smallest),
        median=f"{float(np.median(shorter.to_numpy())):,.0f}",
        largest=_size(rows, largest),
        formats=_tally(rows["format"]),
        modes=_tally(rows["mode"]),
    )


def _size(rows: pl.DataFrame, position: int) -> str:
    return f"{rows['width'][position]:,} × {rows['height'][position]:,}"


def _tally(values: pl.Series) -> str:
    counts = values.value_counts(sort=True).sort(["count", values.name], descending=[True, False]).rows()
    return str(counts[0][0]) if len(counts) == 1 else ", ".join(f"{value} {count:,}" for value, count in counts)


def _sides(readable: Dataset) -> Markup | None:
    shorter = readable.table.select("label", side=pl.min_horizontal("width", "height"))
    if shorter["side"].n_unique() == 1:
        return None
    groups = {
        name: rows.to_list()
        for label, name in enumerate(readable.classes)
        if len(rows := shorter.filter(pl.col("label") == label)["side"])
    }
    if len(groups) > _GROUPS:
        groups = {"all classes": shorter["side"].to_list()}
    return distribution_plot(
        groups, logarithmic=True, unit="shorter side, pixels", label="Images by their shorter side", name="sides"
    )
