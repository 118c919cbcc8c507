"""Outliers: images like no other, by their distance to the ten nearest.

Where a pretrained network describes the images, the distance is between the directions of its features. Without one
it is between a few facts of the scan (brightness, contrast, colour, sharpness), which tell a stranger as long as it is
lit or coloured differently; patches of the images do not tell it at all.

Measured with twenty strangers put among 1,600 to 2,000 images, mean of four draws: AUROC of the
distance with features of MobileNetV2 0.98 to 1.00 in all of five mixtures of photos, parts and CIFAR-10; with facts
0.92 to 0.97 in four and 0.57 in one; with patches 0.46 to 0.89.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset

Points = Float[np.ndarray, "image value"]

_NEIGHBOURS, _REFERENCES = 10, 10_000

FEWEST = 5 * _NEIGHBOURS
"""Images among which it makes sense to ask: of fewer, the nearest ten are not near."""

_FACTS = ("brightness", "contrast", "low", "high", "entropy", "colorfulness", "sharpness")

_FARTHEST = 8.0
"""Deviations by which a fact counts as different at most: one fact alone does not make any distance."""

_SAME = 1e-3
"""Distance up to which points are one but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """Images as points whose distances say how alike they are."""

    points: Points
    """A row for each image."""
    limit: float
    """Deviations above the usual distance from which an image is an outlier: few images of their own are."""
    what: str
    """What the distance is about."""


def by_features(features: Points) -> Space:
    """By the directions of a pretrained network's features; standardising them would hide the strangers."""
    values = np.asarray(features, np.float32)
    length = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return Space(points=values / length, limit=2.25, what="what a pretrained network sees")


def by_facts(dataset: Dataset) -> Space:
    """By facts of the scan, each in robust deviations from its median."""
    values = dataset.table.select(_FACTS).to_numpy().astype(np.float64)
    distance = values - np.median(values, axis=0)
    deviation = [_deviation(column) for column in values.T]
    return Space(
        points=np.clip(distance / deviation, -_FARTHEST, _FARTHEST).astype(np.float32),
        limit=6.0,
        what="brightness, contrast, colour and sharpness",
    )


def outlier_scores(space: Space, *, seed: int = 0) -> tuple[Float[np.ndarray, " image"], Bool[np.ndarray, " image"]]:
    """How much each image is like others: a score in [0, 1], under one half for outliers, and whether it is one.

    Neighbours are looked for among ten thousand images at most, drawn by the seed.
    """
    distance = _to_neighbours(space.points, seed)
    usual = distance[distance > _SAME] if (distance > _SAME).any() else distance  # copies are near, but not usual
    far = (distance - np.median(usual)) / _deviation(usual)
    return np.clip(1 - far / (2 * space.limit), 0, 1), far > space.limit


def outlier_findings(
    dataset: Dataset, space: Space, scores: Float[np.ndarray, " image"], outlying: Bool[np.ndarray, " image"]
) -> Iterator[Finding]:
    """One Finding for all outliers that nobody has decided about, the loneliest first."""
    rows = np.flatnonzero(outlying & dataset.table["decision"].is_null().to_numpy())
    if not len(rows):
        return
    rows = rows[np.argsort(scores[rows], kind="stable")]
    images = "1 image is" if len(rows) == 1 else f"{len(rows):,} images are"
    yield Finding(
        kind="outlier",
        severity="note",
        rows=tuple(dataset.images[row] for row in rows),
        evidence=(
            f"{images} like no other: in {space.what}, the distance to the ten most alike is over {space.limit:g} "
            "deviations above the usual."
        ),
        remedy="Look at them; drop those that belong to no class (`discern relabel PHOTOS IMAGE --drop`).",
        detail={"values": [round(float(scores[row]), 4) for row in rows]},
    )


def _to_neighbours(points: Points, seed: int) -> Float[np.ndarray, " image"]:
    """Mean distance of each point to the nearest ten of the others."""
    count = len(points)
    chosen = np.random.default_rng(seed).choice(count, min(count, _REFERENCES), replace=False)
    reference, near = points[chosen], min(_NEIGHBOURS, len(chosen) - 1)
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    squares, distance = (reference**2).sum(axis=1), np.empty(count)
    for start in range(0, count, 1024):
        rows = np.arange(start, min(start + 1024, count))
        apart = (points[rows] ** 2).sum(axis=1)[:, None] + squares - 2 * points[rows] @ reference.T
        own = np.flatnonzero(place[rows] >= 0)
        apart[own, place[rows[own]]] = np.inf  # not its own neighbour
        nearest = np.partition(apart, near - 1, axis=1)[:, :near]
        distance[rows] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
    return distance


def _deviation(values: Float[np.ndarray, " n"]) -> float:
    """Robust standard deviation, by the median distance to the median; half the usual one where most are equal."""
    robust = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return max(robust, float(values.std()) / 2, 1e-6)
