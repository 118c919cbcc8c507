"""Streaming: images decoded anew whenever they are asked for, for data whose Pixels would be larger than the disk.

They come portion by portion from the files that hold them (reading.py): a row group of Parquet, a run of a tar
archive, some files. An epoch is shuffled three times over, so that order needs no random access:

1. the portions, all of them;
2. the images inside each portion;
3. each image then waits for a random while, at most until the next `reach` images have been read. What waits
   is the buffer; images of portions that were read one after the other are mixed in it.

All three are drawn by (seed, epoch), so the whole order is known before anything is read. Threads, which read and
decode a little ahead, do not change it, and what was given out before is left out without being decoded. In memory
are the buffer, the pieces being decoded and the encoded images of a few portions, whatever the size of the data
(row groups of a thousand images are therefore better than one of a million), and 200 bytes an image to know its place.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, TypeVar

import cv2
import numpy as np
import polars as pl
from jaxtyping import Float, Int

from discern.data import keyed
from discern.data.dataset import Dataset
from discern.data.decode import Fit, decode
from discern.data.pixels import CHUNK, Images, Pixels, channel_statistics
from discern.data.reading import Portion, Read, portions
from discern.data.scan import scan, store_of
from discern.errors import DataError, StorageError, UnreadableImage, storing
from discern.progress import Progress

Kept = Literal["disk", "stream"]
"""Where decoded images are: 'disk' decodes each once and keeps it, 'stream' keeps none."""

SMALL = 32
"""Side of the Pixels that are kept beside a Stream, to confirm near duplicates on. On 830 photos, half of them edited
copies of the others, 410 pairs were found at 32 pixels, 410 at 64 and 408 at 128; all were true."""

SAMPLE = 2_000
"""Images whose mean and deviation stand for all: of photos, both are then known to about a hundredth."""

_PIECE = 32  # images decoded by one thread at a time
_READERS = 4  # threads that wait for disk or network

Rows = Int[np.ndarray, " image"]
Done = TypeVar("Done")


def images_of(
    dataset: Dataset, *, size: int, fit: Fit, kept: Kept, progress: Progress
) -> tuple[Dataset, Pixels | Stream, Pixels]:
    """Scan the images: the Dataset with its FACTS, its images at `size`, and Pixels to compare them by."""
    scanned, pixels = scan(dataset, size=size if kept == "disk" else SMALL, fit=fit, progress=progress)
    return scanned, pixels if kept == "disk" else Stream(dataset=scanned, size=size, fit=fit), pixels


def refuse_small_disk(dataset: Dataset, *, size: int, fit: Fit) -> None:
    """Raise StorageError when there is no room in the cache for the Pixels of this Dataset at `size`."""
    folder = store_of(dataset, size=size, fit=fit).folder
    with storing(folder):
        pixels = folder / "pixels.u8"
        needed = len(dataset) * 3 * size**2 - (pixels.stat().st_size if pixels.exists() else 0)
        free = shutil.disk_usage(next(place for place in folder.parents if place.exists())).free
    if needed > free:
        raise StorageError(
            f"The {len(dataset):,} images at {size} pixels need {needed / 1e6:,.0f} MB in {folder}, where "
            f"{free / 1e6:,.0f} MB are free: `--set pixels=stream` keeps none and decodes them anew every epoch, or "
            "let DISCERN_CACHE name a folder on a larger disk."
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Images fitted to one square size as Pixels are, addressed by the same `index`, but not kept."""

    dataset: Dataset
    """Whose they are; scanned."""
    size: int
    """Side of the square, pixels."""
    fit: Fit
    """How a picture becomes a square."""
    memory: int = 1 << 29
    """Bytes of decoded images that wait to be shuffled, on average; 3,566 images of 224 pixels. Part of what
    determines the order, therefore the same on every machine."""

    @property
    def reach(self) -> int:
        """Images that are read at most while one waits; half as many wait on average."""
        return 2 * self.memory // (3 * self.size**2)

    def in_order(self, index: Rows, count: int) -> Iterator[Images]:
        """The images at `index` in that order, `count` at a time; quick where it is the order in the files."""
        dataset = self._images(index)
        line = _Line.through(_portions_in_order(dataset))
        for _, images in self._given(dataset, line, np.arange(len(dataset)), count):
            yield images

    def shuffled(
        self, index: Rows, count: int, *, seed: int, epoch: int, first: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Rows, Images]]:
        """One epoch of the images at `index`, `count` at a time: their places in `index`, and the images.

        Begins with batch `first`, counted from zero. Of `world` processes the one numbered `rank` gets its share: all
        together get each image once, none more than one image more than another.
        """
        dataset = self._images(index)
        share = slice(len(dataset) * rank // world, len(dataset) * (rank + 1) // world)
        line, order = self._drawn(dataset, seed, epoch, first * count, share)
        yield from self._given(dataset, line, order, count)

    def statistics(self, index: Rows) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, 3]]:
        """Mean and standard deviation per channel in [0, 1] of SAMPLE of the images, spread evenly over `index`."""
        some = np.linspace(0, len(index) - 1, min(len(index), SAMPLE)).astype(np.int64)
        return channel_statistics(self.in_order(index[some], CHUNK))

    def _images(self, index: Rows) -> Dataset:
        row = np.zeros(self.dataset.index.max() + 1, np.int64)
        row[self.dataset.index] = np.arange(len(self.dataset))
        return replace(self.dataset, table=self.dataset.table.select("image", "file", "row", "bytes")[row[index]])

    def _drawn(self, dataset: Dataset, seed: int, epoch: int, begin: int, share: slice) -> tuple[_Line, Rows]:
        """The images of a share of an epoch as they are read, and their places there in the order to be given."""
        line = _Line.through(portions(dataset))
        draws = keyed.uniform(seed, epoch, np.arange(len(dataset), dtype=np.uint64), 3)
        turn = np.lexsort((draws[:, 0], draws[line.portion, 1]))[share]
        order = np.argsort(np.arange(len(turn)) + draws[turn, 2] * self.reach, kind="stable")[begin:]
        wanted = np.sort(order)
        return line.only(turn[wanted]), np.searchsorted(wanted, order)

    def _given(self, dataset: Dataset, line: _Line, order: Rows, count: int) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of the places in the line that `order` names, each place once."""
        start = np.arange(0, len(order), count)
        reached = np.maximum.accumulate(order)[np.minimum(start + count, len(order)) - 1]
        space = int((reached - start).max(initial=0)) + 1 + _PIECE
        waiting = np.empty((space, self.size, self.size, 3), np.uint8)
        free, slots, read = list(range(space)), np.empty(len(order), np.int64), 0
        with closing(self._decoded(dataset, line)) as pieces:
            for at, last in zip(start.tolist(), reached.tolist(), strict=True):
                while read <= last:
                    images = next(pieces)
                    slots[read : read + len(images)] = taken = [free.pop() for _ in images]
                    waiting[taken] = images
                    read += len(images)
                places = order[at : at + count]
                free += slots[places].tolist()
                yield line.row[places], waiting[slots[places]]

    def _decoded(self, dataset: Dataset, line: _Line) -> Generator[Images, None, None]:
        """The images in the order of the line, a piece at a time, read and decoded in threads a little ahead."""
        workers = os.cpu_count() or 1
        ahead = 2 * workers * _PIECE
        cv2.setNumThreads(1)  # parallel over images, not inside one
        runs = line.runs()
        fetching = ((run.stop - run.start, line.portions[line.portion[run.start]].fetch) for run in runs)
        with (
            warnings.catch_warnings(),
            ThreadPoolExecutor(_READERS) as readers,
            ThreadPoolExecutor(workers) as decoders,
        ):
            warnings.filterwarnings("ignore", module="PIL")  # decode does so too, but threads undo each other's
            decoding = (
                (stop - start, partial(self._piece, dataset, fetched, line.offset[start:stop], line.row[start:stop]))
                for run, fetched in zip(runs, _ahead(readers, fetching, ahead), strict=True)
                for start, stop in ((at, min(at + _PIECE, run.stop)) for at in range(run.start, run.stop, _PIECE))
            )
            for piece in _ahead(decoders, decoding, ahead):
                yield piece.result()

    def _piece(self, dataset: Dataset, fetched: Future[Read], offset: Rows, rows: Rows) -> Images:
        """The images at `offset` of what was fetched; raises DataError for one that cannot be decoded any more."""
        data = fetched.result()
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for at, content in enumerate(data[place] for place in offset.tolist()):
            try:
                if isinstance(content, OSError):
                    raise UnreadableImage(content.strerror or str(content))
                images[at] = decode(content, size=self.size, fit=self.fit).image
            except UnreadableImage as error:
                name = dataset.table["image"][int(rows[at])]
                raise DataError(f"{name} in {dataset.root} was readable before: {error}; put it back.") from error
        return images


@dataclass(frozen=True, kw_only=True)
class _Line:
    """Images in the order in which they are read."""

    portions: Sequence[Portion]
    """Those that hold them."""
    portion: Rows
    """Of each image, which of them holds it."""
    offset: Rows
    """Of each image, its place there."""
    row: Rows
    """Of each image, its row in the Dataset."""

    @classmethod
    def through(cls, parts: Sequence[Portion]) -> _Line:
        """All images, portion after portion."""
        lengths = np.array([len(part.rows) for part in parts], np.int64)
        portion = np.repeat(np.arange(len(parts)), lengths)
        offset = np.arange(len(portion)) - (np.cumsum(lengths) - lengths)[portion]
        row = np.array([row for part in parts for row in part.rows], np.int64)
        return cls(portions=parts, portion=portion, offset=offset, row=row)

    def only(self, places: Rows) -> _Line:
        """The images at these places, in that order."""
        return replace(self, portion=self.portion[places], offset=self.offset[places], row=self.row[places])

    def runs(self) -> list[slice]:
        """Places one after the other that one portion holds."""
        starts = np.flatnonzero(np.diff(self.portion, prepend=-1)).tolist()
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(self.portion)], strict=True)]


def _portions_in_order(dataset: Dataset) -> list[Portion]:
    """Portions that, one after the other, hold the images in the order of the table."""
    row, file = pl.col("row"), pl.col("file")
    plain = row.is_null() & row.shift().is_null()
    together = plain | ((file == file.shift()) & (row > row.shift())).fill_null(False)
    cuts = np.flatnonzero(~dataset.table.select(together.alias("together"))["together"].to_numpy()[1:]) + 1
    edges = [0, *cuts.tolist(), len(dataset)]
    return [
        Portion(rows=[start + row for row in portion.rows], fetch=portion.fetch)
        for start, stop in pairwise(edges)
        for portion in portions(replace(dataset, table=dataset.table[start:stop]))
    ]


def _ahead(
    pool: ThreadPoolExecutor, jobs: Iterable[tuple[int, Callable[[], Done]]], images: int
) -> Iterator[Future[Done]]:
    """Start the jobs, each for so many images, in turn: beyond the one that is taken, for `images` images or more."""
    started: deque[tuple[int, Future[Done]]] = deque()
    total = 0
    for count, job in jobs:
        started.append((count, pool.submit(job)))
        total += count
        while total - started[0][0] >= images:
            count, future = started.popleft()
            total -= count
            yield future
    yield from (future for _, future in started)
