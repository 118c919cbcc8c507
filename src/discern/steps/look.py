"""Look: the work of a first audit - copies, checks, features, scores and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from discern.data.audit.checks import audit as find
from discern.data.audit.checks import unreadable_findings
from discern.data.audit.findings import Finding, grouped
from discern.data.audit.outliers import FEWEST, by_facts, by_features, outlier_findings, outlier_scores
from discern.data.audit.patches import patch_features
from discern.data.audit.quality import FLAG, KINDS, quality_scores
from discern.data.audit.suspects import (
    SUSPECTS,
    label_scores,
    out_of_sample,
    suspect_findings,
)
from discern.data.dataset import Dataset
from discern.data.duplicates.search import copies
from discern.data.pixels import Pixels
from discern.files import write_json, write_table
from discern.progress import Progress
from discern.report.audit_page import write_audit_page
from discern.steps.audit import FINDINGS, PAGE, TABLE

_CLUSTER_KINDS = ("exact_duplicate", "near_duplicate", "leakage", "label_conflict")

_NOTHING: tuple[Any, Any] = (None, None)
"""Scores and flags of a kind that could not be looked for."""


def look(
    dataset: Dataset,
    pixels: Pixels,
    folder: Path,
    *,
    backbone: str | None,
    weights: str,
    suspects: str,
    progress: Progress,
) -> None:
    """Write findings, scores and page of a scanned Dataset to `folder`, the findings last."""
    findings, scores = found(dataset, pixels, backbone=backbone, weights=weights, suspects=suspects, progress=progress)
    write_table(folder / TABLE, scores)
    progress.say("Drawing the page ...")
    looked_for = scores.select(column for column in scores if not _unknown_flag(column))
    write_audit_page(
        folder / PAGE, dataset=dataset, pixels=pixels, findings=findings, scores=looked_for, table=Path(TABLE)
    )
    write_json(folder / FINDINGS, [finding.to_json() for finding in findings])


def found(
    dataset: Dataset, pixels: Pixels, *, backbone: str | None, weights: str, suspects: str, progress: Progress
) -> tuple[list[Finding], pl.DataFrame]:
    """Findings about a scanned Dataset, the gravest kinds first, and its table of scores (see steps.audit.Audit)."""
    readable = np.flatnonzero(dataset.table["problem"].is_null().to_numpy())
    good = dataset.with_rows(readable)
    clusters, near = copies(good, pixels, progress=progress)
    findings = [*unreadable_findings(dataset), *find(good, clusters, near)]
    features = _features(good, pixels, backbone, weights, progress) if len(good) else np.zeros((0, 1), np.float32)
    told = {"label_suspect": _NOTHING, "outlier": _NOTHING}
    labelled = bool(len(good)) and bool((good.labels >= 0).all())
    probabilities = out_of_sample(good, features, clusters=clusters, progress=progress) if labelled else None
    if probabilities is not None:
        suggested = SUSPECTS[suspects](good.labels, probabilities)
        findings += suspect_findings(good, probabilities, suggested)
        told["label_suspect"] = label_scores(good.labels, probabilities), suggested >= 0
    if len(good) >= FEWEST:
        space = by_facts(good) if backbone is None else by_features(features)
        told["outlier"] = outlier_scores(space)
        findings += outlier_findings(good, space, *told["outlier"])
    scores = _scores(dataset, findings).with_columns(
        column for kind, values in told.items() for column in _columns(kind, *values, readable, len(dataset))
    )
    first = ["image", "label", "split"]
    ordered = scores.select(*first, *sorted(set(scores.columns) - set(first)))
    return [finding for group in grouped(findings) for finding in group], ordered


def _features(dataset: Dataset, pixels: Pixels, backbone: str | None, weights: str, progress: Progress) -> Any:
    if backbone is None:
        return patch_features(dataset, pixels, progress=progress)
    from discern.models.backbones import load_backbone  # torch and timm take seconds to import
    from discern.training.frozen import features

    found = load_backbone(backbone, weights)
    progress.say(f"Weights: {found.name} (licence: {found.licence or 'not stated'})")
    return features(dataset, pixels, found, progress=progress).astype(np.float32)


def _scores(dataset: Dataset, findings: list[Finding]) -> pl.DataFrame:
    """What facts and findings about files say of every image; unreadable ones have no other score than that."""
    labels = [dataset.classes[label] if label >= 0 else None for label in dataset.labels]
    scores = dataset.table.select("image", label=pl.Series(labels, dtype=pl.String), split="split")
    scores = scores.hstack(quality_scores(dataset))
    scores = scores.with_columns(
        (pl.col(f"{kind.name}_score") < FLAG).fill_null(value=False).alias(f"is_{kind.name}") for kind in KINDS
    )
    readable = dataset.table["problem"].is_null()
    for kind in _CLUSTER_KINDS:
        named = {row for finding in findings if finding.kind == kind for row in finding.rows}
        flag = scores["image"].is_in(list(named))
        scores = scores.with_columns(_score(kind, ~flag, known=readable), flag.alias(f"is_{kind}"))
    return scores.with_columns(_score("unreadable", readable), (~readable).alias("is_unreadable"))


def _score(kind: str, fine: pl.Series, known: pl.Series | None = None) -> pl.Series:
    score = fine.cast(pl.Float32).alias(f"{kind}_score")
    return score if known is None else score.set(~known, None)


def _columns(kind: str, scores: Any, flags: Any, rows: Any, count: int) -> tuple[pl.Series, pl.Series]:
    """Score and flag of the readable rows; no score and no flag for the others; null for all when not looked for."""
    score, flag = np.full(count, np.nan, np.float32), np.zeros(count, bool)
    score[rows], flag[rows] = (np.nan, False) if scores is None else (scores, flags)
    known = (
        pl.Series(f"is_{kind}", flag) if scores is not None else pl.Series(f"is_{kind}", [None] * count, pl.Boolean)
    )
    return pl.Series(f"{kind}_score", score, nan_to_null=True), known


def _unknown_flag(column: pl.Series) -> bool:
    return column.name.startswith("is_") and column.null_count() == len(column)
