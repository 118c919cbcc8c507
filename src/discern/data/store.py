"""Store: the folder that keeps what a scan has read, so that no image is read twice.

    pixels.u8       one fitted image after the other, raw bytes; `slot` counts them
    facts.parquet   one row per image read: which file it was, its slot, its FACTS
    journal.arrow   the same for what was read since, a record batch per portion; it becomes part of
                    facts.parquet when a scan ends, and when the next one begins after one that did not
    boot            when the machine was started; after a power cut the journal may know of pixels that
                    never reached the disk, so a journal from before the last start is not believed

Pixels are written before the journal mentions them. A slot with a picture is never written again, so that a process
that has mapped the pixels is not disturbed when a file changes and is read anew.

All of it can be made again from the images: a row without pixels, a damaged table, a file that is missing cost the
time to read those images once more, and no more than that.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int

from discern.data.dataset import FACTS, SCHEMA
from discern.data.pixels import Images
from discern.errors import storing
from discern.files import write_table, writing
from discern.progress import Progress

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
        """Every image that has been read, as far as its pixels are there; columns of ROWS."""
        table = kept_table(self.folder / "facts.parquet", ROWS)
        if table is None:
            return pl.DataFrame(schema=ROWS)
        return table.filter(pl.col("slot") < self._slots)

    def images(self) -> Images:
        """All slots, mapped; the operating system keeps in memory what is used."""
        shape = (self._slots, self.size, self.size, 3)
        # A plain view: every look at a memmap makes another memmap, which takes longer than a small picture.
        return (
            np.asarray(np.memmap(self._pixels, np.uint8, "r", shape=shape)) if shape[0] else np.zeros(shape, np.uint8)
        )

    @contextmanager
    def adding(self, progress: Progress) -> Iterator[Addition]:
        """Add images, alone among all processes; what was added stays however the block ends."""
        with storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / "lock", "w")  # noqa: SIM115 - closed below
        with lock:
            self._wait(lock, progress)
            known = self._recovered()
            with storing(self.folder):
                if known.is_empty():  # all slots are free, but who has mapped them may still look at them
                    self._pixels.unlink(missing_ok=True)
                with writing(self.folder / "boot") as temporary:
                    temporary.write_text(_boot(), encoding="utf-8")
                self._pixels.touch()
                pixels, sink = self._pixels.open("r+b"), pa.OSFile(str(self.folder / "journal.arrow"), "wb")
            with pixels, sink:
                yield Addition(self, known, pixels, sink)
            self._recovered()

    @property
    def _pixels(self) -> Path:
        return self.folder / "pixels.u8"

    @property
    def _stride(self) -> int:
        return self.size * self.size * 3

    @property
    def _slots(self) -> int:
        return self._pixels.stat().st_size // self._stride if self._pixels.exists() else 0

    def _wait(self, lock: IO[str], progress: Progress) -> None:
        with storing(self.folder):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.say("Another process is reading images of this folder: waiting until it has finished ...")
                fcntl.flock(lock, fcntl.LOCK_EX)

    def _recovered(self) -> pl.DataFrame:
        """All rows, those of the journal moved into facts.parquet."""
        journal, boot = self.folder / "journal.arrow", self.folder / "boot"
        with storing(self.folder):
            rows = self.rows
            if journal.exists():
                believed = boot.exists() and boot.read_text(encoding="utf-8") == _boot()
                batches = list(_whole_batches(journal)) if believed else []
                if batches and self._pixels.exists():
                    _make_durable(self._pixels)
                    added = pl.from_arrow(pa.Table.from_batches(batches).combine_chunks())
                    assert isinstance(added, pl.DataFrame)
                    rows = pl.concat([rows, added.cast(ROWS)])  # type: ignore[arg-type]
                    rows = rows.unique("slot", keep="last", maintain_order=True)
                    write_table(self.folder / "facts.parquet", rows)
                journal.unlink()
        return rows.filter(pl.col("slot") < self._slots)


class Addition:
    """Images being added to a Store."""

    def __init__(self, store: Store, known: pl.DataFrame, pixels: BinaryIO, sink: Any) -> None:
        self.known = known
        """Rows that were there before."""
        self._store, self._pixels, self._one_at_a_time = store, pixels, threading.Lock()
        with storing(store.folder):
            self._writer = pa.ipc.new_stream(sink, _arrow_schema())

    def reserve(self, count: int, *, taken: Int[np.ndarray, " slot"]) -> Int[np.ndarray, " count"]:
        """`count` slots that are not `taken`; the disk is reserved, so that a full one is told before the work."""
        path, present = self._store._pixels, self._store._slots
        free = np.setdiff1d(np.arange(present + count), taken)[:count]
        with storing(path), open(path, "ab") as file:
            _reserve(file.fileno(), path.stat().st_size, (int(free.max(initial=-1)) + 1) * self._store._stride)
        return free

    def add(self, rows: dict[str, Any], images: Images) -> None:
        """Keep images and their rows: columns of ROWS as lists or (masked) arrays. Several threads may do so."""
        slots, schema = rows["slot"], _arrow_schema()
        columns = [_column(rows[field.name], field.type) for field in schema]
        ends = [*np.flatnonzero(np.diff(slots) != 1) + 1, len(slots)]  # of runs, each written at once
        with storing(self._store.folder):
            for start, end in zip([0, *ends], ends, strict=False):
                _write_at(self._pixels.fileno(), images[start:end], int(slots[start]) * self._store._stride)
            with self._one_at_a_time:
                self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    def settle(self) -> None:
        """Bring what was kept to the disk, so that less is left to wait for at the end."""
        with storing(self._store.folder):
            os.fsync(self._pixels.fileno())


def kept_table(path: Path, schema: dict[str, Any]) -> pl.DataFrame | None:
    """A table in the cache; None when there is none, or it is damaged or of another schema."""
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return table if table.schema == schema else None


@cache
def _arrow_schema() -> pa.Schema:
    """ROWS for Arrow; not at import, as Polars' threads do not survive a fork."""
    return pl.DataFrame(schema=ROWS).to_arrow().schema


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    """Polars would need ten times as long for the few rows of a batch."""
    if isinstance(values, pa.Array):
        return values
    if not isinstance(values, np.ndarray):
        return pa.array(values, kind)
    plain, mask = np.ma.getdata(values), np.ma.getmaskarray(values) if np.ma.isMA(values) else None
    if pa.types.is_fixed_size_list(kind):
        missing = None if mask is None else pa.array(mask[:, 0])
        return pa.FixedSizeListArray.from_arrays(pa.array(plain.reshape(-1)), type=kind, mask=missing)
    return pa.array(plain, kind, mask=mask)


def _whole_batches(journal: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a journal up to where a kill cut it off."""
    try:
        with pa.OSFile(str(journal)) as source, pa.ipc.open_stream(source) as batches:
            if batches.schema == _arrow_schema():
                yield from batches
    except (pa.ArrowException, OSError):
        return


def _make_durable(path: Path) -> None:
    """Wait until what was written into a mapped file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, images: Images, at: int) -> None:
    """All of the images, one after the other from a byte on."""
    left = images.reshape(-1).data
    while left:
        done = os.pwrite(descriptor, left, at)
        left, at = left[done:], at + done


def _reserve(descriptor: int, present: int, wanted: int) -> None:
    """Make a file larger, its disk space allotted; on a full disk it stays as it was."""
    if wanted <= present:
        return
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, present, wanted - present)
            return
        for offset in range(present, wanted, 1 << 24):  # macOS: write the zeros out
            os.write(descriptor, bytes(min(1 << 24, wanted - offset)))
    except OSError:
        os.ftruncate(descriptor, present)
        raise


def _boot() -> str:
    """A name for the present run of the operating system."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text(encoding="utf-8").strip()
    return str(round((time.time() - time.monotonic()) / 60))
