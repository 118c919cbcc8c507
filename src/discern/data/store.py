"""Store: the folder that keeps what a scan has read, so that no image is read twice.

    pixels.u8       one fitted image after the other, raw bytes; `slot` counts them
    facts.parquet   one row per image read: which file it was, its slot, its FACTS
    journal.arrow   the same for what was read since, a record batch per portion; it becomes part of
                    facts.parquet when a scan ends, and when the next one begins after a kill
    boot            when the machine was started; after a power cut the journal may know of pixels that
                    never reached the disk, so a journal from before the last start is not believed

Pixels are written before the journal mentions them. A slot is never written again, so that a process that has
mapped the pixels is not disturbed when a file changes and is read anew.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int

from discern.data.dataset import FACTS, SCHEMA
from discern.data.pixels import Images
from discern.errors import storing
from discern.files import write_table, writing

IDENTITY = ("file", "row", "bytes", "modified")
"""An image is the same as long as these are."""

ROWS: dict[str, Any] = {name: SCHEMA[name] for name in IDENTITY} | {"slot": pl.Int64} | FACTS
"""Columns of facts.parquet."""


@dataclass(frozen=True)
class Store:
    """What has been read of one place, fitted to one size."""

    folder: Path
    """Where it is kept."""
    size: int
    """Side of the fitted images, pixels."""

    @property
    def rows(self) -> pl.DataFrame:
        """Every image that a finished scan has read; columns of ROWS."""
        path = self.folder / "facts.parquet"
        return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=ROWS)

    def images(self) -> Images:
        """All slots, mapped; the operating system keeps in memory what is used."""
        path = self.folder / "pixels.u8"
        return np.memmap(path, np.uint8, "r", shape=(path.stat().st_size // self._stride, self.size, self.size, 3))

    @property
    def _stride(self) -> int:
        return self.size * self.size * 3

    @contextmanager
    def adding(self) -> Iterator[Addition]:
        """Add images, alone among all processes; what was added stays however the block ends."""
        with storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._recovered()
            with storing(self.folder):
                self._begin()
                with open(self.folder / "journal.arrow", "wb") as sink:
                    yield Addition(self, known, sink)
            self._recovered()

    def _begin(self) -> None:
        with writing(self.folder / "boot") as temporary:
            temporary.write_text(_boot(), encoding="utf-8")

    def _recovered(self) -> pl.DataFrame:
        """All rows, those of the journal moved into facts.parquet."""
        journal, boot = self.folder / "journal.arrow", self.folder / "boot"
        rows = self.rows
        if not journal.exists():
            return rows
        if boot.exists() and boot.read_text(encoding="utf-8") == _boot():
            batches = list(_whole_batches(journal))
            if batches:
                with storing(self.folder):
                    descriptor = os.open(self.folder / "pixels.u8", os.O_RDONLY)
                    os.fsync(descriptor)
                    os.close(descriptor)
                added = pl.from_arrow(pa.Table.from_batches(batches))
                assert isinstance(added, pl.DataFrame)
                rows = pl.concat([rows, added.cast(ROWS)])  # type: ignore[arg-type]
                write_table(self.folder / "facts.parquet", rows)
        journal.unlink()
        return rows


class Addition:
    """Images being added to a Store."""

    def __init__(self, store: Store, known: pl.DataFrame, sink: Any) -> None:
        self.known = known
        """Rows that were there before."""
        self._store, self._sink = store, sink
        self._writer: Any = None

    def reserve(self, count: int) -> tuple[Int[np.ndarray, " count"], Images]:
        """Free slots for `count` images, and all slots to write into.

        The disk is reserved first: a full one is a StorageError here, not a crash (SIGBUS) in the middle.
        """
        path, stride = self._store.folder / "pixels.u8", self._store._stride
        path.touch()
        capacity = path.stat().st_size // stride
        free = np.setdiff1d(np.arange(capacity + count), self.known["slot"].to_numpy())[:count]
        with open(path, "r+b") as file:
            _reserve(file.fileno(), path.stat().st_size, (int(free.max(initial=-1)) + 1) * stride)
        size = self._store.size
        return free, np.memmap(path, np.uint8, "r+", shape=(path.stat().st_size // stride, size, size, 3))

    def add(self, rows: dict[str, Any]) -> None:
        """Note images whose pixels are written; columns of ROWS as lists or (masked) arrays."""
        schema = _arrow_schema()
        columns = [_column(rows[field.name], field.type) for field in schema]
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._sink, schema)
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        self._sink.flush()


@cache
def _arrow_schema() -> pa.Schema:
    """ROWS for Arrow; not at import, as Polars' threads do not survive a fork."""
    return pl.DataFrame(schema=ROWS).to_arrow().schema


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    """Polars would need ten times as long for the few rows of a batch."""
    if not isinstance(values, np.ndarray):
        return pa.array(values, kind)
    mask = np.ma.getmaskarray(values)
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ma.getdata(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(mask[:, 0]))
    return pa.array(np.ma.getdata(values), kind, mask=mask)


def _whole_batches(journal: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a journal up to where a kill cut it off."""
    try:
        with open(journal, "rb") as source:
            yield from pa.ipc.open_stream(source)
    except (pa.ArrowInvalid, OSError):
        return


def _reserve(descriptor: int, present: int, wanted: int) -> None:
    if wanted <= present:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, present, wanted - present)
        return
    os.lseek(descriptor, present, os.SEEK_SET)  # macOS: write the zeros out
    for offset in range(present, wanted, 1 << 24):
        os.write(descriptor, bytes(min(1 << 24, wanted - offset)))


def _boot() -> str:
    """A name for the present run of the operating system."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text(encoding="utf-8").strip()
    return str(round((time.time() - time.monotonic()) / 60))
