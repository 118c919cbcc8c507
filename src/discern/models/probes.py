"""Probes: what can be read from features of a published network at once, without training it.

Their settings are chosen on the validation images. All weigh the classes alike, as training does by default.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Features = Float[np.ndarray, "image feature"]
Labels = Int[np.ndarray, " image"]
Probabilities = Float[np.ndarray, "image class"]
Model = Callable[[Features], Probabilities]

_NEIGHBOURS = (1, 5, 10, 20)
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse L2 penalties, for features whose mean square is one in sum over 500 of them, as photos have."""
_SHARPNESS = (5.0, 10.0, 20.0, 40.0)
"""Factors of the cosine similarity to a class."""

_TEMPERATURE = 0.07
"""Of neighbours' votes (Wu et al., 2018)."""

_PORTION = 1_000  # images compared with all others at a time


def nearest_neighbours(train: Features, labels: Labels, val: Features, val_labels: Labels, classes: int) -> Model:
    """Votes of the most similar training images, by cosine; each class's votes count by its share of images."""
    known, weight = _unit(train), 1 / np.maximum(np.bincount(labels, minlength=classes), 1)

    def model(count: int) -> Model:
        return lambda features: np.concatenate(
            [
                _votes(_unit(features[start : start + _PORTION]) @ known.T, labels, weight, min(count, len(known)))
                for start in range(0, max(len(features), 1), _PORTION)
            ]
        )

    return _best([model(count) for count in _NEIGHBOURS], val, val_labels, classes)


def logistic_regression(train: Features, labels: Labels, val: Features, val_labels: Labels, classes: int) -> Model:
    """A linear classifier, by L-BFGS; raw features, their scale set once for all."""
    scale = np.sqrt(500 / np.mean(np.square(train, dtype=np.float64).sum(axis=1)))

    def model(strength: float) -> Model:
        fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # near enough for a baseline
            fitted.fit(train * scale, labels)

        def probabilities(features: Features) -> Probabilities:
            found = np.zeros((len(features), classes), np.float32)
            found[:, fitted.classes_] = fitted.predict_proba(features * scale)
            return found

        return probabilities

    return _best([model(strength) for strength in _STRENGTHS], val, val_labels, classes)


def prototypes(train: Features, labels: Labels, val: Features, val_labels: Labels, classes: int) -> Model:
    """Cosine similarity to the mean of each class (Snell, Swersky & Zemel, 2017)."""
    unit = _unit(train)
    means = np.stack([unit[labels == k].mean(axis=0) if (labels == k).any() else 0 * unit[0] for k in range(classes)])
    centres = _unit(means)

    def model(sharpness: float) -> Model:
        return lambda features: softmax(sharpness * _unit(features) @ centres.T, axis=1).astype(np.float32)

    return _best([model(sharpness) for sharpness in _SHARPNESS], val, val_labels, classes)


PROBES = {
    "logistic regression": logistic_regression,
    "nearest neighbours": nearest_neighbours,
    "prototypes": prototypes,
}
"""By name; each takes training and validation features with their labels, and the number of classes."""


def _best(models: list[Model], val: Features, labels: Labels, classes: int) -> Model:
    """The one with the least validation loss, every class weighing the same."""
    weight = (len(labels) / np.maximum(np.bincount(labels, minlength=classes), 1))[labels]

    def loss(model: Model) -> float:
        given = model(val)[np.arange(len(labels)), labels]
        return float(np.average(-np.log(np.clip(given, 1e-6, 1)), weights=weight))

    return min(models, key=loss)


def _votes(
    similarity: Float[np.ndarray, "image other"], labels: Labels, weight: Float[np.ndarray, " class"], count: int
) -> Probabilities:
    near = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    closeness = np.exp(np.take_along_axis(similarity, near, axis=1) / _TEMPERATURE)
    votes = np.full((len(similarity), len(weight)), 1e-6)
    for column in range(near.shape[1]):
        its = labels[near[:, column]]
        np.add.at(votes, (np.arange(len(votes)), its), closeness[:, column] * weight[its])
    return np.asarray(votes / votes.sum(axis=1, keepdims=True), np.float32)


def _unit(rows: Features) -> Features:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)
