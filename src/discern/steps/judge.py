"""Judge: the test split is opened - predictions of the chosen checkpoint and of baselines, and their scores."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.deploy.predict import load_predictor
from discern.evaluation.metrics import evaluate
from discern.files import write_json
from discern.models import baselines
from discern.progress import Progress
from discern.runs.predictions import Predictions
from discern.runs.run import Run
from discern.steps.probe import probed
from discern.training.recipe import Recipe
from discern.training.stages import Job

JUDGED_SPLITS = ("val", "test")

_TIMED = 16
"""Images by which the time for judging is estimated."""

_REPORT, _EXPLAINED = 8.0, 150
"""Seconds for baselines and a report, and as many images' time for heat maps."""


def judge(run: Run, plan: Recipe, dataset: Dataset, pixels: Pixels | Stream, progress: Progress) -> list[str]:
    """Open the test split, once: predictions of the chosen checkpoint and of the baselines, and scores.

    The names of the splits that were judged.
    """
    run.update(test_openings=run.info.get("test_openings", 0) + (plan.overfit is None))
    judged = {split: dataset.split(split) for split in (JUDGED_SPLITS if plan.overfit is None else ("train",))}
    judged = {split: part for split, part in judged.items() if len(part)}
    index = np.concatenate([part.index for part in judged.values()])
    start = time.perf_counter()
    predictor, model_says = load_predictor(run), np.zeros((0, len(dataset.classes)), np.float32)
    for split, part in judged.items():  # by weights that have not seen it
        says = load_predictor(run, run.info["validated"]) if split == "val" and "validated" in run.info else predictor
        model_says = np.concatenate([model_says, says.over(pixels, part.index, progress)])
    milliseconds = (time.perf_counter() - start) * 1000 / len(index)

    train_part = dataset.split("train")
    labels, classes = train_part.labels, len(dataset.classes)
    few = baselines.spread(len(labels))
    histograms = [_histograms(pixels, rows) for rows in (train_part.index[few], index)]
    told = {
        "predictions.parquet": model_says,
        "baselines/majority class.parquet": baselines.majority(labels, len(index), classes),
        "baselines/color histogram.parquet": baselines.color_histogram_model(
            histograms[0], labels[few], histograms[1], classes
        ),
    }
    rows = np.concatenate([np.flatnonzero(dataset.table["split"].to_numpy() == split) for split in judged])
    for name, said in probed(plan, dataset, pixels, predictor.preprocessing, rows, progress).items():
        told[f"baselines/{name}.parquet"] = said
    for file, probabilities in told.items():
        Predictions(
            images=tuple(name for part in judged.values() for name in part.images),
            splits=tuple(split for split, part in judged.items() for _ in range(len(part))),
            labels=np.concatenate([part.labels for part in judged.values()]),
            probabilities=probabilities,
            classes=dataset.classes,
        ).write(run.path / file)
    beside = {name: evaluate(said).to_json()["splits"] for name, said in run.baselines().items()}
    write_json(run.path / "evaluation.json", {**evaluate(run.predictions).to_json(), "baselines": beside})
    run.update(milliseconds_per_image=round(milliseconds, 4))
    return list(judged)


def judging_time(job: Job) -> float:
    """Seconds that will be needed after training: predictions, heat maps and the report, by a look at some images."""
    judged = job.dataset.filter(pl.col("split").is_in(JUDGED_SPLITS))
    few = job.dataset.index[:_TIMED]
    network = job.arithmetic.place(job.model, job.accelerator.device).eval()
    with torch.no_grad():
        for images in job.pixels.in_order(few, len(few)):
            inputs = job.preprocessing.normalize(torch.from_numpy(images).to(job.accelerator.device))
            network(inputs)
            start = time.perf_counter()
            network(inputs)
    each = (time.perf_counter() - start) / len(few)
    return _REPORT + each * (1.5 * len(judged) + _EXPLAINED)


def _histograms(pixels: Pixels | Stream, index: Int[np.ndarray, " image"]) -> Float[np.ndarray, "image 64"]:
    """A portion at a time, as all validation and test images may not fit in memory."""
    return np.concatenate([baselines.color_histograms(images) for images in pixels.in_order(index, 512)])
