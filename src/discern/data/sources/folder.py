"""Folders: one sub-folder per class, below train/ [val/] test/ or directly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import polars as pl

from discern.data.dataset import LISTING
from discern.errors import DataError, UsageError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".jxl",
        ".heic",
        ".heif",
        ".avif",
        ".ico",
        ".tga",
    ]
)
"""Files by these names are taken for images, whatever is inside; all others are left alone."""


def accepts(path: Path) -> bool:
    """Every folder; it is the last source asked."""
    if not path.is_dir():
        raise UsageError(f"{path} is a single file: name a folder with one sub-folder per class, or a .parquet file.")
    return True


def listing(root: Path) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rows of LISTING and the sorted class names."""
    splits = split_folders(root)
    rows = [
        (label, split, file)
        for split, folder in splits
        for label, class_folder in _sub_folders(folder)
        for file in images_below(class_folder)
    ]
    if not rows:
        raise DataError(_nothing_found(root))
    classes = sorted({label for label, _, _ in rows})
    index = {name: k for k, name in enumerate(classes)}
    listed = [_row(root, file, index[label], split) for label, split, file in rows]
    return pl.DataFrame(listed, LISTING, orient="row"), tuple(classes)


def split_folders(root: Path) -> list[tuple[str | None, Path]]:
    """The folders above the class folders with the split each stands for; the root itself when there is none.

    A folder named train/ beside class folders is a class (trains, beside buses): it takes train/ alone, or with
    another split and no other folder with images, to make a split layout.
    """
    known = [(SPLIT_FOLDERS[name.lower()], f) for name, f in _sub_folders(root) if name.lower() in SPLIT_FOLDERS]
    names = [split for split, _ in known]
    others = [f for name, f in _sub_folders(root) if name.lower() not in SPLIT_FOLDERS]
    if names == ["train"] and not others:
        return list(known)
    if "train" not in names or len(set(names)) < 2:
        _refuse_half_layout(root, known)
        return [(None, root)]
    if len(set(names)) < len(names):
        raise DataError(
            f"{root} has two folders for one split ({', '.join(f.name for _, f in known)}): merge or rename one."
        )
    strange = [f for f in others if any(images_below(f))]
    if strange:
        raise DataError(
            f"{root} has folders of images beside {', '.join(f.name + '/' for _, f in known)}: "
            f"{', '.join(f.name + '/' for f in strange)}; move them away, or name the folder of classes itself."
        )
    return list(known)


def _refuse_half_layout(root: Path, known: list[tuple[str, Path]]) -> None:
    """A test/ with the class folders' own names inside, beside them, is a split and not one more class."""
    classes = {name for name, _ in _sub_folders(root)}
    for split, folder in known:
        if classes & {name for name, _ in _sub_folders(folder)}:
            raise DataError(
                f"{root} has {folder.name}/ beside the class folders it repeats: move the classes into "
                f"{root}/train/, or move {folder.name}/ elsewhere and give it as --{split}."
            )


def _sub_folders(folder: Path) -> list[tuple[str, Path]]:
    """Visible sub-folders in order of their names."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        _refuse_unreadable(error)
    return [(e.name, e) for e in entries if _visible(e.name) and e.is_dir()]


def _refuse_unreadable(error: OSError) -> NoReturn:
    """A folder that cannot be listed stops everything: its images would be missing without a word."""
    if isinstance(error, PermissionError):
        raise UsageError(f"No permission to read the folder {error.filename}; change its permissions.") from error
    raise error


def _visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def images_below(folder: Path) -> Iterator[Path]:
    """Image files anywhere below, in a fixed order; no link to a folder above or to one seen already is followed."""
    seen = {_identity(parent) for parent in folder.parents}
    for current, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        identity = _identity(current)
        if identity in seen:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if _visible(name))
        for name in sorted(files):
            if _visible(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(current, name)


def _identity(folder: str | Path) -> tuple[int, int]:
    """Device and inode: the same for every path to one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _row(root: Path, file: Path, label: int, split: str | None) -> tuple[object, ...]:
    name = file.relative_to(root).as_posix()
    if any("\udc80" <= letter <= "\udcff" for letter in name):  # Python's stand-ins for bytes that are not UTF-8
        raise DataError(f"The name {os.fsencode(name)!r} in {root} is not valid UTF-8; rename it.")
    try:
        status = file.stat()
        return name, name, None, label, split, status.st_size, status.st_mtime_ns
    except OSError:  # a broken link: listed, so that the scan can say what is wrong with it
        return name, name, None, label, split, 0, 0


def _nothing_found(root: Path) -> str:
    loose = next(images_below(root), None)
    if loose is not None:
        return f"The images lie directly in {loose.parent}: put the images of each class into a sub-folder of its own."
    return (
        f"No images in {root}: expected one sub-folder per class with files such as "
        "photo.jpg or photo.png (hidden files are skipped)."
    )
