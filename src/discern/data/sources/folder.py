"""Folders: one sub-folder per class, below train/ [val/] test/ or directly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import polars as pl

from discern.data.reading import file_status
from discern.data.sources.listing import NAMED_ROWS, SPLIT_WORDS, Listing, listing_of
from discern.errors import DataError, UsageError

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


ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def accepts(path: Path) -> bool:
    """Every folder; it is the last source asked."""
    if path.is_dir():
        return True
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        raise UsageError(f"{path} is packed: unpack it and name the folder or .tar file that comes out.")
    raise UsageError(
        f"{path} is a single file: name a folder with one sub-folder per class, a .parquet file, a list of images "
        "(.csv, .tsv, .jsonl), or WebDataset shards (.tar)."
    )


def listing(root: Path) -> Listing:
    """The images below the class folders; classes are sorted by name."""
    splits = split_folders(root)
    rows = [
        _row(root, file, label, split)
        for split, folder in splits
        for label, class_folder in sub_folders(folder)
        for file in _names_below(class_folder)
    ]
    if not rows:
        raise DataError(_nothing_found(root))
    named = pl.DataFrame(rows, NAMED_ROWS, orient="row")
    loose = sorted({image for folder in (root, *(f for _, f in splits)) for image in _images_in(folder)})
    return listing_of(root, named, classes=sorted(named["label"].unique()), warnings=_say_loose(root, loose))


def split_folders(root: Path) -> list[tuple[str | None, Path]]:
    """The folders above the class folders with the split each stands for; the root itself when there is none.

    A folder named train/ beside class folders is a class (trains, beside buses): it takes train/ alone, or with
    another split and no other folder with images, to make a split layout.
    """
    known = [(SPLIT_WORDS[name.lower()], f) for name, f in sub_folders(root) if name.lower() in SPLIT_WORDS]
    names = [split for split, _ in known]
    others = [f for name, f in sub_folders(root) if name.lower() not in SPLIT_WORDS]
    if names == ["train"] and not others:
        return list(known)
    if "train" not in names or len(set(names)) < 2:
        _refuse_half_layout(root, known)
        _refuse_split_siblings(root)
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
    classes = {name for name, _ in sub_folders(root)}
    for split, folder in known:
        if classes & {name for name, _ in sub_folders(folder)}:
            raise DataError(
                f"{root} has {folder.name}/ beside the class folders it repeats: move the classes into "
                f"{root}/train/, or move {folder.name}/ elsewhere and give it as --{split}."
            )


def _refuse_split_siblings(root: Path) -> None:
    """dataset/ beside dataset_testing/ with the same class folders in both are two splits and no classes."""
    folders = dict(sub_folders(root))
    for name, folder in folders.items():
        parts = re.fullmatch(rf"(.+?)[-_. ]?({'|'.join(SPLIT_WORDS)})", name, re.IGNORECASE)
        split = SPLIT_WORDS[parts[2].lower()] if parts else "train"
        if parts is None or split == "train":
            continue
        classes = {name for name, _ in sub_folders(folder)}
        main = next(
            (f for f in _training_siblings(folders, parts[1]) if classes & {n for n, _ in sub_folders(f)}), None
        )
        if main is not None:
            raise DataError(
                f"{root} holds {main.name}/ and {name}/ with the same class folders in both: name them one by one, "
                f"{main} and --{split} {folder}."
            )


def _training_siblings(folders: dict[str, Path], stem: str) -> list[Path]:
    """What the training images beside stem_test/ would lie in: stem/, stem_train/ or stem-training/."""
    wanted = re.compile(rf"{re.escape(stem)}([-_. ]?train(ing)?)?", re.IGNORECASE)
    return [folder for name, folder in folders.items() if wanted.fullmatch(name)]


def sub_folders(folder: Path) -> list[tuple[str, Path]]:
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
    return map(Path, _names_below(folder))


def _names_below(folder: Path) -> Iterator[str]:
    """The same as whole paths: of a hundred thousand files, Path objects take longer than finding them."""
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
                yield os.path.join(current, name)


def _identity(folder: str | Path) -> tuple[int, int]:
    """Device and inode: the same for every path to one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _images_in(folder: Path) -> list[Path]:
    """Visible image files directly in a folder, as those in sub_folders are no one's."""
    return [e for e in folder.iterdir() if _visible(e.name) and e.suffix.lower() in IMAGE_SUFFIXES and not e.is_dir()]


def _say_loose(root: Path, loose: list[Path]) -> list[str]:
    if not loose:
        return []
    number = "1 image lies" if len(loose) == 1 else f"{len(loose)} images lie"
    return [
        f"warning: {number} beside the class folders of {root}, such as {loose[0].relative_to(root)}: being in no "
        "class they are left out; move each into the folder of its class."
    ]


def _row(root: Path, file: str, label: str, split: str | None) -> tuple[object, ...]:
    name = file[len(str(root)) :].lstrip("/")
    try:
        name.encode()
    except UnicodeEncodeError as error:  # Python's stand-ins for bytes that are not UTF-8
        raise DataError(f"The name {os.fsencode(name)!r} in {root} is not valid UTF-8; rename it.") from error
    return (
        name,
        name,
        None,
        label,
        split,
        *file_status(file),
    )  # of a broken link zeros: the scan says what is wrong with it


def _nothing_found(root: Path) -> str:
    loose = next(images_below(root), None)
    if loose is not None:
        return f"The images lie directly in {loose.parent}: put the images of each class into a sub-folder of its own."
    return (
        f"No images in {root}: expected one sub-folder per class with files such as "
        "photo.jpg or photo.png (hidden files are skipped)."
    )
