"""Where labelled images come from: each module lists one kind of place, `open_dataset` chooses the module."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import polars as pl

from discern.data.dataset import SCHEMA, Dataset
from discern.data.sources import folder, parquet
from discern.errors import DataError, UsageError

SOURCES = (parquet, folder)
"""In order of asking; the first that accepts a path lists it."""


def open_dataset(
    photos: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
) -> Dataset:
    """List the labelled images at `photos`, with separate validation and test places where given.

    Nothing is decoded. Raises UsageError when a path does not exist and DataError when there is nothing to
    learn from: no images, or fewer than two classes.
    """
    dataset = _list(Path(photos))
    for name, place in (("val", val), ("test", test)):
        if place is not None:
            dataset = _join(dataset, _list(Path(place)), name)
    if len(dataset.classes) < 2:
        raise DataError(
            f"There is one class only ('{dataset.classes[0]}') in {photos}: a classifier needs at least two; "
            "put the images of each class into a sub-folder of its own."
        )
    return dataset


def _list(path: Path) -> Dataset:
    if not path.exists():
        raise UsageError(f"No such file or folder: {path}; check the path.")
    path = path.resolve()
    source = next(s for s in SOURCES if s.accepts(path))
    table, classes = source.listing(path)
    root = path if path.is_dir() else path.parent
    missing = [pl.lit(None).alias(name) for name in SCHEMA if name not in table.columns and name != "index"]
    table = table.with_columns(*missing).with_row_index("index").cast(SCHEMA).select(list(SCHEMA))
    return Dataset(root=root, classes=classes, table=table)


def _join(data: Dataset, part: Dataset, split: str) -> Dataset:
    """`data` with all of `part` as its split `split`; classes matched by name."""
    if split in data.split_counts():
        raise UsageError(
            f"{data.root} already has a split '{split}': leave out --{split} {part.root}, or name the folder above "
            "the classes to train on."
        )
    part = part.with_classes(data.classes)
    root = Path(os.path.commonpath([data.root, part.root]))
    joined = pl.concat(
        [
            _rebase(data, root),
            _rebase(part, root).with_columns(pl.lit(split).alias("split"), index=pl.col("index") + len(data)),
        ]
    )
    # What is not the given split is for training, unless it already says otherwise.
    return replace(data, root=root, table=joined.with_columns(pl.col("split").fill_null("train")))


def _rebase(data: Dataset, root: Path) -> pl.DataFrame:
    """The table with `image` and `file` relative to `root`, a folder above the present root."""
    prefix = data.root.relative_to(root).as_posix()
    if prefix == ".":
        return data.table
    return data.table.with_columns(
        (pl.lit(f"{prefix}/") + pl.col("image")).alias("image"),
        (pl.lit(f"{prefix}/") + pl.col("file")).alias("file"),
    )
