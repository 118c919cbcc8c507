"""The one pass over every image: bytes to facts and Pixels, kept in the cache and never done twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from discern.data.dataset import FACTS, SCHEMA, Dataset
from discern.data.decode import Fit, decode
from discern.data.pixels import Images, Pixels, creating_pixels, read_pixels
from discern.data.reading import Portion, portions
from discern.errors import DataError, UnreadableImage, storing
from discern.files import cache_folder, write_table
from discern.progress import Progress, Silent

DECODER_VERSION = 2
"""Raised when `decode` gives other pixels for the same bytes, so that old caches are not read."""

_NO_FACTS = dict.fromkeys(FACTS)


def scan(
    dataset: Dataset, *, size: int, fit: Fit, cache: Path | None = None, progress: Progress | None = None
) -> tuple[Dataset, Pixels]:
    """Read every image once: the Dataset with its FACTS, and its Pixels at `size`.

    The result is cached under the rows' file names, sizes and modification times; a second scan of unchanged data
    maps the first one's files. The rows get a new `index`. Images that cannot be decoded get a `problem` instead of
    width and height. Raises StorageError when the cache cannot be written.
    """
    listed = dataset.table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("index"), pl.col(list(SCHEMA)[1:]))
    dataset = replace(dataset, table=listed)
    folder = (cache or cache_folder()) / "scans" / _key(dataset, size, fit)
    facts, pixels = folder / "facts.parquet", folder / "pixels.npy"
    if facts.exists() and not _all_opened(facts):
        shutil.rmtree(folder)
    if not facts.exists():
        _scan_into(folder, dataset, size, fit, progress or Silent())
    table = pl.concat([listed, pl.read_parquet(facts)], how="horizontal")
    return replace(dataset, table=table), read_pixels(pixels)


def _all_opened(facts: Path) -> bool:
    """Whether every file could be opened; one that could not may have become readable, unseen by size and date."""
    return pl.read_parquet(facts, columns=["digest"])["digest"].null_count() == 0


def load_images(dataset: Dataset, *, size: int, fit: Fit) -> Images:
    """Decode a handful of images, all known to be readable, without the cache; in table order."""
    array = np.zeros((len(dataset), size, size, 3), np.uint8)
    facts = _read_all(dataset, array, size, fit, Silent())
    for image, found in zip(dataset.images, facts, strict=True):
        if found["problem"]:
            raise DataError(f"{image} in {dataset.root} was readable before: {found['problem']}; put it back.")
    return array


def _key(dataset: Dataset, size: int, fit: Fit) -> str:
    digest = hashlib.blake2b(f"{DECODER_VERSION}|{size}|{fit}|{dataset.root}".encode(), digest_size=12)
    for row in dataset.table.select("file", "row", "bytes", "modified").iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _scan_into(folder: Path, dataset: Dataset, size: int, fit: Fit, progress: Progress) -> None:
    """Scan into a temporary folder, then rename it: an interrupted scan leaves nothing that looks whole."""
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".scan-", dir=folder.parent))
    try:
        with creating_pixels(temporary / "pixels.npy", len(dataset), size) as array:
            facts = _read_all(dataset, array, size, fit, progress)
        with storing(folder):
            write_table(temporary / "facts.parquet", pl.DataFrame(facts, FACTS))
            with contextlib.suppress(FileExistsError):  # another process finished the same scan first
                _rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if folder.exists():
            raise FileExistsError(folder) from error
        raise


def _read_all(dataset: Dataset, array: Images, size: int, fit: Fit, progress: Progress) -> list[dict[str, Any]]:
    """Facts of every row, in table order; pixels go straight into `array`."""
    facts: list[dict[str, Any]] = [_NO_FACTS] * len(dataset)
    workers = os.cpu_count() or 1
    cv2.setNumThreads(1)  # parallel over images, not inside one
    queue = iter(portions(dataset))
    with (
        warnings.catch_warnings(action="ignore"),  # decode does so too, but threads would undo each other's
        ThreadPoolExecutor(workers) as pool,
        progress.track("Reading images", len(dataset)) as advance,
    ):
        # Only a few portions at a time are in flight, so memory does not grow with the data.
        running: set[Future[int]] = set()
        try:
            while True:
                for portion in islice(queue, 2 * workers - len(running)):
                    running.add(pool.submit(_read_portion, portion, facts, array, size, fit))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    advance(future.result(), "")
        except BaseException:
            for future in running:
                future.cancel()
            raise
    return facts


def _read_portion(portion: Portion, facts: list[dict[str, Any]], array: Images, size: int, fit: Fit) -> int:
    for row, data in zip(portion.rows, portion.fetch(), strict=True):
        if isinstance(data, OSError):
            facts[row] = _NO_FACTS | {"problem": f"it cannot be opened ({data.strerror or data})"}
            continue
        known = _NO_FACTS | {"digest": hashlib.blake2b(data, digest_size=16).hexdigest()}
        try:
            decoded = decode(data, size=size, fit=fit)
        except UnreadableImage as error:
            facts[row] = known | {"problem": str(error)}
            continue
        array[row] = decoded.image
        facts[row] = known | {
            "width": decoded.width,
            "height": decoded.height,
            "format": decoded.format,
            "mode": decoded.mode,
        }
    return len(portion.rows)
