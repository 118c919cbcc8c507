"""Comparison: which of several models is better, by how much, and which one to pick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import bdtr

from discern.errors import DataError, UsageError
from discern.evaluation.intervals import wilson
from discern.evaluation.metrics import confusion_matrix, f1, log_loss, scorable
from discern.runs.evaluation import Interval
from discern.runs.predictions import Predictions

# The level of every interval and test that Discern reports.
ALPHA = 0.05

Counts = Int[np.ndarray, " pair"]
Floats = Float[np.ndarray, " pair"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model in the table."""

    name: str
    """Name of the model, as the caller gave it."""
    n: int
    """Images scored; the same for every row."""
    top1: float
    """Share of images whose most probable class is the true one."""
    top1_ci: Interval
    """95 % interval of top1 (Wilson, 1927)."""
    macro_f1: float
    """Unweighted mean F1 over the classes."""
    loss: float
    """Mean cross-entropy in nats."""
    cost: float
    """What the model costs, in the unit the caller chose; smaller is cheaper."""
    baseline: bool
    """Stands in the table and in the tests, and is never picked."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models on the same images; `first` stands higher in the table."""

    first: str
    """Name of the model with the higher top1 (ties as in the table)."""
    second: str
    """Name of the other."""
    only_first: int
    """Images that `first` gets right and `second` does not."""
    only_second: int
    """Images that `second` gets right and `first` does not."""
    difference: float
    """Top1 of `first` minus top1 of `second`."""
    difference_ci: Interval
    """95 % paired interval of the difference (Newcombe, 1998, method 10), of this pair on its own."""
    p: float
    """Two-sided p of the exact McNemar test."""
    p_holm: float
    """The same, corrected for all pairs of the table (Holm, 1979)."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several models on the same images: the table, every pair, and the pick."""

    split: str
    """The split they were compared on."""
    rows: tuple[Row, ...]
    """By top1 from high to low, then from cheap to dear, then by name."""
    pairs: tuple[Pair, ...]
    """Every two rows."""
    best: str
    """The highest row that is not a baseline."""
    pick: str
    """The cheapest model, baselines aside, that is not significantly worse than `best` (p_holm >= 0.05)."""

    def unbeaten(self) -> tuple[str, ...]:
        """Baselines that the pick is not significantly better than: reason not to trust it yet."""
        beaten = {pair.second for pair in self.pairs if pair.first == self.pick and pair.p_holm < ALPHA}
        return tuple(row.name for row in self.rows if row.baseline and row.name not in beaten)

    def to_json(self) -> dict[str, Any]:
        """Plain values, what `discern compare --json` prints."""
        return asdict(self)


def compare(
    predictions: Mapping[str, Predictions],
    cost: Mapping[str, float],
    *,
    split: str = "test",
    baselines: frozenset[str] = frozenset(),
) -> Comparison:
    """Rank models on the images of one split with a known label, test every pair and pick one.

    `cost` has a number per model, in any one unit (seconds per image, parameters, euros); smaller is cheaper.
    The models named in `baselines` are ranked and tested like the others but never picked.

    Raises DataError when the models were not scored on the same images with the same labels and classes, when
    the split cannot be scored, or when all are baselines; UsageError when a cost is missing or not finite.
    """
    scored = _aligned({name: p.split(split) for name, p in predictions.items()}, split)
    if all(name in baselines for name in scored):
        raise DataError(f"Nothing to pick from: {len(scored)} baselines and no model; add a model.")
    for name in scored:
        if not math.isfinite(cost.get(name, math.nan)):
            raise UsageError(f"The cost of '{name}' is {cost.get(name, 'missing')}: give it a finite number.")

    known = {name: scorable(p, split) for name, p in scored.items()}
    rows = sorted(
        (_row(name, p, cost=float(cost[name]), baseline=name in baselines) for name, p in known.items()),
        key=lambda row: (-row.top1, row.cost, row.name),
    )
    correct = np.stack([known[row.name].predicted == known[row.name].labels for row in rows])
    pairs = _pairs([row.name for row in rows], correct)

    models = [row for row in rows if not row.baseline]
    best = models[0].name
    worse = {pair.second for pair in pairs if pair.first == best and pair.p_holm < ALPHA}
    # min keeps the first of equals: of equally cheap models the one with the higher top1.
    pick = min((row for row in models if row.name not in worse), key=lambda row: row.cost).name
    return Comparison(split=split, rows=tuple(rows), pairs=pairs, best=best, pick=pick)


def mcnemar(only_first: Counts, only_second: Counts) -> Floats:
    """Two-sided p of the exact McNemar test from the images only one of two models gets right.

    Under no difference each such image is a fair coin, so p is twice the smaller binomial tail; 1 when the
    models never disagree (McNemar, 1947, in its exact binomial form).
    """
    tail: Floats = bdtr(np.minimum(only_first, only_second), only_first + only_second, 0.5)
    p: Floats = np.minimum(1.0, 2 * tail)
    return p


