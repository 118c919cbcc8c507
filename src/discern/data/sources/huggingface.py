"""What `save_to_disk` of the Hugging Face `datasets` library wrote: Arrow files, alone or in a folder per split.

The files are read as they are: neither that library nor a conversion is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from discern.data.reading import features_of, read_arrow
from discern.data.sources.columns import class_names, label_column, one_order, require_images
from discern.data.sources.listing import NAMED_ROWS, SPLIT_WORDS, Listing, listing_of, rows_inside
from discern.errors import DataError

_SPLITS, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def accepts(path: Path) -> bool:
    """A folder that `save_to_disk` wrote."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


def listing(path: Path) -> Listing:
    """The rows of all Arrow files; the classes in the order that the features give them."""
    parts, orders = [], []
    for folder, split in _splits(path):
        features = _read_json(folder / _INFO).get("features") or {}
        for file in _data_files(folder):
            labels, order = _labels(file, features)
            parts.append(rows_inside(path, file.relative_to(path).as_posix(), labels, split))
            orders.append(order)
    named = pl.concat([pl.DataFrame(schema=NAMED_ROWS), *parts])
    if named.is_empty():
        raise DataError(f"No images in {path}: its Arrow files have no rows.")
    return listing_of(path, named, classes=one_order(orders, named["label"]))


def _splits(path: Path) -> list[tuple[Path, str | None]]:
    """The folders with Arrow files and what each is for."""
    if not (path / _SPLITS).is_file():
        return [(path, SPLIT_WORDS.get(str(_read_json(path / _STATE).get("_split")).lower()))]
    names = [str(name) for name in _read_json(path / _SPLITS).get("splits") or []]
    strange = [name for name in names if name.lower() not in SPLIT_WORDS]
    if strange:
        raise DataError(
            f"{path} has the split '{strange[0]}', which is neither train, validation nor test: name the folder "
            f"of one split, such as {path / strange[0]}, or save it without that one."
        )
    splits = [SPLIT_WORDS[name.lower()] for name in names]
    if len(set(splits)) < len(splits):
        raise DataError(f"{path} has two splits for one purpose ({', '.join(names)}): save it with one of them.")
    return [(path / name, split) for name, split in zip(names, splits, strict=True)]


def _data_files(folder: Path) -> list[Path]:
    return [folder / str(entry["filename"]) for entry in _read_json(folder / _STATE).get("_data_files") or []]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); save the dataset again.") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} is not what `save_to_disk` writes; save the dataset again.")
    return value


def _labels(file: Path, features: dict[str, Any]) -> tuple[list[str], tuple[str, ...] | None]:
    """The label of every row as a class name, and the class names if the features give their order."""
    try:
        table = read_arrow(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Arrow ({error}); save the dataset again.") from error
    require_images(table.schema, str(file))
    features = features or features_of(table.schema)
    name = label_column(table.schema, str(file), features)
    return class_names(table[name], features, name=name, place=str(file))
