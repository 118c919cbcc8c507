"""Evaluate: score a Run on its own splits, or on photos it has never seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from discern.data.dataset import Dataset
from discern.data.decode import Fit
from discern.data.duplicates.gate import refuse_way
from discern.data.duplicates.overlap import Copy, overlap
from discern.data.pixels import Pixels
from discern.data.reading import as_on_disk
from discern.data.sources import open_dataset
from discern.data.split import refuse_missing_classes
from discern.data.streaming import images_of
from discern.deploy.predict import load_predictor
from discern.errors import DataError, UnknownName, UsageError
from discern.evaluation import metrics
from discern.files import write_json
from discern.progress import Logged, Progress
from discern.runs.evaluation import Evaluation
from discern.runs.predictions import Predictions
from discern.runs.run import CHECKPOINTS, REFIT, Run, open_run
from discern.training.recipe import load_recipe

_SHOWN = 12
"""Copies named in the refusal: they fit a screen, and what they have in common shows."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A Run's scores on other photos, and what it had seen of them before."""

    photos: str
    """Where they are, as given."""
    evaluation: Evaluation
    """The scores."""
    leakage: str | None
    """What was done with photos it had seen: 'drop' or 'allow'; none when there were none."""
    because: str | None
    """The reason given for 'allow'."""
    seen_in_training: int
    """Scored photos that are copies of what it was trained or chosen with: none unless they were allowed."""
    left_out: tuple[str, ...]
    """Photos not scored because they are such copies."""
    not_compared: int
    """Its training and validation images that are gone: edited copies of them could not be looked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept in evaluations/ and printed by `discern evaluate --json`."""
        return {
            "photos": self.photos,
            "leakage": self.leakage,
            "because": self.because,
            "seen_in_training": self.seen_in_training,
            "left_out": list(self.left_out),
            "not_compared": self.not_compared,
            **self.evaluation.to_json(),
        }


