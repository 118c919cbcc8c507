"""The pictures that are measured on: real ones below $DISCERN_DATA, written out as files that every tool can read."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from discern.data.audit.injection import Injection, inject
from discern.data.dataset import SPLITS, Dataset
from discern.data.reading import portions
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.steps.audit import size_for


def data() -> Path:
    """$DISCERN_DATA; leaves with a sentence where it is not set."""
    if "DISCERN_DATA" not in os.environ:
        sys.exit("DISCERN_DATA is not set: name the folder with tools/ and cifar10/.")
    return Path(os.environ["DISCERN_DATA"])


def tools() -> Dataset:
    """1,765 photos of axes, books and hammers, with the faults they were published with."""
    return open_dataset(data() / "tools" / "dataset", test=data() / "tools" / "dataset_testing")


def cifar() -> Dataset:
    """CIFAR-10 (JPEG), 60,000 pictures of 32 x 32."""
    return open_dataset(data() / "cifar10")


SETS = {"tools": tools, "cifar10": cifar}


def some(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """That many of the images, at random, in table order; all of them when there are no more."""
    chosen = np.random.default_rng(seed).choice(len(dataset), min(count, len(dataset)), replace=False)
    return dataset.with_rows(np.sort(chosen))


@dataclass(frozen=True, kw_only=True)
class Photos:
    """A folder train|test/<class>/<number>.jpg with known copies in it."""

    root: Path
    """Everything below it is an image."""
    count: int
    """Images, copies included."""
    truth: pl.DataFrame
    """A row per copy: image and source (names below root), kind (exact_duplicate, near_duplicate), detail (edit)."""


def with_copies(dataset: Dataset, root: Path, *, exact: float, near: float, seed: int = 0) -> Photos:
    """Write all images below `root`, and exact and edited copies of these shares of them."""
    scanned, _ = scan(dataset, size=size_for(dataset), fit="pad", cache=root.parent / "cache")
    injection = Injection(exact=exact, near=near, flipped=0, faults=0, seed=seed)
    injected = inject(scanned, injection, root.parent / "edited")
    truth = injected.truth.filter(pl.col("kind").is_in(["exact_duplicate", "near_duplicate"]))
    # The smallest injection of faults and wrong labels is three of each: spoilt pictures are left out here, and in
    # which class folder a picture lies is no matter.
    spoilt = set(injected.truth.filter(pl.col("source") != "")["image"]) - set(truth["image"])
    wanted = injected.dataset.filter(~pl.col("image").is_in(list(spoilt)))
    names = written(wanted, root)
    os.sync()  # or the first tool would share the disk with what is written here
    return Photos(
        root=root,
        count=len(wanted),
        truth=truth.with_columns(pl.col("image", "source").replace_strict(names)),
    )


def written(dataset: Dataset, root: Path) -> dict[str, str]:
    """Write every image byte for byte; its new name by its old one. All of these sets are JPEG."""
    splits, labels, names = dataset.table["split"], dataset.labels, {}
    for split in SPLITS:
        for label in dataset.classes:
            (root / split / label).mkdir(parents=True, exist_ok=True)
    for row, content in contents(dataset):
        name = f"{splits[row] or 'train'}/{dataset.classes[labels[row]]}/{row:06d}.jpg"
        (root / name).write_bytes(content)
        names[dataset.table["image"][row]] = name
    for empty in [place for split in SPLITS for place in (root / split, *(root / split).iterdir())][::-1]:
        if not any(empty.iterdir()):
            empty.rmdir()
    return names


def warm_up(photos: Path, root: Path, each: int) -> Path:
    """Copies of the first training images of every class, for tools to get warm on."""
    for folder in (photos / "train").iterdir():
        (root / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:each]:
            shutil.copy(file, root / folder.name)
    return root


def contents(dataset: Dataset) -> Iterator[tuple[int, bytes]]:
    """(Row, bytes of the file) of every image."""
    for portion in portions(dataset):
        for row, content in zip(portion.rows, portion.fetch(), strict=True):
            if isinstance(content, OSError):
                raise content
            yield row, content


def small_photos(root: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files of CIFAR-10: all of its pictures, then mirrored crops of 24 x 24 at a random place.

    A crop of that size is another picture and no near copy.
    """
    dataset, random = cifar(), np.random.default_rng(seed)
    for label in dataset.classes:
        (root / label).mkdir(parents=True, exist_ok=True)
    labels, further = dataset.labels, max(0, count - len(dataset))
    cut = set(random.permutation(len(dataset))[:further].tolist())
    for row, content in contents(dataset):
        folder = root / dataset.classes[labels[row]]
        if row < count:
            (folder / f"{row:06d}.jpg").write_bytes(content)
        if row in cut:
            with Image.open(io.BytesIO(content)) as picture:
                left, top = random.integers(0, 9, 2).tolist()
                part = picture.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                part = part.crop((left, top, left + 24, top + 24)).resize((32, 32), Image.Resampling.BICUBIC)
            part.save(folder / f"{row:06d}-part.jpg", quality=90)
    os.sync()
