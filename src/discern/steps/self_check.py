"""Self-check: how much of what is put in on purpose the audit finds, on the user's own images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

from discern.data.audit.findings import Finding
from discern.data.audit.injection import FAULTS, Injected, Injection, inject
from discern.data.dataset import Dataset
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import Data, listed
from discern.progress import Logged, Progress
from discern.steps.audit import HINT, refuse_means, size_for
from discern.steps.look import found

_COPIES = ("exact_duplicate", "near_duplicate", "leakage", "label_conflict")


@dataclass(frozen=True, kw_only=True)
class Row:
    """How well one kind of fault is found."""

    fault: str
    """Its kind, and what was done."""
    count: int
    """How many were put in."""
    recall: float | None
    """Share of them that was found."""
    precision: float | None
    """Share of what was found that was put in: of all new pairs of copies, and of all suspect labels, so that labels
    that were wrong before lower it; none for faults that the images may have too."""
    auprc: float | None = None
    """Area under the precision-recall curve of the score, for faults that are ranked."""


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """The answer of `self_check`."""

    images: int
    """Before anything was put in."""
    seed: int
    """Of what was put in."""
    rows: tuple[Row, ...]
    """A row per kind of fault, near duplicates by edit as well."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __getitem__(self, fault: str) -> Row:
        return next(row for row in self.rows if row.fault == fault)


def self_check(
    data: Data,
    *,
    injection: Injection | None = None,
    backbone: str | None = None,
    weights: str = "auto",
    suspects: str = "own",
    seed: int = 0,
    progress: Progress | None = None,
) -> SelfCheck:
    """Put known faults into a copy of the table and audit it; the images themselves are not touched.

    `backbone`, `weights` and `suspects` are those of the audit. Pairs that it finds in the images as they are count
    neither for nor against it.
    """
    progress, injection = progress or Logged(), injection or Injection(seed=seed)
    refuse_means(backbone, weights, suspects)
    if backbone is None:
        progress.say(HINT)
    listing = listed(data)
    size = size_for(listing)
    scanned, pixels = scan(listing, size=size, fit="pad", progress=progress)
    good = scanned.filter(pl.col("problem").is_null())
    before = _pairs(good, copies(good, pixels, progress=progress)[0])
    with tempfile.TemporaryDirectory(prefix="discern-self-check-") as folder:
        injected = inject(good, injection, Path(folder))
        dataset, pixels = scan(injected.dataset, size=size, fit="pad", progress=progress)
        findings, scores = found(
            dataset, pixels, backbone=backbone, weights=weights, suspects=suspects, progress=progress
        )
    return SelfCheck(
        images=len(good),
        seed=injection.seed,
        rows=(
            *_copy_rows(injected, findings, before),
            _label_row(injected, scores, findings),
            *(_fault_row(injected, kind, findings) for kind in FAULTS),
        ),
    )


Pair = frozenset[str]


def _pairs(dataset: Dataset, clusters: Iterable[Iterable[int]]) -> set[Pair]:
    images = dataset.images
    return {pair for cluster in clusters for pair in _within([images[row] for row in cluster])}


def _within(names: list[str]) -> set[Pair]:
    return {frozenset((one, other)) for k, one in enumerate(names) for other in names[:k]}


def _copy_rows(injected: Injected, findings: Sequence[Finding], before: set[Pair]) -> list[Row]:
    """Recall by kind of copy; precision over all pairs that are new and are no copies of a spoilt picture."""
    found = {pair for f in findings if f.kind in _COPIES for pair in _within(list(f.rows))}
    truth = injected.truth.filter(pl.col("source") != "")
    origin = dict(truth.select("image", "source").iter_rows())
    wanted = {kind: _wanted(truth, kind) for kind in ("exact_duplicate", "near_duplicate")}
    spoilt = set(truth.filter(pl.col("kind").is_in(list(FAULTS)))["image"])
    new = {pair for pair in found if pair not in before and not pair & spoilt}
    right = {pair for pair in new if len({origin.get(name, name) for name in pair}) == 1}
    rows = []
    for kind, pairs in wanted.items():
        exact = kind == "exact_duplicate"
        rows.append(
            Row(
                fault=kind,
                count=len(pairs),
                recall=_share(len(pairs & found), len(pairs)),
                precision=None if exact else _share(len(right), len(new)),
            )
        )
    for edit, images in truth.filter(pl.col("kind") == "near_duplicate").group_by("detail", maintain_order=True):
        pairs = _wanted(images, "near_duplicate")
        rows.append(
            Row(fault=f"  {edit[0]}", count=len(pairs), recall=_share(len(pairs & found), len(pairs)), precision=None)
        )
    return rows


def _wanted(truth: pl.DataFrame, kind: str) -> set[Pair]:
    return {frozenset(pair) for pair in truth.filter(pl.col("kind") == kind).select("image", "source").iter_rows()}


def _label_row(injected: Injected, scores: pl.DataFrame, findings: Sequence[Finding]) -> Row:
    """Flipped labels, among images that were not put in."""
    flipped = set(injected.truth.filter(pl.col("kind") == "label_suspect")["image"])
    put_in = set(injected.truth["image"]) - flipped
    suspected = {row for f in findings if f.kind == "label_suspect" for row in f.rows} - put_in
    judged = scores.filter(~pl.col("image").is_in(list(put_in)) & pl.col("label_suspect_score").is_not_null())
    truth = judged["image"].is_in(list(flipped)).to_numpy()
    auprc = None
    if truth.any():
        auprc = float(average_precision_score(truth, 1 - judged["label_suspect_score"].to_numpy()))
    return Row(
        fault="label_suspect",
        count=len(flipped),
        recall=_share(len(suspected & flipped), len(flipped)),
        precision=_share(len(suspected & flipped), len(suspected)),
        auprc=auprc,
    )


def _fault_row(injected: Injected, kind: str, findings: Sequence[Finding]) -> Row:
    put_in = set(injected.truth.filter(pl.col("kind") == kind)["image"])
    named = {row for f in findings if f.kind == kind for row in f.rows}
    return Row(fault=kind, count=len(put_in), recall=_share(len(put_in & named), len(put_in)), precision=None)


def _share(part: int, whole: int) -> float | None:
    return float(np.divide(part, whole)) if whole else None
