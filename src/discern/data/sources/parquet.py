"""Parquet in the Hugging Face image layout: `image{bytes, path}`, `label`, class names in the schema."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from discern.data.reading import features_of
from discern.data.sources.columns import class_names, label_column, one_order, require_images
from discern.data.sources.listing import Listing, listing_of, refuse_half_splits, rows_inside, split_files, split_of
from discern.errors import DataError


def accepts(path: Path) -> bool:
    """A .parquet file, or a folder with such files in it, in data/, or in train/ [val/] test/."""
    return bool(_files(path))


def listing(path: Path) -> Listing:
    """The rows of all files; the classes in the schema's order."""
    root = path if path.is_dir() else path.parent
    files = _files(path)
    refuse_half_splits(files)
    parts, orders = [], []
    for file, split in files:
        labels, order = _labels(file)
        parts.append(rows_inside(root, file.relative_to(root).as_posix(), labels, split))
        orders.append(order)
    named = pl.concat(parts)
    if named.is_empty():
        raise DataError(f"No images in {path}: its Parquet files have no rows.")
    return listing_of(root, named, classes=one_order(orders, named["label"]))


def _files(path: Path) -> list[tuple[Path, str | None]]:
    if path.is_file():
        return [(path, split_of(path.name))] if path.suffix == ".parquet" else []
    return split_files(path, ".parquet")


def _labels(file: Path) -> tuple[list[str], tuple[str, ...] | None]:
    """The label of every row as a class name, and the class names if the schema gives their order."""
    try:
        schema = pq.read_schema(file)
        require_images(schema, str(file))
        features = features_of(schema)
        name = label_column(schema, str(file), features)
        column = pq.read_table(file, columns=[name])[name]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet ({error}); download or write it again.") from error
    return class_names(column, features, name=name, place=str(file))
