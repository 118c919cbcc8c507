"""Split: who is in training, validation and test, written down as a manifest that every later step can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discern.data.dataset import Dataset
from discern.data.duplicates.gate import Passage, refuse_way, through_gate
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import Data, listed
from discern.data.split import SHARE, folds, refuse_missing_classes, with_splits
from discern.errors import UsageError
from discern.files import write_rows
from discern.progress import Logged, Progress
from discern.steps.audit import size_for

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Divided:
    """What `split` made."""

    files: tuple[Path, ...]
    """One manifest, or one for each fold: columns path, label, split, group."""
    counts: tuple[dict[str, dict[str, int]], ...]
    """Images per split and class of each manifest."""
    passage: Passage
    """How copies that lay in several splits were dealt with."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"files": list(map(str, self.files)), "counts": list(self.counts), "gate": self.passage.to_json()}


def split(
    data: Data,
    out: str | os.PathLike[str],
    *,
    count: int | None = None,
    seed: int = 0,
    val_share: float = SHARE,
    group_by: str | None = None,
    leakage: str | None = None,
    because: str | None = None,
    progress: Progress | None = None,
) -> Divided:
    """Write the splits of `data` as the manifest `out` (.csv or .parquet), or `count` folds as manifests in `out`/.

    Classes keep their shares, copies and groups stay together, everything follows from the seed and the images'
    content. In the manifest of a fold its images are the test split and validation is taken from the others; where
    `data` have a test split already it stays, and the fold is for validation.
    Raises DataError as training does, UsageError when a manifest exists or the images lie inside other files.
    """
    progress = progress or Logged()
    refuse_way(leakage, because)
    if not 0 < val_share < 1:
        raise UsageError(f"A share of {val_share} makes no sense for validation: give a part of 1, such as 0.15.")
    files = _places(Path(out), count)
    listing = listed(data, group_by=group_by)
    if listing.table["row"].null_count() < len(listing):
        raise UsageError(
            f"The images of {listing.root} lie inside other files, which a manifest of paths cannot name; "
            "`discern curate` writes them out as files, split."
        )
    scanned, pixels = scan(listing, size=size_for(listing), fit="pad", progress=progress)
    readable = scanned.filter(pl.col("problem").is_null())
    for image, problem in scanned.filter(pl.col("problem").is_not_null()).table.select("image", "problem").iter_rows():
        progress.say(f"warning: {image} is left out: {problem}.")
    clusters, _ = copies(readable, pixels, progress=progress)
    parts = [readable] if count is None else list(_folded(readable, count, seed, clusters))
    whole = [with_splits(part, seed=seed, val_share=val_share, clusters=clusters) for part in parts]
    passed = [through_gate(each, clusters, leakage=leakage, because=because) for each in whole]
    for file, (dataset, _) in zip(files, passed, strict=True):
        refuse_missing_classes(dataset)
        write_rows(file, _manifest(dataset, file))
    return Divided(files=files, counts=tuple(_counts(dataset) for dataset, _ in passed), passage=passed[0][1])


def _places(out: Path, count: int | None) -> tuple[Path, ...]:
    if count is None and out.suffix not in SUFFIXES:
        raise UsageError(f"{out} must end in .csv or .parquet (or ask for --folds, which go into a folder).")
    if count is not None and (out.suffix in SUFFIXES or count < 2):
        raise UsageError(f"Folds go into a folder and are two at least: {count} folds in {out} make no sense.")
    files = (out,) if count is None else tuple(out / f"fold-{k + 1}-of-{count}.csv" for k in range(count))
    taken = next((file for file in files if file.exists()), None)
    if taken is not None:
        raise UsageError(f"{taken} exists already; remove it, or choose another name.")
    return files


def _folded(dataset: Dataset, count: int, seed: int, clusters: list[list[int]]) -> Iterator[Dataset]:
    """The Dataset once for each fold: its test split, or its validation where a test split was given and stays."""
    given = (dataset.table["split"] == "test").fill_null(False)
    rows = np.flatnonzero(~given.to_numpy())
    place = {row: at for at, row in enumerate(rows.tolist())}
    inside = [[place[row] for row in cluster if row in place] for cluster in clusters]
    fold = np.full(len(dataset), -1)
    fold[rows] = folds(dataset.with_rows(rows), count, seed=seed, clusters=[cluster for cluster in inside if cluster])
    for k in range(count):
        split_ = pl.Series("split", np.where(fold == k, "val" if given.any() else "test", "train"), dtype=pl.String)
        yield dataset.with_columns(split_.set(given, "test"))


def _manifest(dataset: Dataset, file: Path) -> pl.DataFrame:
    """Paths relative to the manifest's folder, so that both can be moved together."""
    here = file.absolute().parent
    paths = [Path(os.path.relpath(dataset.root / name, here)).as_posix() for name in dataset.table["file"]]
    names = [dataset.classes[label] for label in dataset.labels]
    table = pl.DataFrame({"path": paths, "label": names, "split": dataset.table["split"]})
    groups = dataset.table["group"]
    return table if groups.null_count() == len(groups) else table.with_columns(group=groups)


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {name: dataset.split(name).class_counts() for name in dataset.split_counts()}
