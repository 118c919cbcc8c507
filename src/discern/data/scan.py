"""The one pass over every image: bytes to facts and Pixels, kept in the cache and never done twice."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable
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
from discern.data.duplicates.signature import VIEW
from discern.data.pixels import Images, Pixels
from discern.data.reading import PER_PORTION, Portion, portions
from discern.data.statistics import (
    LEAST_INSIDE,
    SAMPLED,
    Grey,
    edged,
    inside_bars,
    sample,
    sharpness,
    shrunk,
    statistics,
    view,
)
from discern.data.store import IDENTITY, Store
from discern.errors import DataError, UnreadableImage
from discern.files import cache_folder
from discern.progress import Progress, Silent

DECODER_VERSION = 8
"""Raised when `decode` gives other pixels or facts for the same bytes, so that old caches are not read."""

_UNOPENED = "it cannot be opened"

_TOGETHER = 64
"""Rows whose statistics are computed and kept together: enough to pay for the calls, few enough for the cache."""

_HELD = 1 << 26
"""Bytes of fitted images that a thread holds at most, before they are kept."""

_SETTLED = 8
"""Portions after which what was kept is brought to the disk, while others are read: nobody waits for it at the end."""


def scan(
    dataset: Dataset, *, size: int, fit: Fit, cache: Path | None = None, progress: Progress | None = None
) -> tuple[Dataset, Pixels]:
    """Read every image once: the Dataset with its FACTS, and its Pixels at `size`.

    What is read is kept in the cache under the file's name, size and modification time, portion by portion: only new
    or changed files are read again, also after an interruption. The rows get a new `index`. Images that cannot be
    decoded get a `problem` instead of width and height. Raises StorageError when the cache cannot be written.
    """
    progress = progress or Silent()
    store = store_of(dataset, size=size, fit=fit, cache=cache)
    listed = dataset.table.select(list(SCHEMA))
    table = _known(listed, _opened(store.rows))
    if table["slot"].null_count():
        with store.adding(progress) as addition:
            known = _opened(addition.known)
            missing = _known(listed, known).filter(pl.col("slot").is_null()).drop(*FACTS, "slot")
            missing = missing.unique(IDENTITY, keep="first", maintain_order=True)
            todo, identity = replace(dataset, table=missing), missing.select(IDENTITY).to_arrow()
            slots = addition.reserve(len(todo), taken=known["slot"].to_numpy())

            def keep(rows: list[int], images: Images, facts: dict[str, Any]) -> None:
                # By Arrow: Polars would wake its threads for every few rows, while ours have the cores.
                files = dict(zip(IDENTITY, identity.take(rows).columns, strict=True))
                addition.add({**files, "slot": slots[rows], **facts}, images)

            _read_all(todo, size, fit, progress, keep, addition.settle)
        table = _known(listed, store.rows)
    return replace(dataset, table=table.with_columns(index="slot").drop("slot")), Pixels(array=store.images(), fit=fit)


def store_of(dataset: Dataset, *, size: int, fit: Fit, cache: Path | None = None) -> Store:
    """Where scans of the images below this Dataset's root are kept."""
    key = hashlib.blake2b(f"{DECODER_VERSION}|{dataset.root}".encode(), digest_size=10).hexdigest()
    return Store((cache or cache_folder()) / "scans" / f"{key}-{size}-{fit}", size)


def _opened(rows: pl.DataFrame) -> pl.DataFrame:
    """Without the files that could not be opened: they may have become readable, unseen by size and date."""
    return rows.filter(~pl.col("problem").fill_null("").str.starts_with(_UNOPENED))


