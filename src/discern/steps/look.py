"""Look: the work of a first audit - copies, checks, features, scores and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discern.data.audit import audit as find
from discern.data.audit import unreadable_findings
from discern.data.dataset import Dataset
from discern.data.duplicates import copies
from discern.data.findings import Finding, grouped
from discern.data.patches import patch_features
from discern.data.pixels import Pixels
from discern.data.quality import FLAG, KINDS, quality_scores
from discern.data.suspects import (
    label_scores,
    out_of_sample,
    outlier_findings,
    outlier_scores,
    suspect_findings,
    suspect_labels,
)
from discern.files import write_json, write_table
from discern.progress import Progress
from discern.report.audit_page import write_audit_page

PAGE, TABLE, FINDINGS = "audit.html", "scores.parquet", "findings.json"

_CLUSTER_KINDS = ("exact_duplicate", "near_duplicate", "leakage", "label_conflict")


def look(
    dataset: Dataset, pixels: Pixels, folder: Path, *, backbone: str | None, weights: str, progress: Progress
) -> None:
    """Write findings, scores and page of a scanned Dataset to `folder`, the findings last."""
    findings, scores = _found(dataset, pixels, backbone, weights, progress)
    write_table(folder / TABLE, scores)
    progress.say("Drawing the page ...")
    write_audit_page(
        folder / PAGE, dataset=dataset, pixels=pixels, findings=findings, scores=scores, table=Path(TABLE)
    )
    write_json(folder / FINDINGS, [finding.to_json() for finding in findings])


def _found(
    dataset: Dataset, pixels: Pixels, backbone: str | None, weights: str, progress: Progress
) -> tuple[list[Finding], pl.DataFrame]:
    readable = np.flatnonzero(dataset.table["problem"].is_null().to_numpy())
    good = dataset.with_rows(readable)
    clusters, near = copies(good, pixels, progress=progress)
    scores = dataset.table.select("image", "split").with_columns(
        label=pl.Series([dataset.classes[label] if label >= 0 else None for label in dataset.labels], dtype=pl.String)
    )
    scores = scores.hstack(quality_scores(dataset))
    findings = [*unreadable_findings(dataset), *find(good, clusters, near)]
    features = _features(good, pixels, backbone, weights, progress) if len(good) else np.zeros((0, 1), np.float32)
    labelled = bool(len(good)) and bool((good.labels >= 0).all())
    probabilities = out_of_sample(good, features, clusters=clusters, progress=progress) if labelled else None
    if probabilities is not None:
        suggested = suspect_labels(good.labels, probabilities)
        findings += suspect_findings(good, probabilities, suggested)
        scores = _with(scores, readable, "label_suspect", label_scores(good.labels, probabilities), suggested >= 0)
    if len(good) > 2:
        alone, outlying = outlier_scores(features)
        findings += outlier_findings(good, alone, outlying)
        scores = _with(scores, readable, "outlier", alone, outlying)
    return [finding for group in grouped(findings) for finding in group], _flagged(scores, findings)


def _features(dataset: Dataset, pixels: Pixels, backbone: str | None, weights: str, progress: Progress) -> Any:
    if backbone is None:
        return patch_features(dataset, pixels, progress=progress)
    from discern.models.backbones import load_backbone  # torch and timm take seconds to import
    from discern.training.frozen import features

    return features(dataset, pixels, load_backbone(backbone, weights), progress=progress).astype(np.float32)


def _with(scores: pl.DataFrame, rows: Any, kind: str, values: Any, flags: Any) -> pl.DataFrame:
    """Score and flag of the readable rows; null for the others."""
    score, flag = np.full(scores.height, np.nan, np.float32), np.zeros(scores.height, bool)
    score[rows], flag[rows] = values, flags
    return scores.with_columns(
        pl.Series(f"{kind}_score", score, nan_to_null=True), pl.Series(f"is_{kind}", flag, dtype=pl.Boolean)
    )


def _flagged(scores: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    """With the flags that follow from scores and from findings about copies and unreadable files."""
    flags = [(pl.col(f"{kind.name}_score") < FLAG).fill_null(False).alias(f"is_{kind.name}") for kind in KINDS]
    scores = scores.with_columns(flags)
    for kind in (*_CLUSTER_KINDS, "unreadable"):
        named = {row for finding in findings if finding.kind == kind for row in finding.rows}
        flag = scores["image"].is_in(list(named)).alias(f"is_{kind}")
        scores = scores.with_columns(flag, (1 - flag.cast(pl.Float32)).alias(f"{kind}_score"))
    first = ["image", "label", "split"]
    return scores.select(*first, *sorted(set(scores.columns) - set(first)))