def paired_interval(both: Counts, only_first: Counts, only_second: Counts, n: int) -> tuple[Floats, Floats]:
    """95 % interval, low and high, of the difference of two proportions measured on the same `n` images.

    Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: the Wilson limits of either proportion,
    joined with their correlation, itself corrected for continuity where it is positive. Chosen over Tango
    (1998) because it is closed form: half a million pairs in one pass. It is less cautious than the exact
    McNemar test: with few discordant images it can leave out 0 while p is above 0.05; the test decides.
    """
    neither = n - both - only_first - only_second
    right_1, right_2 = both + only_first, both + only_second
    down_1, up_1 = _wilson_arms(right_1, n)
    down_2, up_2 = _wilson_arms(right_2, n)

    determinant: Floats = (both * neither - only_first * only_second).astype(np.float64)
    determinant = np.where(determinant > 0, np.maximum(determinant - n / 2, 0), determinant)
    # Two roots, not the root of the product: four counts multiplied overflow int64 from 110,000 images.
    spread: Floats = np.sqrt(right_1 * (n - right_1)) * np.sqrt(right_2 * (n - right_2))
    correlation = np.divide(determinant, spread, out=np.zeros(len(spread)), where=spread > 0)

    difference = (only_first - only_second) / n
    low = difference - _joined(down_1, up_2, correlation)
    high = difference + _joined(up_1, down_2, correlation)
    return low, high


def holm(p: Floats) -> Floats:
    """Correct p-values for their number: the chance of any false alarm stays below the level (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def _row(name: str, known: Predictions, *, cost: float, baseline: bool) -> Row:
    confusion = confusion_matrix(known.labels, known.predicted, len(known.classes))
    hits = int(np.trace(confusion))
    return Row(
        name=name,
        n=len(known),
        top1=hits / len(known),
        top1_ci=wilson(hits, len(known)),
        macro_f1=float(f1(confusion).mean()),
        loss=log_loss(known.labels, known.probabilities),
        cost=cost,
        baseline=baseline,
    )


def _pairs(names: list[str], correct: Bool[np.ndarray, "model image"]) -> tuple[Pair, ...]:
    # One matrix product counts the images any two models both get right: the half million pairs of a sweep of
    # a thousand take seconds. Float32 is half the memory and holds counts up to 2 ** 24 exactly.
    n = correct.shape[1]
    hits: Float[np.ndarray, "model image"] = correct.astype(np.float32 if n <= 2**24 else np.float64)
    joint = (hits @ hits.T).astype(np.int64)
    first, second = np.triu_indices(len(names), k=1)
    both, right = joint[first, second], joint.diagonal()
    only_first, only_second = right[first] - both, right[second] - both

    p = mcnemar(only_first, only_second)
    p_holm = holm(p)
    low, high = paired_interval(both, only_first, only_second, n)
    difference = (only_first - only_second) / n
    return tuple(
        Pair(
            first=names[first[i]],
            second=names[second[i]],
            only_first=int(only_first[i]),
            only_second=int(only_second[i]),
            difference=float(difference[i]),
            difference_ci=(float(low[i]), float(high[i])),
            p=float(p[i]),
            p_holm=float(p_holm[i]),
        )
        for i in range(len(first))
    )


def _wilson_arms(successes: Counts, n: int) -> tuple[Floats, Floats]:
    # How far the Wilson limits lie below and above the proportion; once per model, not once per pair.
    distinct, where = np.unique(successes, return_inverse=True)
    limits = np.array([wilson(s, n) for s in distinct.tolist()]).reshape(-1, 2)[where]
    return successes / n - limits[:, 0], limits[:, 1] - successes / n


def _joined(arm_1: Floats, arm_2: Floats, correlation: Floats) -> Floats:
    # The maximum takes off the rounding below zero that correlation 1 with equal arms leaves.
    squared: Floats = arm_1**2 - 2 * correlation * arm_1 * arm_2 + arm_2**2
    arm: Floats = np.sqrt(np.maximum(squared, 0))
    return arm


def _aligned(predictions: Mapping[str, Predictions], split: str) -> dict[str, Predictions]:
    """Put every model's images in one order, after checking that they are the same."""
    if not predictions:
        raise DataError("Nothing to compare: no predictions were given; give those of at least one model.")
    reference, *others = predictions
    ordered = {name: _by_image(name, p, split) for name, p in predictions.items()}
    for name in others:
        _check_same(reference, ordered[reference], name, ordered[name], split)
    return ordered


def _by_image(name: str, predictions: Predictions, split: str) -> Predictions:
    images = np.array(predictions.images, dtype=object)
    order = np.argsort(images, kind="stable")
    twice = np.flatnonzero(images[order][1:] == images[order][:-1])
    if twice.size:
        raise DataError(
            f"'{name}' has {twice.size} {split} images more than once (e.g. '{images[order][twice[0]]}'): "
            f"images cannot be matched between models; predict each one once."
        )
    return predictions.take(order)


def _check_same(name_a: str, a: Predictions, name_b: str, b: Predictions, split: str) -> None:
    remedy = "evaluate both on one folder: `discern evaluate RUN PHOTOS`."
    if a.classes != b.classes:
        differing = sorted(set(a.classes) ^ set(b.classes))
        detail = "another order"
        if differing:
            detail = f"{len(differing)} only in one of them, e.g. '{differing[0]}'"
        raise DataError(
            f"'{name_a}' and '{name_b}' do not have the same classes ({detail}): "
            f"train both on one set of classes, then {remedy}"
        )
    if a.images != b.images:
        only_a, only_b = set(a.images) - set(b.images), set(b.images) - set(a.images)
        raise DataError(
            f"'{name_a}' and '{name_b}' were not scored on the same {split} images ({len(only_a)} only in "
            f"'{name_a}', {len(only_b)} only in '{name_b}', e.g. '{min(only_a | only_b)}'): {remedy}"
        )
    other = np.flatnonzero(a.labels != b.labels)
    if other.size:
        raise DataError(
            f"'{name_a}' and '{name_b}' do not have the same labels for {other.size} of {len(a)} {split} "
            f"images (e.g. '{a.images[other[0]]}'): {remedy}"
        )
