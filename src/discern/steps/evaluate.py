"""Evaluate: score a Run on its own splits, or on photos it has never seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import polars as pl

from discern.data.dataset import Dataset
from discern.data.decode import Fit
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.split import refuse_missing_classes
from discern.deploy.predict import load_predictor
from discern.errors import DataError
from discern.evaluation import metrics
from discern.files import write_json
from discern.progress import Logged, Progress
from discern.runs.evaluation import Evaluation
from discern.runs.predictions import Predictions
from discern.runs.run import Run, open_run


def evaluate(
    run: Run | str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """The Run's scores: from its stored predictions, or by predicting the labelled images at `photos`.

    Photos are scored as the split 'test' (their own test split where they have one); predictions and scores are
    kept in the Run's evaluations/ folder. Raises DataError when photos have classes that training had not, lack one
    that it had. Files among them that the model was trained on are said and counted in evaluation.json.
    """
    run, progress = run if isinstance(run, Run) else open_run(run), progress or Logged()
    if photos is None:
        return metrics.evaluate(run.predictions)
    predictor = load_predictor(run)
    listing = open_dataset(photos, progress=progress).with_classes(run.classes)
    record = predictor.preprocessing
    scanned, pixels = scan(listing, size=record.size, fit=cast(Fit, record.fit), progress=progress)
    dataset = _to_score(scanned, progress)
    seen = _seen(dataset, run, progress)
    predictions = Predictions(
        images=dataset.images,
        splits=("test",) * len(dataset),
        labels=dataset.labels,
        probabilities=predictor.over(pixels, dataset.index, progress),
        classes=run.classes,
    )
    evaluation = metrics.evaluate(predictions)
    folder = run.path / "evaluations" / f"{Path(photos).resolve().name}-{dataset.fingerprint[:8]}"
    predictions.write(folder / "predictions.parquet")
    write_json(folder / "evaluation.json", {"photos": str(photos), "seen_in_training": seen, **evaluation.to_json()})
    progress.say(f"Kept in {folder}")
    return evaluation


def _to_score(scanned: Dataset, progress: Progress) -> Dataset:
    """The readable test images, every class among them."""
    bad = scanned.filter(pl.col("problem").is_not_null())
    for image, problem in bad.table.select("image", "problem").iter_rows():
        progress.say(f"warning: {image} is left out: {problem}.")
    good = scanned.filter(pl.col("problem").is_null())
    if "test" in good.split_counts():
        good = good.split("test")
    if not len(good):
        raise DataError(f"No image in {scanned.root} can be decoded; there is nothing to score.")
    dataset = good.with_columns(pl.Series("split", ["test"] * len(good), dtype=pl.String))
    refuse_missing_classes(dataset, ("test",))
    return dataset


def _seen(dataset: Dataset, run: Run, progress: Progress) -> int:
    """How many of the images are files that the model was trained or chosen with; more than none is said."""
    known = run.dataset.filter(pl.col("split") != "test").table["digest"].implode()
    seen = dataset.filter(pl.col("digest").is_in(known))
    if len(seen):
        progress.say(
            f"error: leakage: {len(seen)} of these {len(dataset)} images are files the model was trained or chosen "
            f"with, such as {seen.images[0]}: the scores flatter it."
        )
    return len(seen)
