"""Pictures: the images that findings name, with the facts that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.report.gallery import jpeg_uri
from discern.report.subject import SPLIT_NAMES

_COLUMNS = ("index", "image", "row", "label", "split", "bytes", "width", "height", "problem")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of the data with what stands under it."""

    source: str
    """The picture as a data URI; empty when it cannot be decoded."""
    image: str
    """Its name in the data."""
    folder: str
    """The name up to the last slash, with it."""
    file: str
    """The rest of the name."""
    label: str
    """Its class; empty when unknown."""
    split: str
    """'train', 'val' or 'test'; empty while there is no split."""
    split_name: str
    """The split in words."""
    size: str
    """Width and height in pixels; empty when it cannot be decoded."""
    weight: str
    """Size of the file; empty when the file holds other images too."""
    problem: str
    """Why it cannot be decoded; empty for a good image."""


def pictures(dataset: Dataset, pixels: Pixels, names: Iterable[str]) -> dict[str, Picture]:
    """A Picture per name; names that are not in the data are left out."""
    rows = dataset.table.filter(pl.col("image").is_in(list(names))).select(_COLUMNS)
    return {row["image"]: _picture(row, dataset.classes, pixels) for row in rows.iter_rows(named=True)}


def _picture(row: dict[str, Any], classes: tuple[str, ...], pixels: Pixels) -> Picture:
    folder, slash, file = str(row["image"]).rpartition("/")
    split, readable = row["split"] or "", row["problem"] is None
    return Picture(
        # Without the black borders that made it square: the shape is something to look at too.
        source=jpeg_uri(pixels.content(row["index"], row["width"], row["height"])) if readable else "",
        image=row["image"],
        folder=folder + slash,
        file=file,
        label=classes[row["label"]] if row["label"] >= 0 else "",
        split=split,
        split_name=SPLIT_NAMES.get(split, split),
        size=f"{row['width']:,} \u00d7 {row['height']:,}" if readable else "",
        weight=weight(row["bytes"]) if row["row"] is None else "",
        problem=row["problem"] or "",
    )


def weight(size: int) -> str:
    """Bytes as a person says them: `812 bytes`, `8.4 KB`, `312 KB`, `3.1 MB`, always on one line."""
    if size < 1000:
        return f"{size}\u00a0bytes"
    value, unit = (size / 1e3, "KB") if size < 999_500 else (size / 1e6, "MB")
    return f"{value:.1f}\u00a0{unit}" if value < 9.95 else f"{value:,.0f}\u00a0{unit}"
