"""What a source hands over, and the words and rules that all sources share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from discern.data.dataset import LISTING
from discern.data.reading import located, status
from discern.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What people call a split, in folders, file names and columns, and the split that is meant."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "category")
"""What people call the label; the first of them that is there is taken."""

NAMED_ROWS = LISTING | {"label": pl.String}
"""LISTING with class names for labels, as long as the order of the classes is not known."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The labelled images of one place."""

    root: Path
    """Folder that the `file` column is relative to."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    table: pl.DataFrame
    """Columns of LISTING, and `group` where it is known."""
    warnings: tuple[str, ...] = ()
    """Sentences about what was left out, for whoever called."""


def listing_of(
    root: Path, named: pl.DataFrame, *, classes: Sequence[str] | None = None, warnings: Sequence[str] = ()
) -> Listing:
    """The Listing of rows whose labels are class names, in the given order of classes or in `class_order`."""
    order = tuple(classes) if classes is not None else class_order(named["label"].unique())
    index = {name: k for k, name in enumerate(order)}
    table = named.with_columns(pl.col("label").replace_strict(index, return_dtype=pl.Int32))
    return Listing(root=root, classes=order, table=table, warnings=tuple(warnings))


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted, whole numbers by value and before the words."""

    def place(name: str) -> tuple[bool, int, str]:
        number = name.isascii() and name.isdigit()
        return not number, int(name) if number else 0, name

    return tuple(sorted(names, key=place))


def rows_inside(
    root: Path,
    file: str,
    labels: Sequence[str],
    split: str | None,
    *,
    rows: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> pl.DataFrame:
    """NAMED_ROWS of images that lie inside one file, in its order unless `rows` and `names` say where and what."""
    numbers = range(len(labels)) if rows is None else rows
    size, modified = status(located(root, file))
    columns = {
        "image": [f"{file}#{name}" for name in (names or numbers)],
        "file": [file] * len(labels),
        "row": numbers,
        "label": labels,
        "split": [split] * len(labels),
        "bytes": [size] * len(labels),
        "modified": [modified] * len(labels),
    }
    return pl.DataFrame(columns, NAMED_ROWS)


def split_of(name: str) -> str | None:
    """The split a file name speaks of: `train-00000-of-00001.parquet` and `pets_train.tar` are for training."""
    return next((SPLIT_WORDS[word] for word in re.split(r"[-_. ]", name.lower()) if word in SPLIT_WORDS), None)


def split_files(folder: Path, ending: str) -> list[tuple[Path, str | None]]:
    """Files with that ending in `folder`, else in its data/, and in its train/, val/ and test/, with their splits."""
    found = [(file, split_of(file.name)) for file in _files(folder, ending) or _files(folder / "data", ending)]
    if folder.is_dir():
        splits = [(SPLIT_WORDS.get(part.name.lower()), part) for part in sorted(folder.iterdir())]
        found += [(file, split) for split, part in splits if split for file in _files(part, ending)]
    return found


def refuse_half_splits(found: Sequence[tuple[object, str | None]]) -> None:
    """Raise DataError when some files are for a split and some are not: nobody can say what those are for."""
    strange = [file for file, split in found if split is None]
    if strange and len(strange) < len(found):
        raise DataError(
            f"{strange[0]} is for no split while its neighbours are: name it train*, val* or test*, or move it."
        )


def _files(folder: Path, ending: str) -> list[Path]:
    return [file for file in sorted(folder.glob(f"*{ending}")) if not file.name.startswith(".") and file.is_file()]
