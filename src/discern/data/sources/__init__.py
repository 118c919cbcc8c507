"""Where labelled images come from: each module lists one kind of place, `open_dataset` chooses the module."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import polars as pl

from discern.data.dataset import SCHEMA, Dataset
from discern.data.journal import applied, applied_from_above, read_journal
from discern.data.sources import binary, folder, huggingface, manifest, named, parquet, webdataset
from discern.data.sources.listing import Listing
from discern.data.split import grouped_by
from discern.errors import DataError, UnknownName, UsageError
from discern.progress import Logged, Progress

Data = Dataset | str | os.PathLike[str]
"""A Dataset, or the place of one."""


class Source(Protocol):
    """What each module here is."""

    def accepts(self, path: Path) -> bool:
        """Whether it is for this path."""
        ...

    def listing(self, path: Path) -> Listing:
        """The labelled images there."""
        ...


SOURCES: tuple[Source, ...] = (manifest, huggingface, parquet, webdataset, binary, folder)
"""In order of asking; the first that accepts a path lists it."""


def open_dataset(
    photos: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    group_by: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """List the labelled images at `photos`, with separate validation and test places where given.

    `group_by` is a column of a manifest, or else a regular expression for image names: images for which it gives the
    same belong together.

    A place is a path, the name of a well-known set (it is downloaded), or a URL of WebDataset shards. No image is
    decoded. Raises UsageError when a place does not exist and DataError when there is nothing to learn from: no
    images, or fewer than two classes.
    """
    progress = progress or Logged()
    dataset = _decided(photos, progress, group_by)
    for name, place in (("val", val), ("test", test)):
        if place is not None:
            if Path(place).resolve() == Path(photos).resolve():
                raise UsageError(f"--{name} {place} is what is trained on itself; name other photos, or leave it out.")
            dataset = _join(dataset, _decided(place, progress, group_by), name)
    if len(dataset.classes) < 2:
        raise DataError(
            f"There is one class only ('{dataset.classes[0]}') in {photos}: a classifier needs at least two; "
            "put the images of each class into a sub-folder of its own."
        )
    return _grouped(dataset, group_by)


def listed(data: Data, *, group_by: str | None = None) -> Dataset:
    """The Dataset itself, or the one at that place; groups that it has already stay."""
    return _grouped(data, group_by) if isinstance(data, Dataset) else open_dataset(data, group_by=group_by)


def _grouped(dataset: Dataset, group_by: str | None) -> Dataset:
    has_groups = dataset.table["group"].null_count() < len(dataset)
    return dataset if group_by is None or has_groups else grouped_by(dataset, group_by)


def as_listed(place: str | os.PathLike[str], progress: Progress, *, group_by: str | None = None) -> Dataset:
    """The images of one place as they lie there, before anybody's decisions about them."""
    found = found_at(place, progress)
    listing = webdataset.listing_at(found) if isinstance(found, str) else _listing(found, group_by)
    for sentence in listing.warnings:
        progress.say(sentence)
    table = listing.table
    missing = [pl.lit(None).alias(name) for name in SCHEMA if name not in table.columns and name != "index"]
    table = table.with_columns(*missing).with_row_index("index").cast(pl.Schema(SCHEMA)).select(list(SCHEMA))
    return Dataset(root=listing.root, classes=listing.classes, table=table)


def found_at(place: str | os.PathLike[str], progress: Progress) -> Path | str:
    """The path on disk that is meant, or the address of WebDataset shards.

    A path that exists goes before a set of that name, which is downloaded unless it was before. Raises UsageError when
    there is nothing.
    """
    text = os.fspath(place).removeprefix("file://")
    path, name = Path(text), named.set_called(text)
    if path.exists():
        if name is not None:
            progress.say(f"{text} is taken for {path.resolve()}, which exists, and not for the set of that name.")
        return path.resolve()
    if webdataset.names_shards(text):
        return text
    if name is not None:
        return named.fetch(name, progress).resolve()
    raise UsageError(_no_such_place(text))


def _listing(path: Path, group_by: str | None) -> Listing:
    try:
        if path.is_dir():
            os.listdir(path)  # or the first source that asks for a file in it would name that file
        source = next(source for source in SOURCES if source.accepts(path))
        if group_by is not None and source is manifest and _is_column(group_by, path):
            return manifest.listing(path, group=group_by)
        return source.listing(path)
    except PermissionError as error:
        kind = "the folder " if error.filename == str(path) and path.is_dir() else ""
        raise UsageError(f"No permission to read {kind}{error.filename}; change its permissions.") from error


def _is_column(group_by: str, path: Path) -> bool:
    """Whether the manifest has this column. Raises UnknownName for what is almost one, and so no pattern."""
    columns = manifest.column_names(path)
    if group_by not in columns and difflib.get_close_matches(group_by, columns, cutoff=0.8):
        raise UnknownName("column", group_by, columns, place=str(path))
    return group_by in columns


def _decided(place: str | os.PathLike[str], progress: Progress, group_by: str | None) -> Dataset:
    """The images of one place as people decided about them; the journal of a downloaded set is in the cache."""
    found = found_at(place, progress)
    decided = applied(as_listed(found, progress, group_by=group_by), read_journal(found, progress), progress)
    return applied_from_above(decided, found)


def _no_such_place(text: str) -> str:
    if "://" in text:
        return f"{text} is not read: of what is behind a URL only WebDataset shards (.tar) are; download it first."
    near = named.nearest(text)
    return f"No such file or folder: {text}; check the path{f', or did you mean the set {near!r}?' if near else '.'}"


def _join(data: Dataset, part: Dataset, split: str) -> Dataset:
    """`data` with all of `part` as its split `split`; classes matched by name."""
    if split in data.split_counts():
        raise UsageError(
            f"{data.root} already has a split '{split}': leave out --{split} {part.root}, or name the folder above "
            "the classes to train on."
        )
    part = part.with_classes(data.classes)
    root = Path(os.path.commonpath([data.root, part.root]))
    joined = pl.concat(
        [
            _rebase(data, root),
            _rebase(part, root).with_columns(pl.lit(split).alias("split"), index=pl.col("index") + len(data)),
        ]
    )
    # What is not the given split is for training, unless it already says otherwise.
    return replace(data, root=root, table=joined.with_columns(pl.col("split").fill_null("train")))


def _rebase(data: Dataset, root: Path) -> pl.DataFrame:
    """The table with `image` and `file` relative to `root`, a folder above the present root."""
    prefix = data.root.relative_to(root).as_posix()
    if prefix == ".":
        return data.table
    return data.table.with_columns(
        (pl.lit(f"{prefix}/") + pl.col("image")).alias("image"),
        (pl.lit(f"{prefix}/") + pl.col("file")).alias("file"),
    )
