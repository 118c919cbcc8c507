"""The bytes of a Dataset's images, in portions that threads can fetch independently."""

from __future__ import annotations

import errno
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from discern.data.dataset import Dataset
from discern.data.records import read_images

PER_PORTION = 64
"""Images. Few enough that two threads end together and Ctrl-C is quick, enough that scheduling costs nothing."""

_BYTES = 1 << 26
"""About how large the files of a portion may be together: every thread holds one."""

Place = Path | str
"""A file, or the URL of one."""

Read = list[bytes | OSError]
"""What was asked for; a file or row that cannot be read gives its OSError."""


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Some images whose bytes are fetched together."""

    rows: list[int]
    """Positions in the Dataset's table."""
    fetch: Callable[[], Read]
    """Reads the bytes of those rows."""


def portions(dataset: Dataset) -> list[Portion]:
    """Every row of the table in exactly one Portion: files in small groups, Parquet by row group."""
    table = dataset.table.with_row_index("position")
    plain = table.filter(pl.col("row").is_null())
    found = [_file_portion(dataset.root, part) for part in _in_portions(plain)]
    inside = table.filter(pl.col("row").is_not_null())
    for (file,), part in inside.group_by("file", maintain_order=True):
        found += _portions_inside(located(dataset.root, str(file)), part)
    return found


def located(root: Path, file: str) -> Place:
    """Where a Dataset's `file` is: below its root, unless it is a URL."""
    return file if "://" in file else root / file


def opened(place: Place) -> AbstractContextManager[BinaryIO]:
    """The file at a path or URL, to read from anywhere in it.

    Raises OSError; for a URL also ImportError when the package for its scheme is missing, and what that one raises.
    """
    if isinstance(place, Path):
        return place.open("rb")
    import fsspec

    return cast(AbstractContextManager[BinaryIO], fsspec.open(place, "rb"))


def status(place: Place) -> tuple[int, int]:
    """Size and modification time in nanoseconds; 0 for what is not known, as both are of a file that is gone."""
    if isinstance(place, Path):
        return file_status(place)
    try:
        return _remote_status(place)
    except OSError:
        return 0, 0


def file_status(path: Path | str) -> tuple[int, int]:
    """`status` of a file on disk."""
    try:
        known = os.stat(path)
    except OSError:
        return 0, 0
    return known.st_size, known.st_mtime_ns


def _remote_status(url: str) -> tuple[int, int]:
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    size = int(files.info(path)["size"] or 0)
    try:
        return size, int(files.modified(path).timestamp() * 1e9)
    except NotImplementedError:  # of a plain web server, for one
        return size, 0


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """What the `datasets` library noted about each column in a schema's metadata; nothing where another wrote it."""
    note = (schema.metadata or {}).get(b"huggingface")
    features: dict[str, Any] = json.loads(note).get("info", {}).get("features", {}) if note else {}
    return features


def image_column(schema: pa.Schema) -> str | None:
    """The column with the bytes of images: `image`, else `img`, else the only one that is noted to be of images."""
    structs = [field for field in schema if pa.types.is_struct(field.type)]
    found = [field.name for field in structs if field.type.get_field_index("bytes") >= 0]
    usual = [name for name in ("image", "img") if name in found]
    noted = [name for name in found if features_of(schema).get(name, {}).get("_type") == "Image"]
    return usual[0] if usual else noted[0] if len(noted) == 1 else None


def _in_portions(files: pl.DataFrame) -> list[pl.DataFrame]:
    """PER_PORTION rows each, or as many as _BYTES are, in table order."""
    filled = (files["bytes"].fill_null(0) / _BYTES).clip(lower_bound=1 / PER_PORTION).cum_sum()
    numbered = files.select("position", "file", portion=(filled - 1e-9).floor())
    return numbered.partition_by("portion", maintain_order=True)


def _file_portion(root: Path, part: pl.DataFrame) -> Portion:
    files = [os.path.join(root, file) for file in part["file"]]

    def fetch() -> Read:
        return [_read(file) for file in files]

    return Portion(rows=part["position"].to_list(), fetch=fetch)


