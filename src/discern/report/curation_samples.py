"""Samples: photos of a prepared copy beside what they were, and beside the varied copies made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from discern.data.dataset import Dataset
from discern.data.decode import decode, fitted_shape
from discern.data.reading import portions
from discern.report.gallery import jpeg_uri

_SIDE = 150
"""Pixels of the longer side of a sample: enough to see what an operation did."""

_CLASSES = 8
"""Classes that are shown: a page is for looking, and a hundred classes look alike in this."""

_SOURCES = 2
"""Photos per class shown with their varied copies."""

_COPIES = 5
"""Varied copies shown of each."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture with what stands under it."""

    source: str
    """The picture as a data URI."""
    image: str
    """Its name."""
    caption: str
    """What it is, or what was done to it."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures that belong together: a source first, then what was made of it."""

    title: str
    """The class."""
    note: str
    """Why this photo is shown; empty when for no reason."""
    samples: tuple[Sample, ...]
    """The source first."""


def fitted_strips(source: Dataset, outputs: pl.DataFrame, folder: Path) -> tuple[Strip, ...]:
    """The widest, the tallest, the smallest and a usual photo of each class, before and after resizing."""
    chosen: list[tuple[str, str, str]] = []
    kept = source.table.join(
        outputs.filter(pl.col("copy") == 0).select("source", "label"),
        left_on="image",
        right_on="source",
        how="inner",
        suffix="_name",
    )
    for label in [name for name in source.classes if name in set(kept["label_name"])][:_CLASSES]:
        rows = kept.filter(pl.col("label_name") == label).sort("image")
        shape = np.log(rows["width"].to_numpy() / rows["height"].to_numpy())
        shorter = rows.select(pl.min_horizontal("width", "height")).to_series()
        usual = int(np.abs(shape - np.median(shape)).argmin())
        picks = {
            "widest": int(shape.argmax()),
            "tallest": int(shape.argmin()),
            "smallest": int(shorter.arg_min() or 0),
            "usual": usual,
        }
        shown: dict[int, str] = {}
        for note, position in picks.items():
            shown.setdefault(position, note)
        chosen += [(rows["image"][position], label, note) for position, note in shown.items()]
    originals = _originals(source, [image for image, _, _ in chosen])
    files = dict(outputs.filter(pl.col("copy") == 0).select("source", "image").iter_rows())
    sizes = {image: f"{w:,} × {h:,}" for image, w, h in source.table.select("image", "width", "height").iter_rows()}
    return tuple(
        Strip(
            title=label,
            note=note,
            samples=(
                Sample(source=originals[image], image=image, caption=sizes[image]),
                Sample(source=_shown((folder / files[image]).read_bytes()), image=files[image], caption=""),
            ),
        )
        for image, label, note in chosen
    )


def varied_strips(source: Dataset, outputs: pl.DataFrame, folder: Path) -> tuple[Strip, ...]:
    """A few photos of each class that was filled up, each with the first copies made of it."""
    varied = outputs.filter(pl.col("copy") > 0)
    labels = [name for name in source.classes if name in set(varied["label"])][:_CLASSES]
    chosen = []
    for label in labels:
        of_label = varied.filter(pl.col("label") == label)["source"].unique(maintain_order=True).to_list()
        chosen += [(label, of_label[len(of_label) * k // _SOURCES]) for k in range(min(_SOURCES, len(of_label)))]
    originals = _originals(source, [image for _, image in chosen])
    return tuple(
        Strip(
            title=label,
            note="",
            samples=(
                Sample(source=originals[image], image=image, caption=""),
                *_copies(varied.filter(pl.col("source") == image).head(_COPIES), folder),
            ),
        )
        for label, image in chosen
    )


def _copies(rows: pl.DataFrame, folder: Path) -> Iterable[Sample]:
    for image, operations in rows.select("image", "operations").iter_rows():
        done = [each for each in operations.split("; ") if each.split()[0] not in ("pad", "squash", "crop")]
        yield Sample(source=_shown((folder / image).read_bytes()), image=image, caption=", ".join(done))


def _originals(source: Dataset, images: list[str]) -> dict[str, str]:
    """Pictures of the named source images, in their own shape."""
    rows = source.filter(pl.col("image").is_in(images))
    return {
        rows.images[position]: _shown(data)
        for portion in portions(rows)
        for position, data in zip(portion.rows, portion.fetch(), strict=True)
        if not isinstance(data, OSError)
    }


def _shown(data: bytes) -> str:
    decoded = decode(data, size=_SIDE, fit="pad")
    width, height = fitted_shape(decoded.width, decoded.height, _SIDE, "pad")
    top, left = (_SIDE - height) // 2, (_SIDE - width) // 2
    return jpeg_uri(decoded.image[top : top + height, left : left + width])