def evaluate(
    run: Run | str | os.PathLike[str],
    photos: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str | None = None,
    leakage: str | None = None,
    because: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The Run's scores: from its stored predictions, or by predicting the labelled images at `photos`.

    With another `checkpoint` than the chosen one ('best_val_loss', 'best_val_acc', 'last') its own images are
    predicted anew, which opens the test split once more. For photos see `score_photos`. Raises UsageError for
    `leakage` without photos.
    """
    if photos is not None:
        scored = score_photos(run, photos, checkpoint=checkpoint, leakage=leakage, because=because, progress=progress)
        return scored.evaluation
    if leakage is not None or because is not None:
        raise UsageError(
            "--leakage and --because are about PHOTOS that the model has seen: name some, or leave them out."
        )
    run = run if isinstance(run, Run) else open_run(run)
    if checkpoint in (None, run.info["checkpoint"]):
        return metrics.evaluate(run.predictions)
    return _score_again(run, _known(checkpoint), progress or Logged())


def _known(checkpoint: str | None) -> str | None:
    known = (*CHECKPOINTS, REFIT)
    if checkpoint is not None and checkpoint not in known:
        raise UnknownName("checkpoint", checkpoint, known)
    return checkpoint


def _score_again(run: Run, checkpoint: str | None, progress: Progress) -> Evaluation:
    """The scores of another checkpoint on the Run's own validation and test images."""
    predictor, before = load_predictor(run, checkpoint), run.predictions
    dataset, record = run.dataset, predictor.preprocessing
    kept, fit = load_recipe(str(run.recipe_file)).pixels, cast(Fit, record.fit)
    scanned, pixels, _ = images_of(as_on_disk(dataset), size=record.size, fit=fit, kept=kept, progress=progress)
    if scanned.fingerprint != dataset.fingerprint:
        raise DataError(f"The images below {dataset.root} have changed since {run} was trained; put them back.")
    place = {name: row for row, name in enumerate(scanned.images)}
    index = scanned.index[[place[name] for name in before.images]]
    predictions = replace(before, probabilities=predictor.over(pixels, index, progress))
    run.update(test_openings=run.info.get("test_openings", 0) + 1)
    evaluation, folder = metrics.evaluate(predictions), run.path / "evaluations" / str(checkpoint)
    predictions.write(folder / "predictions.parquet")
    write_json(folder / "evaluation.json", evaluation.to_json())
    progress.say(f"Kept in {folder}")
    return evaluation


def score_photos(
    run: Run | str | os.PathLike[str],
    photos: str | os.PathLike[str],
    *,
    checkpoint: str | None = None,
    leakage: str | None = None,
    because: str | None = None,
    progress: Progress | None = None,
) -> Scored:
    """The Run's scores on the labelled images at `photos`.

    They are scored as the split 'test' (their own test split where they have one); predictions and scores are kept in
    the Run's evaluations/ folder. Raises DataError when photos have classes that training had not, lack one that it
    had, or show, as they are or edited, what the model was trained or chosen with, unless `leakage` says to 'drop'
    those or to 'allow' them, `because` of something.
    """
    _refuse_group(leakage)
    refuse_way(leakage, because, ways=("drop", "allow"))
    run, progress = run if isinstance(run, Run) else open_run(run), progress or Logged()
    predictor = load_predictor(run, _known(checkpoint))
    listing = open_dataset(photos, progress=progress).with_classes(run.classes)
    record, kept = predictor.preprocessing, load_recipe(str(run.recipe_file)).pixels
    fit = cast(Fit, record.fit)
    scanned, pixels, small = images_of(listing, size=record.size, fit=fit, kept=kept, progress=progress)
    offered = _to_score(scanned, progress)
    seen, gone = _seen(offered, small, run, progress)
    dataset = _through_gate(offered, seen, leakage, because, progress)
    predictions = Predictions(
        images=dataset.images,
        splits=("test",) * len(dataset),
        labels=dataset.labels,
        probabilities=predictor.over(pixels, dataset.index, progress),
        classes=run.classes,
    )
    dropped = leakage == "drop"
    scored = Scored(
        photos=str(photos),
        evaluation=metrics.evaluate(predictions),
        leakage=leakage if seen else None,
        because=because if seen else None,
        seen_in_training=0 if dropped else len(seen),
        left_out=tuple(copy.photo for copy in seen) if dropped else (),
        not_compared=gone,
    )
    which = f"-{checkpoint}" if checkpoint not in (None, run.info["checkpoint"]) else ""
    folder = run.path / "evaluations" / f"{Path(photos).resolve().name}-{dataset.fingerprint[:8]}{which}"
    predictions.write(folder / "predictions.parquet")
    write_json(folder / "evaluation.json", scored.to_json())
    progress.say(f"Kept in {folder}")
    return scored


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


def _seen(dataset: Dataset, pixels: Pixels, run: Run, progress: Progress) -> tuple[tuple[Copy, ...], int]:
    """The photos that the model was trained or chosen with, and how many of its images were not to be compared."""
    known = run.dataset.filter(pl.col("split") != "test")
    found = overlap(dataset, pixels, known, fit=cast(Fit, run.info["preprocessing"]["fit"]), progress=progress)
    if found.gone:
        progress.say(
            f"warning: {found.gone:,} of {len(known):,} images that {run.name} was trained and chosen with are gone "
            f"or have changed (below {known.root}): the same file is known again, an edited copy of it is not."
        )
    return found.copies, found.gone


def _through_gate(
    dataset: Dataset, seen: Sequence[Copy], leakage: str | None, because: str | None, progress: Progress
) -> Dataset:
    """The photos that may be scored; DataError when the model has seen some and no way on was chosen."""
    if not seen:
        return dataset
    which = (
        f"{len(seen):,} of {len(dataset):,} photos in {dataset.root} {'shows' if len(seen) == 1 else 'show'} what the "
        f"model was trained or chosen with ({_kinds(seen)})"
    )
    if leakage is None:
        raise DataError(_refusal(which, seen))
    if leakage == "allow":
        progress.say(f"error: leakage: {which}, and the scores flatter it; allowed because: {because}")
        return dataset
    rest = dataset.filter(~pl.col("image").is_in([copy.photo for copy in seen]))
    if not len(rest):
        raise DataError(f"Leakage: {which}; without them there is nothing to score.")
    refuse_missing_classes(rest, ("test",))
    progress.say(f"{which}; left out of the scores.")
    return rest


def _refusal(which: str, seen: Sequence[Copy]) -> str:
    more = f"\n  and {len(seen) - _SHOWN:,} more" if len(seen) > _SHOWN else ""
    return (
        f"Leakage: {which}, and it is not tested by what it has seen:\n  "
        + "\n  ".join(f"{copy.photo} = {copy.image} ({copy.split})" for copy in seen[:_SHOWN])
        + more
        + "\nGo on with --leakage drop (leave them out of the scores) or "
        '--leakage allow --because "..." (kept with the scores, which then flatter the model).'
    )


def _kinds(seen: Sequence[Copy]) -> str:
    """How many are the same file and how many were edited."""
    identical = sum(copy.identical for copy in seen)
    edited = len(seen) - identical
    told = [f"{identical:,} identical {'file' if identical == 1 else 'files'}"] if identical else []
    return ", ".join([*told, f"{edited:,} edited {'copy' if edited == 1 else 'copies'}"] if edited else told)


def _refuse_group(leakage: str | None) -> None:
    if leakage == "group":
        raise UsageError(
            "--leakage group moves photos between the splits of a training, and these are only scored: "
            "choose drop or allow."
        )
