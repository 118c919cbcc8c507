"""Audit: everything that is wrong or notable with a set of images, with a score per image and a page of pictures."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset
from discern.data.reading import portions
from discern.data.scan import scan
from discern.data.sources import Data, listed
from discern.errors import MissingExtra, UnknownName, UsageError
from discern.files import cache_folder, read_json, writing
from discern.progress import Logged, Progress

VERSION = 4
"""Raised when the audit finds other things in the same images, so that old answers are not given again."""

SIZE = 112
"""Side of the Pixels, at most: enough for every check, and what most trainings on a CPU read as well."""

PAGE, TABLE, FINDINGS = "audit.html", "scores.parquet", "findings.json"

SUSPECTS = ("own", "cleanlab")
"""Who says which labels are suspect: a rule of our own, or the cleanlab package."""

HINT = (
    "No backbone is named: wrong labels are told by small patches of the images and outliers by light and colour, far "
    "less reliably than by a pretrained network; name one, such as --backbone mobilenetv2_100 (offline with --weights "
    "PATH)."
)
"""Said before an audit without a backbone."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found."""

    dataset: Dataset
    """Scanned, unreadable images included."""
    findings: tuple[Finding, ...]
    """The gravest kinds first."""
    scores: pl.DataFrame
    """A row per image: image, label, split, `<kind>_score` in [0, 1] (1 is fine) and `is_<kind>`.

    An unreadable image has no scores but that one; a kind that could not be looked for has neither scores nor flags.
    """
    folder: Path | None
    """Where audit.html, scores.parquet and findings.json are; none when they were not asked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: what `discern audit --json` prints."""
        places = {name: str(self.folder / file) for name, file in (("page", PAGE), ("table", TABLE)) if self.folder}
        return {
            "images": len(self.dataset),
            "classes": self.dataset.class_counts(),
            "splits": self.dataset.split_counts(),
            "findings": [finding.to_json() for finding in self.findings],
            **places,
        }


def audit(
    data: Data,
    *,
    backbone: str | None = None,
    weights: str = "auto",
    suspects: str = "own",
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Look at every image once and say what is wrong.

    Label suspects and outliers are told by features of the pretrained `backbone` where one is named (see
    `load_backbone` for `weights`), else by patches of the images and by their facts, which tell far less. `suspects`
    is one of SUSPECTS. `out` is a folder for the page, the table of scores and the findings. What was found is kept in
    the cache for the same images, labels and splits. Nothing is changed. Raises UnknownName, UsageError or
    MissingExtra for what cannot be done, before an image is read.
    """
    progress = progress or Logged()
    refuse_means(backbone, weights, suspects)
    if backbone is None:
        progress.say(HINT)
    listing = listed(data)
    dataset, pixels = scan(listing, size=size_for(listing), fit="pad", progress=progress)
    kept = cache_folder() / "audits" / _key(dataset, backbone, weights, suspects)
    if not _whole(kept):
        from discern.steps.look import look  # what it needs takes a second to import; a second audit does not need it

        look(dataset, pixels, kept, backbone=backbone, weights=weights, suspects=suspects, progress=progress)
    if out is not None:
        for name in (PAGE, TABLE, FINDINGS):
            with writing(Path(out) / name) as temporary:
                shutil.copyfile(kept / name, temporary)
    return Audit(
        dataset=dataset,
        findings=tuple(Finding.from_json(record) for record in read_json(kept / FINDINGS)),
        scores=pl.read_parquet(kept / TABLE),
        folder=Path(out) if out is not None else None,
    )


def _whole(kept: Path) -> bool:
    """Whether an earlier audit is there and can be read."""
    try:
        read_json(kept / FINDINGS)
        pl.read_parquet_schema(kept / TABLE)
        with open(kept / PAGE, "rb") as page:
            page.seek(-32, os.SEEK_END)
            return b"</html>" in page.read()
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return False


def size_for(dataset: Dataset) -> int:
    """Side of Pixels to audit: SIZE, or less when the first images are all smaller."""
    few = dataset.with_rows(np.arange(min(len(dataset), 16)))
    longest = 0
    for portion in portions(few):
        for data in portion.fetch():
            try:
                with Image.open(io.BytesIO(b"" if isinstance(data, OSError) else data)) as picture:
                    longest = max(longest, *picture.size)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                return SIZE  # the scan will say what is wrong with it
    return min(SIZE, max(32, -(-longest // 16) * 16))


def refuse_means(backbone: str | None, weights: str, suspects: str) -> None:
    """Raise UnknownName, UsageError or MissingExtra for ways to find suspects that are not there or make no sense."""
    if suspects not in SUSPECTS:
        raise UnknownName("way to find suspects", suspects, SUSPECTS)
    if suspects == "cleanlab" and importlib.util.find_spec("cleanlab") is None:
        raise MissingExtra("cleanlab", "audit")
    if backbone is None and weights != "auto":
        raise UsageError(f"--weights {weights} are of no backbone: name it with --backbone, or leave them out.")


def _key(dataset: Dataset, backbone: str | None, weights: str, suspects: str) -> str:
    rows = dataset.table.select("image", "label", "split", "group", "decision", "digest", "problem")
    means = f"{VERSION}|{backbone}|{weights}|{_state(Path(weights))}|{suspects}|{dataset.root}"
    digest = hashlib.blake2b(means.encode(), digest_size=12)
    digest.update(json.dumps(dataset.classes).encode())
    digest.update(rows.hash_rows(seed=1).to_numpy().tobytes())
    return digest.hexdigest()


def _state(weights: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files of weights, which may be replaced."""
    files = sorted(weights.iterdir()) if weights.is_dir() else [weights] if weights.is_file() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
