"""Trivial baselines: what a score must beat to mean anything."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Images = UInt8[np.ndarray, "image size size 3"]
Labels = Int[np.ndarray, " image"]
Probabilities = Float[np.ndarray, "image class"]

TRAINING_LIMIT = 10_000
"""Training images the histogram baseline looks at, at most: more change its score by less than its interval."""

_BINS = 4  # per channel: 64 colours, enough to tell grass from sky, few enough to fit on 100 images


def majority(train_labels: Labels, count: int, classes: int) -> Probabilities:
    """The training classes' shares for each of `count` images: always predicts the most frequent class."""
    shares = np.bincount(train_labels, minlength=classes) / len(train_labels)
    return np.tile(shares.astype(np.float32), (count, 1))


def spread(count: int) -> Labels:
    """Rows of at most TRAINING_LIMIT training images, evenly spread, as tables are sorted by class."""
    return np.linspace(0, count - 1, min(count, TRAINING_LIMIT)).astype(np.int64)


def color_histograms(images: Images) -> Float[np.ndarray, "image 64"]:
    """Share of each image's pixels in each of 4 x 4 x 4 colours, float32."""
    shares = np.empty((len(images), _BINS**3), np.float32)
    for row, image in enumerate(images):  # one by one, so that thousands of images need no memory of their own
        red, green, blue = np.moveaxis(image // (256 // _BINS), -1, 0)
        codes = red * np.uint8(_BINS**2) + green * np.uint8(_BINS) + blue
        shares[row] = np.bincount(codes.ravel(), minlength=_BINS**3) / codes.size
    return shares


def color_histogram_model(
    train: Float[np.ndarray, "image 64"], labels: Labels, others: Float[np.ndarray, "other 64"], classes: int
) -> Probabilities:
    """Logistic regression on colour histograms: how far colour alone goes."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline may stop a little short of its optimum
        model.fit(train, labels)
    probabilities = np.zeros((len(others), classes), np.float32)
    probabilities[:, model.classes_] = model.predict_proba(others)
    return probabilities