def _read(path: str) -> bytes | OSError:
    """A file's bytes in as few system calls as can be: between them threads wait for each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait for ever
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return OSError(errno.EINVAL, "not a regular file")
            data = os.read(descriptor, status.st_size + 1)
            while len(data) != status.st_size and (more := os.read(descriptor, 1 << 20)):  # it grows, or is over 2 GB
                data += more
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    return data


def _portions_inside(place: Place, part: pl.DataFrame) -> list[Portion]:
    """The wanted rows of one file that holds many images; what is wrong with the file becomes every row's OSError."""
    name = str(place)
    try:
        if name.endswith(".parquet"):
            return _parquet_portions(Path(place), part)
        if name.endswith(".arrow"):
            return _arrow_portions(Path(place), part)
        if name.endswith(".tar"):
            return _in_slices(part.sort("row"), lambda rows: _tar_members(place, rows))
        if name.endswith(".gz"):  # unpacked as a whole, so once
            return [_portion(part, lambda rows: read_images(Path(place), rows))]
        return _in_slices(part, lambda rows: read_images(Path(place), rows))
    except (OSError, pa.ArrowException) as error:
        refusal = _damage(name, error)
        return [Portion(rows=part["position"].to_list(), fetch=lambda: [refusal] * part.height)]


def _in_slices(part: pl.DataFrame, read: Callable[[list[int]], Read]) -> list[Portion]:
    return [_portion(some, read) for some in part.iter_slices(PER_PORTION)]


def _portion(part: pl.DataFrame, read: Callable[[list[int]], Read]) -> Portion:
    rows = part["row"].to_list()

    def fetch() -> Read:
        try:
            return read(rows)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            return [_damage(str(part["file"][0]), error)] * len(rows)

    return Portion(rows=part["position"].to_list(), fetch=fetch)


def _damage(file: str, error: Exception) -> OSError:
    if isinstance(error, OSError) and error.strerror:
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return OSError(f"{file.rpartition('/')[2]} is damaged: {reason}")


def _parquet_portions(path: Path, part: pl.DataFrame) -> list[Portion]:
    """One Portion for each row group that holds a wanted row."""
    file = pq.ParquetFile(path)
    column = image_column(file.schema_arrow)
    found, start = [], 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        wanted = part.filter(pl.col("row").is_between(start, end, closed="left"))
        if not wanted.is_empty():
            inside = (wanted["row"] - start).to_list()
            fetch = _group_reader(path, group, str(column), inside)
            found.append(Portion(rows=wanted["position"].to_list(), fetch=fetch))
        start = end
    return found


def _group_reader(path: Path, group: int, name: str, rows: list[int]) -> Callable[[], Read]:
    def fetch() -> Read:
        try:
            column = pq.ParquetFile(path).read_row_group(group, columns=[f"{name}.bytes"])[name]
        except (OSError, pa.ArrowException) as error:
            reason = str(error).strip().splitlines()[0]
            return [OSError(f"row group {group} of {path.name} is damaged: {reason}")] * len(rows)
        images = column.combine_chunks().field("bytes").take(rows)
        return [image.as_py() or b"" for image in images]

    return fetch


def _arrow_portions(path: Path, part: pl.DataFrame) -> list[Portion]:
    """The file is mapped, so that what stays in memory between portions is where its images are."""
    table = read_arrow(path)
    images = table[str(image_column(table.schema))]

    def read(rows: list[int]) -> Read:
        return [(images[row].as_py() or {}).get("bytes") or b"" for row in rows]

    return _in_slices(part, read)


def read_arrow(path: Path) -> pa.Table:
    """A file in Arrow's stream format, mapped and not read. Raises OSError or ArrowException."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def _tar_members(place: Place, headers: list[int]) -> Read:
    """The members whose headers begin at these bytes of the archive."""
    try:
        with opened(place) as file:
            return [_member(file, header) for header in headers]
    except Exception as error:
        if isinstance(place, Path) or isinstance(error, OSError):
            raise
        # The packages for remote files raise all kinds.
        return [OSError(f"{place} could not be read: {error}")] * len(headers)


def _member(file: BinaryIO, header: int) -> bytes | OSError:
    file.seek(header)
    try:
        size = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape").size
    except tarfile.HeaderError as error:
        return OSError(f"no file begins at byte {header} of the archive: {error}")
    data = file.read(size)
    return data if len(data) == size else OSError("the archive is cut off")


def as_on_disk(dataset: Dataset) -> Dataset:
    """The same rows with the present size and modification time of their files; 0 for a file that is gone."""
    known = {file: status(located(dataset.root, file)) for file in dataset.table["file"].unique()}
    return dataset.with_columns(
        pl.Series("bytes", [known[file][0] for file in dataset.table["file"]], dtype=pl.Int64),
        pl.Series("modified", [known[file][1] for file in dataset.table["file"]], dtype=pl.Int64),
    )
