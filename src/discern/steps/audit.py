"""Audit: everything that is wrong or notable with a set of images, with a score per image and a page of pictures."""

from __future__ import annotations

import hashlib
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

from discern.data.dataset import Dataset
from discern.data.findings import Finding
from discern.data.reading import portions
from discern.data.scan import scan
from discern.data.sources import Data, listed
from discern.files import cache_folder, read_json, writing
from discern.progress import Logged, Progress

VERSION = 1
"""Raised when the audit finds other things in the same images, so that old answers are not given again."""

SIZE = 112
"""Side of the Pixels, at most: enough for every check, and what most trainings on a CPU read as well."""

PAGE, TABLE, FINDINGS = "audit.html", "scores.parquet", "findings.json"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found."""

    dataset: Dataset
    """Scanned, unreadable images included."""
    findings: tuple[Finding, ...]
    """The gravest kinds first."""
    scores: pl.DataFrame
    """A row per image: image, label, split, `<kind>_score` in [0, 1] (1 is fine) and `is_<kind>`."""
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
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Look at every image once and say what is wrong.

    Label suspects and outliers are told by features: of the pretrained `backbone` where one is named (see
    `load_backbone` for `weights`), else of patches of the images themselves, which tell far less. `out` is a folder
    for the page, the table of scores and the findings. What was found is kept in the cache for the same images,
    labels and splits. Nothing is changed.
    """
    progress = progress or Logged()
    listing = listed(data)
    dataset, pixels = scan(listing, size=size_for(listing), fit="pad", progress=progress)
    kept = cache_folder() / "audits" / _key(dataset, backbone, weights)
    if not (kept / FINDINGS).exists():
        from discern.steps.look import look  # what it needs takes a second to import; a second audit does not need it

        look(dataset, pixels, kept, backbone=backbone, weights=weights, progress=progress)
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


def _key(dataset: Dataset, backbone: str | None, weights: str) -> str:
    rows = dataset.table.select("image", "label", "split", "group", "decision", "digest", "problem")
    digest = hashlib.blake2b(f"{VERSION}|{backbone}|{weights}|{dataset.root}".encode(), digest_size=12)
    digest.update(json.dumps(dataset.classes).encode())
    digest.update(rows.hash_rows(seed=1).to_numpy().tobytes())
    return digest.hexdigest()
