"""Metrics: the scores of one set of Predictions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from discern.errors import DataError
from discern.evaluation.intervals import bootstrap_macro_f1, f1_from_counts, wilson
from discern.runs.evaluation import Averages, ClassScores, Evaluation, SplitScores
from discern.runs.predictions import Labels, Predictions, Probabilities

Confusion = Int[np.ndarray, "true predicted"]
PerClass = Float[np.ndarray, " class"]

# The order a reader wants: what was chosen on, what counts, what was learned by heart.
SPLITS = ("val", "test", "train")


def confusion_matrix(labels: Labels, predicted: Labels, classes: int) -> Confusion:
    """Count the images of every true class (row) called every class (column): int64, `classes` x `classes`.

    Raises DataError when the two differ in length or hold an index outside 0 .. classes - 1.
    """
    if labels.shape != predicted.shape:
        raise DataError(f"{len(labels)} true labels for {len(predicted)} predicted ones: give one of each per image.")
    for kind, indices in (("true", labels), ("predicted", predicted)):
        if indices.size and not 0 <= indices.min() <= indices.max() < classes:
            raise DataError(
                f"The {kind} class indices run from {indices.min()} to {indices.max()}, outside 0 .. "
                f"{classes - 1}: leave out images whose label is unknown (-1), check the number of classes."
            )
    # Widened first: labels kept as uint8 would overflow in the product.
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def precision(confusion: Confusion) -> PerClass:
    """Share of the images called each class that are it; 0 for a class never called."""
    return _share(confusion.diagonal(), confusion.sum(axis=0))


def recall(confusion: Confusion) -> PerClass:
    """Share of the images of each class that are called so; 0 for a class without images."""
    return _share(confusion.diagonal(), confusion.sum(axis=1))


def f1(confusion: Confusion) -> PerClass:
    """Harmonic mean of precision and recall of each class; 0 for a class without images and never called."""
    hits, called, support = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    return f1_from_counts(hits.astype(np.float64), called.astype(np.float64), support.astype(np.float64))


def top1(confusion: Confusion) -> float:
    """Share of the images called the class they are.

    Raises DataError when the matrix counts no image.
    """
    n = int(confusion.sum())
    if n == 0:
        raise DataError("No top-1: the confusion matrix counts no image; score at least one.")
    return int(np.trace(confusion)) / n


def averages(confusion: Confusion, *, weighted: bool) -> Averages:
    """Mean precision, recall and F1: each class weighs the same, or as its images when `weighted`.

    Raises DataError when the matrix counts no image.
    """
    support = confusion.sum(axis=1)
    if not support.any():
        raise DataError("No averages: the confusion matrix counts no image; score at least one.")
    weights = support / support.sum() if weighted else np.full(len(confusion), 1 / len(confusion))
    return Averages(
        precision=float(precision(confusion) @ weights),
        recall=float(recall(confusion) @ weights),
        f1=float(f1(confusion) @ weights),
    )


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean cross-entropy in nats, -log p(true class), computed in float64.

    As scikit-learn does, p is kept at least one float64 rounding away from 0 and 1: one confident mistake
    then costs 36 nats and not infinity.

    Raises DataError when there is no image.
    """
    if not len(labels):
        raise DataError("No log loss of no image: score at least one.")
    p = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    eps = np.finfo(np.float64).eps
    return float(-np.log(np.clip(p, eps, 1 - eps)).mean())


def scorable(predictions: Predictions, split: str) -> Predictions:
    """Only the images of one split whose true label is known, fit to be scored.

    Raises DataError when there is none, when a class has none (its recall, and with it macro F1, would be
    made up), or when a probability is not a number.
    """
    within = predictions.split(split)
    known = within.take(np.flatnonzero(within.labels >= 0))
    if not len(known):
        raise DataError(
            f"The '{split}' split has no image with a known label ({len(within)} images in all): label some, "
            f"or predict without scoring."
        )
    missing = np.setdiff1d(np.arange(len(known.classes)), known.labels)
    if missing.size:
        raise DataError(
            f"The '{split}' split has no image of {_listing([known.classes[k] for k in missing])}, so recall "
            f"and macro F1 do not exist: add images of every class, or split again by class."
        )
    broken: Bool[np.ndarray, " image"] = ~np.isfinite(known.probabilities).all(axis=1)
    if broken.any():
        raise DataError(
            f"The probabilities of {broken.sum()} '{split}' images are not numbers (e.g. "
            f"'{known.images[int(broken.argmax())]}'): the model diverged; train it again with a lower rate."
        )
    return known


def score(predictions: Predictions, split: str, *, seed: int = 0) -> SplitScores:
    """Every score of one split; `seed` draws the bootstrap of macro F1.

    Raises DataError when the split cannot be scored (see `scorable`).
    """
    known = scorable(predictions, split)
    confusion = confusion_matrix(known.labels, known.predicted, len(known.classes))
    support, hits = confusion.sum(axis=1).tolist(), confusion.diagonal().tolist()
    macro = averages(confusion, weighted=False)
    scores = np.stack([precision(confusion), recall(confusion), f1(confusion)], axis=1).tolist()
    return SplitScores(
        n=len(known),
        top1=top1(confusion),
        top1_ci=wilson(sum(hits), len(known)),
        macro_f1=macro.f1,
        macro_f1_ci=bootstrap_macro_f1(confusion, seed=seed),
        loss=log_loss(known.labels, known.probabilities),
        macro=macro,
        weighted=averages(confusion, weighted=True),
        per_class=tuple(
            ClassScores(name=name, precision=p, recall=r, recall_ci=wilson(hit, n), f1=f, support=n)
            for name, (p, r, f), hit, n in zip(known.classes, scores, hits, support, strict=True)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def evaluate(predictions: Predictions, *, seed: int = 0) -> Evaluation:
    """Score each of the splits 'val', 'test' and 'train' that is there, on the images with a known label.

    Every split draws its bootstrap from the same `seed`: its interval does not depend on the other splits.

    Raises DataError when none is there or one of them cannot be scored (see `scorable`).
    """
    found = set(predictions.splits)
    present = [name for name in SPLITS if name in found]
    if not present:
        raise DataError(
            f"Nothing to score: {len(predictions)} predictions, none in a split called 'val', 'test' or "
            f"'train'; give their images one of these splits."
        )
    return Evaluation(
        classes=predictions.classes, splits={name: score(predictions, name, seed=seed) for name in present}
    )


def _share(part: Int[np.ndarray, " class"], whole: Int[np.ndarray, " class"]) -> PerClass:
    shares: PerClass = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return shares


def _listing(names: list[str]) -> str:
    # A thousand-class folder with five classes filled must not print 995 names.
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more classes"
