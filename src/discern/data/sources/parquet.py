"""Parquet in the Hugging Face image layout: `image{bytes, path}`, `label`, class names in the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from discern.data.dataset import LISTING
from discern.data.sources.folder import SPLIT_FOLDERS
from discern.errors import DataError


def accepts(path: Path) -> bool:
    """A .parquet file, or a folder with such files in it."""
    return bool(_files(path))


def listing(path: Path) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rows of LISTING and the class names in the schema's order."""
    root = path if path.is_dir() else path.parent
    files = _files(path)
    splits = [_split_of(file) for file in files]
    if None in splits and len(set(splits)) > 1:
        strange = files[splits.index(None)]
        raise DataError(
            f"{strange.name} is for no split while its neighbours are: name it train*, val* or test*, or move it."
        )
    parts, class_lists = [], []
    for file, split in zip(files, splits, strict=True):
        labels, classes = _labels(file)
        class_lists.append(classes)
        name, status = file.relative_to(root).as_posix(), file.stat()
        parts.append(
            pl.DataFrame(
                {
                    "image": [f"{name}#{row}" for row in range(len(labels))],
                    "file": [name] * len(labels),
                    "row": range(len(labels)),
                    "label": labels,
                    "split": [split] * len(labels),
                    "bytes": [status.st_size] * len(labels),
                    "modified": [status.st_mtime_ns] * len(labels),
                },
                LISTING | {"label": pl.String},
            )
        )
    table = pl.concat(parts)
    if table.is_empty():
        raise DataError(f"No images in {path}: its Parquet files have no rows.")
    classes = _class_order(class_lists, table["label"])
    index = {name: k for k, name in enumerate(classes)}
    return table.with_columns(pl.col("label").replace_strict(index, return_dtype=pl.Int32)), classes


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    return [file for file in found if not file.name.startswith(".")]


def _split_of(file: Path) -> str | None:
    """The split a file name begins with: `train-00000-of-00001.parquet` is for training."""
    return SPLIT_FOLDERS.get(file.stem.split("-")[0].split("_")[0].split(".")[0].lower())


def _labels(file: Path) -> tuple[list[str], tuple[str, ...] | None]:
    """The label of every row as a class name, and the class names if the schema gives their order."""
    try:
        schema = pq.read_schema(file)
        labels = pq.read_table(file, columns=["label"])["label"].to_pylist() if "label" in schema.names else []
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet ({error}); download or write it again.") from error
    missing = [name for name in ("image", "label") if name not in schema.names]
    if missing:
        raise DataError(
            f"{file} has no column '{missing[0]}' (it has {', '.join(schema.names)}); "
            "expected `image` (a struct of bytes and path) and `label`."
        )
    image = schema.field("image").type
    if not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
        raise DataError(
            f"The column 'image' of {file} is of type {image}; expected `image` (a struct of bytes and path)."
        )
    names = _class_names(schema.metadata or {})
    if None in labels:
        raise DataError(f"{file}: the row {labels.index(None)} has no label; give it one or remove it.")
    if names is None:
        return [str(label) for label in labels], None
    strange = next((label for label in labels if not 0 <= label < len(names)), None)
    if strange is not None:
        raise DataError(f"{file} has the label {strange}, but its schema names {len(names)} classes.")
    return [names[label] for label in labels], names


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...] | None:
    if b"huggingface" not in metadata:
        return None
    features: dict[str, Any] = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {})
    names = features.get("label", {}).get("names")
    return tuple(names) if names else None


def _class_order(lists: list[tuple[str, ...] | None], labels: pl.Series) -> tuple[str, ...]:
    """The schema's order where there is one; else sorted, numbers by value."""
    given = next((names for names in lists if names), None)
    if given is not None:
        if any(names is not None and names != given for names in lists):
            raise DataError("The Parquet files name different classes in their schemas; write them with one list.")
        return given
    found = labels.unique().to_list()
    return tuple(sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)))
