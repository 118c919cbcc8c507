"""Curate: a prepared copy of photos on disk, the source untouched - cleaned, split, capped, resized, balanced."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from discern.data.curation.copies import building, write_copy
from discern.data.curation.curate import LeftOut, Plan, plan
from discern.data.dataset import SPLITS, Dataset
from discern.data.decode import Fit
from discern.data.duplicates.search import copies
from discern.data.journal import Place, read_journal
from discern.data.scan import scan
from discern.data.sources import as_listed, found_at, open_dataset
from discern.errors import DataError, UsageError
from discern.files import write_json, write_table
from discern.progress import Logged, Progress, Silent
from discern.report.curation import Curation, write_curation

_SCAN_SIZE = 112
"""Any size finds the same facts; at this one the audit and most trainings on a CPU have read the images already."""


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What `curate` leaves."""

    folder: Path
    """train/, val/ and test/ with one folder per class, and curation/ which tells how they were made."""
    outputs: pl.DataFrame
    """One row per image written: columns of OUTPUTS; curation/outputs.parquet."""
    left_out: tuple[LeftOut, ...]
    """The images of the source that are not there."""
    page: Path
    """The pictures: counts before and after, sizes and formats, samples."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class, varied copies included."""
        found: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
        for split, label, count in self.outputs.group_by("split", "label").len().sort("label").iter_rows():
            found[split][label] = count
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in curation/curation.json."""
        return {
            "images": self.outputs.height,
            "copies": int((self.outputs["copy"] > 0).sum()),
            "counts": self.counts(),
            "left_out": [asdict(each) for each in self.left_out],
        }


def curate(
    photos: Place,
    out: str | os.PathLike[str],
    *,
    val: Place | None = None,
    test: Place | None = None,
    test_per_class: int | None = None,
    max_per_class: int | None = None,
    keep_duplicates: bool = False,
    size: int | None = None,
    fit: Fit = "pad",
    balance: Literal["none", "oversample"] = "none",
    seed: int = 0,
    progress: Progress | None = None,
) -> Curated:
    """Write a prepared copy of `photos` to the new folder `out`; nothing of the source is changed.

    Decisions in the journal are followed; unreadable files, copies and photos with two labels are left out and
    listed; `test_per_class` images of each class are held out before anything else; a class keeps `max_per_class`;
    validation is taken; images are fitted to `size` or stay as they are; `balance` "oversample" fills every class of
    the training split up to the largest with varied copies. The same arguments give the same files.
    Raises UsageError when `out` is not new or lies in the source, DataError when a class has too few images.
    """
    progress, out = progress or Logged(), Path(out)
    places = [found_at(place, progress) for place in (photos, val, test) if place is not None]
    dataset = open_dataset(photos, val=val, test=test, progress=progress)
    _refuse_inside(out, places)
    with building(out) as folder:
        scanned, pixels = scan(dataset, size=_SCAN_SIZE, fit="pad", progress=progress)
        readable = _readable(scanned)
        chosen = plan(
            readable,
            copies(readable, pixels, progress=progress)[0],
            test_per_class=test_per_class,
            max_per_class=max_per_class,
            keep_duplicates=keep_duplicates,
            oversample=balance == "oversample",
            seed=seed,
        )
        _say_short(chosen, progress)
        left_out = (*_dropped(places, dataset.root), *_unreadable(scanned), *chosen.left_out)
        outputs = write_copy(chosen, folder, size=size, fit=fit, seed=seed, progress=progress)
        curated = Curated(folder=out, outputs=outputs, left_out=left_out, page=out / "curation" / "curation.html")
        arguments = {
            "test_per_class": test_per_class,
            "max_per_class": max_per_class,
            "keep_duplicates": keep_duplicates,
            "size": size,
            "fit": fit if size else None,
            "balance": balance,
            "seed": seed,
        }
        about = Curation(
            folder=folder, source=scanned, arguments=arguments, plan=chosen, left_out=left_out, outputs=outputs
        )
        _record(about, {"photos": [os.fspath(place) for place in places], **curated.to_json()})
    return curated


def _record(about: Curation, answer: dict[str, Any]) -> None:
    """Beside the images: what was asked and answered, where each image comes from, and the page."""
    folder = about.folder / "curation"
    write_json(folder / "curation.json", {"arguments": about.arguments, **answer})
    write_table(folder / "outputs.parquet", about.outputs)
    write_curation(about, folder / "curation.html")


def _refuse_inside(out: Path, places: list[Path | str]) -> None:
    for place in map(Path, places):
        if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
            raise UsageError(f"{out} lies in {place}, whose images it would join; choose a folder elsewhere.")


def _readable(scanned: Dataset) -> Dataset:
    readable = scanned.filter(pl.col("problem").is_null())
    if not len(readable):
        raise DataError(f"None of the {len(scanned)} images in {scanned.root} can be decoded; see `discern audit`.")
    return readable


def _dropped(places: list[Path | str], root: Path) -> list[LeftOut]:
    """What people dropped, by the names the images would have had."""
    found = []
    for place in places:
        reasons = {d.image: d.reason for d in read_journal(place, Silent()).standing.values() if d.decision == "drop"}
        if not reasons:
            continue
        listed = as_listed(place, Silent())
        for image in sorted(reasons.keys() & set(listed.images)):
            name = Path(os.path.relpath(listed.root / image, root)).as_posix()
            found.append(LeftOut(image=name, reason="dropped", detail=reasons[image]))
    return found


def _unreadable(scanned: Dataset) -> list[LeftOut]:
    bad = scanned.table.filter(pl.col("problem").is_not_null()).select("image", "problem")
    return [LeftOut(image=image, reason="unreadable", detail=problem) for image, problem in bad.iter_rows()]


def _say_short(chosen: Plan, progress: Progress) -> None:
    for name, missing in chosen.short.items():
        progress.say(
            f"warning: {missing} test images of '{name}' could not be held out: groups that stay together do not fit."
        )