def _known(listed: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The listing with slot and FACTS where its images have been read; nulls where not."""
    keys = [pl.col("row").fill_null(-1).alias("key"), *(pl.col(name) for name in IDENTITY if name != "row")]
    on = [key.meta.output_name() for key in keys]
    found = rows.select(*keys, "slot", *FACTS).unique(on, keep="last")
    joined = listed.with_columns(keys[0]).join(found, on=on, how="left", maintain_order="left")
    return joined.select(*SCHEMA, "slot", *FACTS)


def load_images(dataset: Dataset, *, size: int, fit: Fit) -> Images:
    """Decode a handful of images, all known to be readable, without the cache; in table order."""
    array = np.zeros((len(dataset), size, size, 3), np.uint8)
    problems: dict[int, str] = {}

    def keep(rows: list[int], images: Images, facts: dict[str, Any]) -> None:
        array[rows] = images
        problems.update({row: problem for row, problem in zip(rows, facts["problem"], strict=True) if problem})

    _read_all(dataset, size, fit, Silent(), keep)
    if problems:
        row = min(problems)
        raise DataError(f"{dataset.images[row]} in {dataset.root} was readable before: {problems[row]}; put it back.")
    return array


Keep = Callable[[list[int], Images, dict[str, Any]], None]
"""Takes rows of the Dataset, their fitted images and their FACTS, column by column; from several threads at once."""


def _read_all(
    dataset: Dataset,
    size: int,
    fit: Fit,
    progress: Progress,
    keep: Keep,
    settle: Callable[[], None] = lambda: None,
) -> None:
    """Fitted images and facts of every row go to `keep`, a few rows at a time; `settle` is called now and then.

    When interrupted, the rows being read are finished and kept.
    """
    workers, together = os.cpu_count() or 1, max(1, min(_TOGETHER, _HELD // (3 * size**2)))
    cv2.setNumThreads(1)  # parallel over images, not inside one
    queue = iter(portions(dataset))
    stop, one_at_a_time = threading.Event(), threading.Lock()
    with (
        warnings.catch_warnings(action="ignore"),  # decode does so too, but threads would undo each other's
        ThreadPoolExecutor(workers) as pool,
        progress.track("Reading images", len(dataset)) as advance,
    ):

        def work(portion: Portion) -> None:
            if stop.is_set():
                return
            data = portion.fetch()
            for start in range(0, len(data), together):
                if stop.is_set() and len(data) > PER_PORTION:  # files that are fetched are kept, row groups wait
                    return
                rows = portion.rows[start : start + together]
                keep(rows, *_read_some(data[start : start + together], size, fit))
                with one_at_a_time:
                    advance(len(rows), "")

        # Only a few portions at a time are in flight, so memory does not grow with the data.
        running: set[Future[None]] = set()
        ended = 0
        try:
            while True:
                running |= {pool.submit(work, portion) for portion in islice(queue, 2 * workers - len(running))}
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    ended += 1
                    if ended % _SETTLED == 0:
                        settle()
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise


def _read_some(data: list[bytes | OSError], size: int, fit: Fit) -> tuple[Images, dict[str, Any]]:
    """Fitted images; and columns of FACTS as lists or arrays, what pixels tell masked where there are none."""
    images = np.zeros((len(data), size, size, 3), np.uint8)
    facts: dict[str, Any] = {name: [None] * len(data) for name in FACTS}
    views = np.zeros((len(data), VIEW, VIEW), np.uint8)
    samples = np.zeros((len(data), SAMPLED, SAMPLED, 3), np.uint8)
    shown: dict[int, Grey] = {}
    for at, content in enumerate(data):
        if isinstance(content, OSError):
            facts["problem"][at] = f"{_UNOPENED} ({content.strerror or content})"
            continue
        facts["digest"][at] = hashlib.blake2b(content, digest_size=16).hexdigest()
        try:
            decoded = decode(content, size=size, fit=fit)
        except UnreadableImage as error:
            facts["problem"][at] = str(error)
            continue
        images[at] = decoded.image
        shown[at] = grey = shrunk(decoded.picture)
        views[at], samples[at] = view(grey), sample(decoded.picture)
        facts["sharpness"][at] = sharpness(grey)
        for name in ("width", "height", "format", "mode", "orientation"):
            facts[name][at] = getattr(decoded, name)
    inner = views.copy()
    for at in shown.keys() & np.flatnonzero(edged(views)).tolist():
        within = shown[at][inside_bars(shown[at])]
        if within.size < shown[at].size:  # a strip becomes flat, and is looked for by its digest alone
            inner[at] = view(within) if min(within.shape) >= LEAST_INSIDE else 0
    seen: dict[str, np.ndarray] = statistics(views, samples, inner)
    unseen = np.array([problem is not None for problem in facts["problem"]])
    if unseen.any():
        seen = {
            name: np.ma.masked_array(
                values, np.broadcast_to(unseen.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
            )
            for name, values in seen.items()
        }
    return images, facts | seen
