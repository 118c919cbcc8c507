"""Dataset: an immutable table, one row per image, with the class names and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int, UInt64

from discern.errors import DataError
from discern.files import write_table

SPLITS = ("train", "val", "test")

SCHEMA: dict[str, Any] = {
    "index": pl.Int64,  # row of this image in the Pixels built from the same listing
    "image": pl.String,  # its name: path relative to the root, or `file.parquet#row`
    "file": pl.String,  # the file that holds the bytes, relative to the root, or its URL
    "row": pl.Int64,  # where inside that file: its row, of a .tar the byte; null when the file is the image
    "label": pl.Int32,  # index into the class names; -1 when unknown
    "split": pl.String,  # train, val, test; null when not yet split
    "group": pl.String,  # images that show the same thing and must stay in one split; null when alone
    "decision": pl.String,  # what a person decided about it in the journal: keep, relabel; null when nothing
    "bytes": pl.Int64,  # size of the file
    "modified": pl.Int64,  # modification time of the file, nanoseconds since 1970
}
"""Columns of every Dataset. The scan adds FACTS."""

LISTING: dict[str, Any] = {name: SCHEMA[name] for name in SCHEMA if name not in ("index", "group", "decision")}
"""What a source must list; it may list `group` too. `open_dataset` fills in the rest of SCHEMA."""

FACTS: dict[str, Any] = {
    "digest": pl.String,  # BLAKE2b-128 of the bytes, hexadecimal: equal exactly for identical files
    "width": pl.Int32,  # pixels as displayed; null when unreadable
    "height": pl.Int32,
    "format": pl.String,  # what the bytes are: JPEG, PNG, ...
    "mode": pl.String,  # colour mode in the file
    "problem": pl.String,  # why it cannot be decoded; null for a good image
    "orientation": pl.Int8,  # EXIF 1 to 8, already undone in pixels, width and height
    "brightness": pl.Float32,  # mean grey level in [0, 1]
    "contrast": pl.Float32,  # standard deviation of the grey levels, [0, 0.5]
    "low": pl.Float32,  # grey level that 5 % of the pixels are darker than, [0, 1]
    "high": pl.Float32,  # grey level that 5 % of the pixels are brighter than, [0, 1]
    "entropy": pl.Float32,  # of the grey levels, bits: 0 for one colour, 8 at most
    "colorfulness": pl.Float32,  # 0 for grey; vivid from about 0.2
    "sharpness": pl.Float32,  # deviation of the Laplacian over that of the grey levels; under 0.1 is out of focus
    "border": pl.Float32,  # share of the area that uniform edges take: letterboxes, frames
    "hash": pl.UInt64,  # perceptual hash; 0 for a picture that shows nothing
    "signature": pl.Array(pl.Int8, 64),  # the low frequencies that the hash has the signs of
}
"""What the scan finds out about every image; all but digest and problem are null when it cannot be decoded."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled images as a table; operations return a new Dataset, pixels live in Pixels."""

    root: Path
    """Folder that the `file` column is relative to."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    table: pl.DataFrame
    """Columns of SCHEMA, and of FACTS once scanned."""

    def __len__(self) -> int:
        return self.table.height

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {n}" for name, n in self.class_counts().items())
        splits = ", ".join(f"{name} {n}" for name, n in self.split_counts().items())
        return f"{len(self)} images of {len(self.classes)} classes ({counts}); {splits or 'not yet split'}"

    @property
    def scanned(self) -> bool:
        """Whether the FACTS are known."""
        return "digest" in self.table.columns

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any image, label, split or class name, not with row order."""
        if not self.scanned:
            raise DataError("The fingerprint of a Dataset needs its scan: call scan() first.")
        rows = self.table.select("image", "label", "split", "digest").sort("image")
        digest = hashlib.blake2b(digest_size=8)
        digest.update("\0".join(self.classes).encode())
        for row in rows.iter_rows():
            digest.update(repr(row).encode())
        return digest.hexdigest()

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images, in table order."""
        return tuple(self.table["image"])

    @property
    def labels(self) -> Int[np.ndarray, " image"]:
        """Class indices, in table order."""
        return self.table["label"].to_numpy().astype(np.int64)

    @property
    def index(self) -> Int[np.ndarray, " image"]:
        """Rows of these images in their Pixels, in table order."""
        return self.table["index"].to_numpy()

    @property
    def keys(self) -> UInt64[np.ndarray, " image"]:
        """A number per image made of its content, in table order: what randomness about an image is keyed by."""
        return np.array([int(digest[:16], 16) for digest in self.table["digest"]], dtype=np.uint64)

    def class_counts(self) -> dict[str, int]:
        """Images per class, every class named even when it has none."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def split_counts(self) -> dict[str, int]:
        """Images per split, in the order train, val, test; empty while there is no split."""
        counts = dict(self.table["split"].drop_nulls().value_counts().iter_rows())
        return {name: counts[name] for name in SPLITS if name in counts}

    def split(self, name: str) -> Dataset:
        """Only the images of one split."""
        return self.filter(pl.col("split") == name)

    def filter(self, condition: pl.Expr) -> Dataset:
        """Only the rows for which the polars expression holds."""
        return replace(self, table=self.table.filter(condition))

    def with_rows(self, rows: Sequence[int] | Int[np.ndarray, " row"]) -> Dataset:
        """Only the rows at these positions, in that order."""
        return replace(self, table=self.table[rows])

    def with_columns(self, *columns: pl.Series) -> Dataset:
        """The same rows with columns added or replaced."""
        return replace(self, table=self.table.with_columns(columns))

    def with_classes(self, classes: Sequence[str]) -> Dataset:
        """The same images labelled by another list of class names, matched by name.

        Raises DataError when an image has a class that the list lacks.
        """
        strange = sorted(set(self.classes) - set(classes))
        if strange:
            raise DataError(
                f"{self.root} has classes that training had not: {', '.join(strange)} (it had {', '.join(classes)}); "
                "remove those folders or rename them."
            )
        mapping = np.array([*(list(classes).index(name) for name in self.classes), -1], dtype=np.int32)
        labels = pl.Series("label", mapping[self.labels], dtype=pl.Int32)
        return replace(self, classes=tuple(classes), table=self.table.with_columns(labels))

    def write(self, path: Path) -> None:
        """Write the table as Parquet, class names and root inside, whole or not at all."""
        write_table(path, self.table, metadata={"classes": json.dumps(self.classes), "root": str(self.root)})

    @classmethod
    def read(cls, path: Path) -> Dataset:
        """Read back what `write` wrote."""
        metadata = pl.read_parquet_metadata(path)
        return cls(
            root=Path(metadata["root"]),
            classes=tuple(json.loads(metadata["classes"])),
            table=pl.read_parquet(path),
        )
