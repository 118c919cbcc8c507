"""The bytes of a Dataset's images, in portions that threads can fetch independently."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from discern.data.dataset import Dataset

FILES_PER_PORTION = 32
"""Few enough that two threads end together and Ctrl-C is quick, enough that scheduling costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Some images whose bytes are fetched together."""

    rows: list[int]
    """Positions in the Dataset's table."""
    fetch: Callable[[], list[bytes | OSError]]
    """Reads the bytes of those rows; a file that cannot be opened gives its OSError."""


def portions(dataset: Dataset) -> list[Portion]:
    """Every row of the table in exactly one Portion: files in small groups, Parquet by row group."""
    table = dataset.table.with_row_index("position")
    plain = table.filter(pl.col("row").is_null())
    found = [
        _file_portion(dataset.root, part) for part in plain.select("position", "file").iter_slices(FILES_PER_PORTION)
    ]
    inside = table.filter(pl.col("row").is_not_null())
    for (file,), part in inside.group_by("file", maintain_order=True):
        found += _parquet_portions(dataset.root / str(file), part)
    return found


def _file_portion(root: Path, part: pl.DataFrame) -> Portion:
    files = part["file"].to_list()

    def fetch() -> list[bytes | OSError]:
        return [_read(root / file) for file in files]

    return Portion(rows=part["position"].to_list(), fetch=fetch)


def _read(path: Path) -> bytes | OSError:
    try:
        if path.exists() and not path.is_file():  # a named pipe would wait for ever
            return OSError(errno.EINVAL, "not a regular file")
        return path.read_bytes()
    except OSError as error:
        return error


def _parquet_portions(path: Path, part: pl.DataFrame) -> list[Portion]:
    """One Portion for each row group that holds a wanted row."""
    metadata = pq.ParquetFile(path).metadata
    found, start = [], 0
    for group in range(metadata.num_row_groups):
        end = start + metadata.row_group(group).num_rows
        wanted = part.filter(pl.col("row").is_between(start, end, closed="left"))
        if not wanted.is_empty():
            inside = (wanted["row"] - start).to_list()
            found.append(Portion(rows=wanted["position"].to_list(), fetch=_group_reader(path, group, inside)))
        start = end
    return found


def _group_reader(path: Path, group: int, rows: list[int]) -> Callable[[], list[bytes | OSError]]:
    def fetch() -> list[bytes | OSError]:
        try:
            column = pq.ParquetFile(path).read_row_group(group, columns=["image.bytes"])["image"]
        except (OSError, pa.ArrowException) as error:
            reason = str(error).strip().splitlines()[0]
            return [OSError(f"row group {group} of {path.name} is damaged: {reason}")] * len(rows)
        images = column.combine_chunks().field("bytes").take(rows)
        return [image.as_py() or b"" for image in images]

    return fetch


def as_on_disk(dataset: Dataset) -> Dataset:
    """The same rows with the present size and modification time of their files; 0 for a file that is gone."""
    files = dataset.table["file"].unique().to_list()
    status = {file: _status(dataset.root / file) for file in files}
    return dataset.with_columns(
        pl.Series("bytes", [status[file][0] for file in dataset.table["file"]], dtype=pl.Int64),
        pl.Series("modified", [status[file][1] for file in dataset.table["file"]], dtype=pl.Int64),
    )


def _status(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
