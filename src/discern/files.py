"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discern.errors import storing

if TYPE_CHECKING:
    import polars as pl


def cache_folder() -> Path:
    """$DISCERN_CACHE, else $XDG_CACHE_HOME/discern, else ~/.cache/discern."""
    if chosen := os.environ.get("DISCERN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "discern"


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there becomes `path` when the block ends well.

    Raises StorageError when the place cannot be written or the disk is full; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # nothing was written where nothing can be removed; the first error is the one to tell
            temporary.unlink()


def write_table(path: Path, table: pl.DataFrame, *, metadata: dict[str, str] | None = None) -> None:
    """Write `table` as Parquet with `metadata` in its schema, whole or not at all."""
    buffer = io.BytesIO()  # polars hides why a file cannot be written (a full disk); writing bytes does not
    table.write_parquet(buffer, metadata=metadata)
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_rows(path: Path, table: pl.DataFrame) -> None:
    """Write `table` for people and for machines: CSV, or Parquet where the name ends in .parquet."""
    if path.suffix == ".parquet":
        write_table(path, table)
        return
    with writing(path) as temporary:
        temporary.write_bytes(table.write_csv().encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
