"""Embed: the features of a published network for every image, as a table for people and other programs."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from discern.data.decode import Fit
from discern.data.scan import scan
from discern.data.sources import Data, listed
from discern.errors import DataError, UsageError
from discern.files import write_table
from discern.models import zoo
from discern.models.preprocessing import Preprocessing
from discern.progress import Logged, Progress
from discern.steps.probe import vectors
from discern.steps.setting import weights_for
from discern.training.recipe import Recipe


def embed(
    photos: Data,
    model: str,
    out: str | os.PathLike[str],
    *,
    weights: str | None = None,
    size: int | None = None,
    fit: Fit = "pad",
    accept_license: bool = False,
    trust_pickle: bool = False,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Write `out`, a Parquet table: image, label, split, and `embedding`, float32, a row for each readable image.

    Computed once for the same images, weights, size and fit, and shared with training. Raises UsageError for a model
    without published weights, DataError when no image can be decoded.
    """
    progress, out = progress or Logged(), Path(out)
    if out.suffix != ".parquet":
        raise UsageError(f"{out} must end in .parquet, which is what is written.")
    changes = {"weights": weights} if weights else {}
    permissions = {"accept_license": accept_license, "trust_pickle": trust_pickle}
    plan = Recipe().with_changes({"model": model, "network": changes, **permissions})
    published = weights_for(plan, progress)
    if published is None:
        raise UsageError(f"{model} has no published weights, so its features mean nothing; see `discern models`.")
    size = size or published.best_size
    scanned, pixels = scan(listed(photos), size=size, fit=fit, progress=progress)
    dataset = scanned.filter(pl.col("problem").is_null())
    if not len(dataset):
        raise DataError(f"No image in {scanned.root} can be decoded; `discern audit` says why.")
    network = zoo.build(model, classes=2, size=size, changes=plan.network, published=published)
    preprocessing = Preprocessing(size=size, fit=fit, mean=published.mean, std=published.std)
    rows = vectors(dataset, pixels, network, preprocessing, progress)
    labels = [dataset.classes[label] if label >= 0 else None for label in dataset.labels]
    table = dataset.table.select("image", label=pl.Series(labels, dtype=pl.String), split="split").with_columns(
        embedding=pl.Series(rows, dtype=pl.Array(pl.Float32, rows.shape[1]))
    )
    write_table(out, table)
    return table
