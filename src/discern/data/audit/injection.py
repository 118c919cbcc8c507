"""Injection: known faults put into a copy of the table, to see whether the audit finds them.

The user's files are not touched: edited copies are written to a folder of their own, wrong labels exist in the
table alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from discern.data.dataset import SCHEMA, Dataset
from discern.data.reading import portions
from discern.errors import storing


@dataclass(frozen=True, kw_only=True)
class Injection:
    """What is put in, as shares of the images."""

    exact: float = 0.02
    """Byte-identical copies."""
    near: float = 0.02
    """Edited copies, one edit after the other in turn."""
    flipped: float = 0.10
    """Labels changed to another class."""
    faults: float = 0.01
    """Copies spoilt so that they show little or nothing, for each kind of fault; near duplicates of nothing."""
    seed: int = 0
    """Of which images, which labels, which strength."""


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A Dataset with known faults."""

    dataset: Dataset
    """Not scanned: the listing with its new rows and labels."""
    truth: pl.DataFrame
    """A row per fault: image, kind (exact_duplicate, near_duplicate, label_suspect, dark, ...), source, detail."""


Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def _resized(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    share = float(random.choice([0.75, 0.85, 1.2]))
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _cropped(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = max(1, round(picture.width * 0.95)), max(1, round(picture.height * 0.95))
    left, top = int(random.integers(picture.width - width + 1)), int(random.integers(picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


EDITS: dict[str, Edit] = {
    "resized": _resized,
    "recompressed": lambda picture, random: picture,
    "cropped 5 %": _cropped,
    "brightness 15 %": lambda picture, random: ImageEnhance.Brightness(picture).enhance(
        float(random.choice([0.85, 1.15]))
    ),
    "mirrored": lambda picture, random: ImageOps.mirror(picture),
}
"""How a near duplicate is made."""

FAULTS: dict[str, Edit] = {
    "dark": lambda picture, random: ImageEnhance.Brightness(picture).enhance(0.06),
    "bright": lambda picture, random: Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.93),
    "blurred": lambda picture, random: picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 24)),
    "low_information": lambda picture, random: Image.new(
        "RGB", picture.size, tuple(int(level) for level in random.integers(30, 220, 3))
    ),
    "odd_aspect": lambda picture, random: picture.resize((picture.width, max(1, picture.width // 9))),
    "tiny": lambda picture, random: picture.resize((int(random.integers(6, 19)),) * 2),
}
"""How an image is spoilt, by the kind of Finding that should name it."""


def inject(dataset: Dataset, injection: Injection, folder: Path) -> Injected:
    """Add faults to a scanned Dataset; edited copies are written to `folder`.

    Sources of copies are readable images that are no copies already; no image serves twice.
    """
    random = np.random.default_rng(injection.seed)
    usable = dataset.table.with_row_index("at").filter(pl.col("problem").is_null())
    usable = usable.filter(pl.col("digest").is_unique() & (pl.min_horizontal("width", "height") >= 24))
    order = iter(random.permutation(usable["at"].to_numpy()).tolist())
    total = len(usable)
    exact = _taken(order, injection.exact * total)
    near = _taken(order, injection.near * total, least=len(EDITS))
    spoilt = {kind: _taken(order, injection.faults * total) for kind in FAULTS}
    flipped = _taken(order, injection.flipped * total)

    listing = dataset.table.select(list(SCHEMA))
    edits = list(EDITS)
    jobs = [(at, "near_duplicate", edits[turn % len(edits)]) for turn, at in enumerate(near)]
    jobs += [(at, kind, kind) for kind, rows in spoilt.items() for at in rows]
    written = list(_written(dataset, jobs, folder, random))
    copies = listing[exact].with_columns(image=pl.col("image") + " (copy)")
    truth = [(f"{name} (copy)", "exact_duplicate", name, "") for name in listing[exact]["image"]]
    truth += [(str(row["image"]), kind, dataset.images[at], detail) for row, (at, kind, detail) in written]

    labels = dataset.labels
    for at in flipped:
        others = [label for label in range(len(dataset.classes)) if label != labels[at]]
        truth.append((dataset.images[at], "label_suspect", "", dataset.classes[labels[at]]))
        labels[at] = random.choice(others)
    listing = listing.with_columns(pl.Series("label", labels, dtype=pl.Int32))
    table = pl.concat([listing, copies, pl.DataFrame([row for row, _ in written], listing.schema)])
    return Injected(
        dataset=replace(dataset, table=table),
        truth=pl.DataFrame(truth, ["image", "kind", "source", "detail"], orient="row"),
    )


def _taken(order: Iterator[int], count: float, least: int = 3) -> list[int]:
    return list(islice(order, max(least, round(count))))


def _written(
    dataset: Dataset, jobs: list[tuple[int, str, str]], folder: Path, random: np.random.Generator
) -> Iterator[tuple[dict[str, object], tuple[int, str, str]]]:
    """Rows of the edited copies, written as JPEG files."""
    rows = [at for at, _, _ in jobs]
    chosen = replace(dataset, table=dataset.table[rows])
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for portion in portions(chosen):
            for job, data in zip(portion.rows, portion.fetch(), strict=True):
                if isinstance(data, OSError):
                    continue
                _, kind, detail = jobs[job]
                with Image.open(io.BytesIO(data)) as file:
                    picture = ImageOps.exif_transpose(file).convert("RGB")
                edited = {**EDITS, **FAULTS}[detail](picture, random)
                path = folder / f"{kind}-{job:06d}.jpg"
                quality = int(random.integers(45, 70) if detail == "recompressed" else random.integers(80, 96))
                edited.save(path, quality=quality)
                status = path.stat()
                row = dict(chosen.table.select(list(SCHEMA)).row(job, named=True))
                row |= {"image": f"{kind}-{job:06d}.jpg", "file": str(path), "row": None}
                row |= {"bytes": status.st_size, "modified": status.st_mtime_ns}
                yield row, jobs[job]
