"""Copies: a planned Dataset written out as folders of images, whole or not at all, each file traceable to its source.

Without a size the originals are copied byte for byte, and varied copies are JPEG of quality 95 without chroma
subsampling. With one, every file is PNG: its pixels are exactly those that a training of that size makes of the
source, and no difference between the files of two classes tells which class had to be filled up with copies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import simplejpeg

from discern.data.curation.curate import Plan
from discern.data.curation.offline import Mask, Rgb, copies
from discern.data.decode import Fit, decode, fitted_shape
from discern.data.reading import portions
from discern.data.sources.folder import IMAGE_SUFFIXES
from discern.errors import DataError, UsageError, storing
from discern.progress import Progress

OUTPUTS: dict[str, Any] = {
    "image": pl.String,  # the file, relative to the copy's root
    "source": pl.String,  # the image it comes from, by its name in the source
    "source_digest": pl.String,  # BLAKE2b-128 of the source's bytes, hexadecimal
    "split": pl.String,  # train, val, test
    "label": pl.String,  # class name
    "copy": pl.Int32,  # 0 for the image itself, from 1 for varied copies
    "operations": pl.String,  # what was done to it, in order, with every parameter; empty for the same bytes
    "seed": pl.Int64,  # that the operations were drawn with
}
"""Columns of the table of outputs."""

LARGEST = 4096
"""Pixels of the longer side of varied copies where no size is asked for: a copy needs no more, memory would."""

_QUALITY = 95

_WAITING = 8
"""Images per worker that are read ahead: enough that none waits for the disk."""

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}
"""Endings for images that are rows of a table, where the format's own name is not one."""


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder`; it becomes `folder` when the block ends well, and is removed when not.

    Raises UsageError when `folder` exists and is not an empty folder, StorageError when the disk refuses.
    """
    with storing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} exists and is not an empty folder: give a new one, or empty it first.")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with storing(folder):
            os.replace(temporary, folder)  # an empty folder in its place is replaced as well
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One source image and the files made of it."""

    row: dict[str, Any]
    """image, digest, width, height of the source; split and label of the outputs."""
    file: str
    """Where the image itself goes, without its ending."""
    suffix: str
    """The ending of a file that keeps its bytes."""
    copies: tuple[str, ...]
    """Where its varied copies go, without their endings."""


def write_copy(plan: Plan, folder: Path, *, size: int | None, fit: Fit, seed: int, progress: Progress) -> pl.DataFrame:
    """Write the planned images and their varied copies below an empty folder: train/, val/, test/ with the classes.

    The table of OUTPUTS. Raises DataError when a source changes meanwhile or a class name cannot be a folder's,
    StorageError when the disk refuses.
    """
    jobs = _jobs(plan)
    for parent in {Path(job.file).parent for job in jobs}:
        with storing(folder):
            (folder / parent).mkdir(parents=True)
    stop = threading.Event()

    def work(job: _Job, data: bytes | OSError) -> list[dict[str, Any]]:
        if isinstance(data, OSError) or hashlib.blake2b(data, digest_size=16).hexdigest() != job.row["digest"]:
            raise DataError(f"{job.row['image']} in {plan.dataset.root} changed meanwhile; run the command again.")
        return _written(job, data, folder, size, fit, seed, stop)

    outputs: dict[int, list[dict[str, Any]]] = {}
    cv2.setNumThreads(1)  # parallel over images, not inside one
    workers = os.cpu_count() or 1
    total = len(jobs) + int(plan.copies.sum())
    with ThreadPoolExecutor(workers) as pool, progress.track("Writing images", total) as advance:
        running: dict[Future[list[dict[str, Any]]], int] = {}

        def collect(most: int) -> None:
            """Take what is done until `most` images are waiting or in work."""
            while len(running) > most:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outputs[running.pop(future)] = made = future.result()
                    advance(len(made), "")

        try:
            for portion in portions(plan.dataset):
                for position, data in zip(portion.rows, portion.fetch(), strict=True):
                    running[pool.submit(work, jobs[position], data)] = position
                collect(_WAITING * workers)
            collect(0)
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise
    return pl.DataFrame([output for position in sorted(outputs) for output in outputs[position]], OUTPUTS)


def _jobs(plan: Plan) -> list[_Job]:
    """One for each planned image, named so that the source can be recognised and no two files share a name."""
    dataset, folders = plan.dataset, class_folders(plan.dataset.classes)
    columns = ("image", "file", "row", "digest", "width", "height", "format", "split", "label")
    rows = dataset.table.select(columns).to_dicts()
    taken: set[str] = set()
    files = []
    for row in rows:
        inside = row["image"].rpartition("#")[2]  # of a file of many images: a row's number or a member's name
        stem = Path(row["file"]).stem if row["row"] is None else f"{Path(row['file']).stem}-{Path(inside).stem}"
        files.append(_free(f"{row['split']}/{folders[row['label']]}/", stem.lstrip(".") or "image", taken))
    jobs = []
    for row, file, count in zip(rows, files, plan.copies, strict=True):
        folder, _, stem = file.rpartition("/")
        varied = tuple(_free(f"{folder}/", f"{stem}-aug{number}", taken) for number in range(1, count + 1))
        row["label"] = dataset.classes[row["label"]]
        jobs.append(_Job(row=row, file=file, suffix=_suffix(row), copies=varied))
    return jobs


def _free(folder: str, stem: str, taken: set[str]) -> str:
    """The name, or the next with a number; names that differ in case alone are one name on some disks."""
    name, number = stem, 1
    while (folder + name).casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add((folder + name).casefold())
    return folder + name


def _suffix(row: dict[str, Any]) -> str:
    own = Path(row["file"]).suffix
    if row["row"] is None and own.lower() in IMAGE_SUFFIXES:
        return own
    suffix = _SUFFIXES.get(row["format"], f".{row['format'].lower()}")
    return suffix if suffix in IMAGE_SUFFIXES else ".png"  # what is inside is read by its content anyway


def class_folders(classes: Sequence[str]) -> list[str]:
    """A folder name for each class: its name, with a dash for letters that folders cannot have.

    Raises DataError when two classes would share a folder or one would be hidden.
    """
    folders = [re.sub(r"[/\\\0]", "-", name).strip() for name in classes]
    seen: dict[str, str] = {}
    for name, folder in zip(classes, folders, strict=True):
        if folder.startswith((".", "__MACOSX")) or not folder:
            raise DataError(f"The class name '{name}' cannot be a folder's; give the class another name.")
        if (other := seen.setdefault(folder.casefold(), name)) != name:
            raise DataError(f"The classes '{other}' and '{name}' would share a folder; rename or merge them.")
    return folders


def _written(
    job: _Job, data: bytes, folder: Path, size: int | None, fit: Fit, seed: int, stop: threading.Event
) -> list[dict[str, Any]]:
    """Write the files of one source until told to stop; their rows in the table of outputs."""
    row = job.row
    base = {"source": row["image"], "source_digest": row["digest"], "split": row["split"], "label": row["label"]}
    fitted = f"{fit} {size}" if size else ""
    suffix = ".png" if size else job.suffix
    made = [base | {"image": job.file + suffix, "copy": 0, "operations": fitted, "seed": seed}]
    if size or job.copies:
        picture, inside = fitted_picture(data, row["width"], row["height"], size=size, fit=fit)
    _save(folder / made[0]["image"], encoded(picture, lossless=True) if size else data)
    if not job.copies:
        return made
    key = int(row["digest"][:16], 16)
    varied = copies(picture, inside, len(job.copies), seed=seed, key=key)
    for number, (file, (copy, operations)) in enumerate(zip(job.copies, varied, strict=True), start=1):
        if stop.is_set():
            break
        name = file + (".png" if size else ".jpg")
        _save(folder / name, encoded(copy, lossless=size is not None))
        done = "; ".join((*([fitted] if fitted else []), *map(str, operations)))
        made.append(base | {"image": name, "copy": number, "operations": done, "seed": seed})
    return made


def fitted_picture(data: bytes, width: int, height: int, *, size: int | None, fit: Fit) -> tuple[Rgb, Mask]:
    """The picture that copies are made of, and where on it the photo is (255) and where padding (0).

    With a size, the square a model of that size sees; without, the whole picture in its own shape, LARGEST at most.
    `width` and `height` are the source's.
    """
    side = size or min(max(width, height), LARGEST)
    square = decode(data, size=side, fit=fit if size else "pad").image
    if size and fit != "pad":
        return square, np.full((side, side), 255, np.uint8)
    inner_width, inner_height = fitted_shape(width, height, side, "pad")
    top, left = (side - inner_height) // 2, (side - inner_width) // 2
    inside = np.zeros((side, side), np.uint8)
    inside[top : top + inner_height, left : left + inner_width] = 255
    if size:
        return square, inside
    window = (slice(top, top + inner_height), slice(left, left + inner_width))
    return np.ascontiguousarray(square[window]), np.ascontiguousarray(inside[window])


def encoded(picture: Rgb, *, lossless: bool) -> bytes:
    """A picture as the bytes of a PNG or JPEG file."""
    if lossless:
        return bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
    return bytes(simplejpeg.encode_jpeg(picture, quality=_QUALITY, colorsubsampling="444"))


def _save(path: Path, data: bytes) -> None:
    with storing(path):
        path.write_bytes(data)
