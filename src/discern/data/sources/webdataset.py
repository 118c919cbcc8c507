"""WebDataset: tar files of samples, each an image `key.jpg` with its label in `key.cls` or `key.json`.

The files, called shards, may also be remote: URLs that fsspec can open, `s3://bucket/train-{000..009}.tar`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from discern.data.reading import Place, located, opened, status
from discern.data.sources.folder import IMAGE_SUFFIXES, images_below, sub_folders
from discern.data.sources.listing import (
    LABEL_COLUMNS,
    Listing,
    listing_of,
    refuse_half_splits,
    rows_inside,
    split_files,
    split_of,
)
from discern.errors import DataError, DiscernError, UsageError
from discern.files import cache_folder, write_table

INDEX_VERSION = 1
"""Raised when `_samples` gives other rows for the same shard, so that old caches are not read."""

_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
"""A key and a field, parted at the first dot of the name: `a/0001.seg.png` is the field `seg.png` of `a/0001`."""

_ROWS = {"member": pl.String, "header": pl.Int64, "label": pl.String}


def accepts(path: Path) -> bool:
    """A .tar file, or a folder with such files in it or in train/ [val/] test/ and no folders of images."""
    if path.is_file():
        return path.suffix == ".tar"
    return bool(split_files(path, ".tar")) and not any(any(images_below(folder)) for _, folder in sub_folders(path))


def listing(path: Path) -> Listing:
    """The samples of all shards in their order; classes are sorted."""
    root = path if path.is_dir() else path.parent
    files = split_files(path, ".tar") if path.is_dir() else [(path, split_of(path.name))]
    refuse_half_splits(files)
    return _listing(root, [(file.relative_to(root).as_posix(), split) for file, split in files], str(path))


def names_shards(address: str) -> bool:
    """Whether a text that is no path on disk speaks of shards: a URL or a pattern that ends in .tar."""
    return address.endswith(".tar") and ("://" in address or re.search(r"[{*]", address) is not None)


def listing_at(address: str) -> Listing:
    """The same for shards named by a URL or path, with `{000..009}`, `{a,b}` or `*` in it for several.

    Raises UsageError when there are none, or a URL cannot be reached.
    """
    found = [file for one in _expanded(address) for file in (_remote(one) if "://" in one else _local(one))]
    if not found:
        raise UsageError(f"No such file: {address}; check the address.")
    root = Path("/")
    if "://" not in address:
        root = Path(os.path.commonpath([os.path.dirname(file) for file in found]))
        found = [os.path.relpath(file, root) for file in found]
    files = [(file, split_of(os.path.basename(file)) or split_of(Path(file).parent.name)) for file in found]
    refuse_half_splits(files)
    return _listing(root, files, address)


def _expanded(address: str) -> list[str]:
    """The addresses that `{000..009}` and `{a,b}` stand for, as in a shell."""
    braces = re.search(r"\{([^{}]*)\}", address)
    if braces is None:
        return [address]
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", braces[1]):
        first, last = numbers[1], numbers[2]
        words = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    else:
        words = braces[1].split(",")
    return [one for word in words for one in _expanded(address[: braces.start()] + word + address[braces.end() :])]


def _local(pattern: str) -> list[str]:
    path = os.path.abspath(pattern)
    return sorted(glob.glob(path.replace("[", "[[]"))) if "*" in pattern else [path]


def _remote(url: str) -> list[str]:
    if "*" not in url:
        return [url]
    with _reaching(url):
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
        return sorted(files.unstrip_protocol(file) for file in files.glob(path))


@contextmanager
def _reaching(place: Place) -> Iterator[None]:
    """Turn what goes wrong on the way to a file into one UsageError; the packages behind fsspec raise all kinds."""
    try:
        yield
    except (DiscernError, tarfile.TarError):
        raise
    except ImportError as error:  # it says which package to install
        raise UsageError(f"{place} cannot be opened yet: {error}, then try again.") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{place} cannot be opened ({reason}); check the address and your access to it.") from error


def _listing(root: Path, files: list[tuple[str, str | None]], place: str) -> Listing:
    """The samples of these shards, several read at a time, as remote ones keep one waiting."""
    with ThreadPoolExecutor() as pool:
        shards = list(pool.map(lambda file: _samples(located(root, file[0])), files))
    parts, left_out = [], []
    for (file, split), samples in zip(files, shards, strict=True):
        there = samples.filter(pl.col("header").is_not_null())
        left_out += [f"{file}#{key}" for key in samples.filter(pl.col("header").is_null())["member"]]
        columns = there["label"].to_list(), split
        parts.append(
            rows_inside(root, file, *columns, rows=there["header"].to_list(), names=there["member"].to_list())
        )
    named = pl.concat(parts)
    if named.is_empty():
        raise DataError(f"No images in {place}: expected samples such as 0001.jpg with 0001.cls or 0001.json.")
    warnings = []
    if left_out:
        samples_ = "1 sample holds" if len(left_out) == 1 else f"{len(left_out)} samples hold"
        warnings = [f"warning: {samples_} no image and count for nothing, such as {left_out[0]} in {place}."]
    return listing_of(root, named, warnings=warnings)


def _samples(place: Place) -> pl.DataFrame:
    """Member, byte at which its header begins, and label of every sample; kept in the cache while the shard stays.

    A sample without image has its key for a member and no header.
    """
    with _reaching(place):
        size, modified = status(place)
    version = f"{INDEX_VERSION}|{place}|{size}|{modified}"
    kept = cache_folder() / "shards" / f"{hashlib.blake2b(version.encode(), digest_size=12).hexdigest()}.parquet"
    if modified and kept.exists():
        return pl.read_parquet(kept)
    try:
        with _reaching(place), opened(place) as file, tarfile.open(fileobj=file, mode="r:") as shard:
            rows = [_row(key, fields, place) for key, fields in _fields(shard, place).items()]
    except tarfile.TarError as error:
        raise DataError(f"{place} cannot be read as a tar file ({error}); download or write it again.") from error
    table = pl.DataFrame(rows, _ROWS, orient="row")
    if modified:  # a server that does not tell is asked every time
        write_table(kept, table)
    return table


def _fields(shard: tarfile.TarFile, place: Place) -> dict[str, dict[str, Any]]:
    """For each key its fields: of an image the member and where its header is, of a label its bytes."""
    samples: dict[str, dict[str, Any]] = {}
    for member in shard:
        name = member.name.removeprefix("./")
        parted = _MEMBER.fullmatch(name)
        if parted is None or not member.isreg() or re.fullmatch(r"__.*__", parted[1]):
            continue
        key, field = parted[1], parted[2].lower()
        fields = samples.setdefault(key, {})
        if field in fields:
            raise DataError(f"{place} has two members '{name}'; write it again with one of them.")
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
            fields[field] = name, member.offset_data - tarfile.BLOCKSIZE  # the header with the size is just before
        elif field in ("cls", "json"):
            content = shard.extractfile(member)
            fields[field] = content.read() if content else b""
    return samples


def _row(key: str, fields: dict[str, Any], place: Place) -> tuple[str, int | None, str | None]:
    """Of a sample that is an image with its label; `seg.png` is one only where there is no `png`."""
    images = [value for field, value in fields.items() if field not in ("cls", "json")]
    plain = [value for field, value in fields.items() if field not in ("cls", "json") and "." not in field]
    if not images:
        return key, None, None
    if len(plain or images) > 1:
        names = " and ".join(name for name, _ in plain or images)
        raise DataError(
            f"The sample '{key}' of {place} has several images ({names}); write it again with one of them."
        )
    member, header = (plain or images)[0]
    label = _label(fields)
    if label is None:
        raise DataError(
            f"The image '{member}' in {place} has no label: expected '{key}.cls', or '{key}.json' with a label in it; "
            "an archive of class folders must be unpacked first."
        )
    return member, header, label


def _label(fields: dict[str, Any]) -> str | None:
    """What `cls` says, else what `json` says under a usual name; None when neither does."""
    try:
        if "cls" in fields:
            return fields["cls"].decode().strip() or None
        note = json.loads(fields.get("json", b"null"))
    except ValueError:  # neither text nor JSON
        return None
    value = next((note[name] for name in LABEL_COLUMNS if name in note), None) if isinstance(note, dict) else None
    return str(value).strip() or None if isinstance(value, str | int) else None
