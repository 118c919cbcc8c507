"""What the columns of an Arrow table mean: which one holds the labels, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from discern.data.reading import image_column
from discern.data.sources.listing import LABEL_COLUMNS, class_order
from discern.errors import DataError


def require_images(schema: pa.Schema, place: str) -> None:
    """Raise DataError unless one column holds images."""
    if image_column(schema) is not None:
        return
    if "image" in schema.names:
        kind = schema.field("image").type
        raise DataError(
            f"The column 'image' of {place} is of type {kind}; expected `image` (a struct of bytes and path)."
        )
    raise DataError(
        f"{place} has no column 'image' (it has {', '.join(schema.names)}); expected `image` (a struct of bytes and "
        "path), or `path` with the names of files, and `label`."
    )


def label_column(schema: pa.Schema, place: str, features: dict[str, Any]) -> str:
    """The column of LABEL_COLUMNS that is there, else the one that the features call a ClassLabel."""
    lower: dict[str, str] = {name.lower(): name for name in reversed(schema.names)}
    labels: list[str] = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    found: str | None = next((lower[name] for name in LABEL_COLUMNS if name in lower), None)
    if found is None and len(labels) == 1:
        found = labels[0]
    if found is None:
        raise DataError(
            f"{place} has no column 'label' (it has {', '.join(schema.names)}); "
            "expected `image` (a struct of bytes and path) and `label`."
        )
    return found


def class_names(
    column: pa.ChunkedArray, features: dict[str, Any], *, name: str, place: str
) -> tuple[list[str], tuple[str, ...] | None]:
    """The label of every row as a class name, and all class names where the features give their order."""
    if pa.types.is_nested(column.type):
        raise DataError(f"The column '{name}' of {place} is of type {column.type}: an image needs exactly one label.")
    labels = column.to_pylist()
    if None in labels:
        raise DataError(f"{place}: the row {labels.index(None)} has no label; give it one or remove it.")
    names = features.get(name, {}).get("names")
    if not names or not pa.types.is_integer(column.type):
        return [str(label) for label in labels], None
    strange = next((label for label in labels if not 0 <= label < len(names)), None)
    if strange is not None:
        raise DataError(f"{place} has the label {strange}, but its schema names {len(names)} classes.")
    return [names[label] for label in labels], tuple(names)


def one_order(lists: Sequence[tuple[str, ...] | None], labels: pl.Series) -> tuple[str, ...]:
    """The order that the files give their classes, where they do; else `class_order`."""
    given = next((names for names in lists if names), None)
    if given is None:
        return class_order(labels.unique())
    if any(names not in (None, given) for names in lists) or set(labels) - set(given):
        raise DataError("The files name different classes in their schemas; write them with one list.")
    return given
