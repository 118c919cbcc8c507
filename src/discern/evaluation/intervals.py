"""Intervals: how far a score measured on n images may be from the truth."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from discern.errors import DataError
from discern.runs.evaluation import Interval

# From seed to seed an end point of a 95 % percentile interval then moves by 1.5 % of the width (one standard
# error: sqrt(0.025 x 0.975 / 2000) over the normal density at 1.96, in units of 3.92).
REPLICATES = 2000


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion of `successes` among `n` images (Wilson, 1927).

    Holds its coverage near 0 and 1, where the textbook interval shrinks to nothing.

    Raises DataError when there is no image or the counts contradict each other.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"No interval for {successes} of {n} images: count at least one image and no more hits.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The end points 0 and 1 are exact in theory and off by a rounding in floating point.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return (low, high)


def f1_from_counts(
    hits: Float[np.ndarray, "*batch class"],
    called: Float[np.ndarray, "*batch class"],
    support: Float[np.ndarray, " class"],
) -> Float[np.ndarray, "*batch class"]:
    """F1 of every class: 2 hits / (called + support), 0 for a class that neither exists nor is called.

    `hits` are the images called the class they are, `called` those called it at all, `support` those that are
    it. The same number as the harmonic mean of precision and recall, and defined where those are not
    (van Rijsbergen, 1979).
    """
    either = called + support
    scores: Float[np.ndarray, "*batch class"] = np.divide(
        2 * hits, either, out=np.zeros(either.shape), where=either > 0
    )
    return scores


def bootstrap_macro_f1(confusion: Int[np.ndarray, "true predicted"], *, seed: int = 0) -> Interval:
    """95 % percentile interval of macro F1 from a bootstrap stratified by true class (Efron, 1979).

    Drawing the images of one class with replacement and counting what they were called is one multinomial
    draw from that class's row of the confusion matrix, so no image is touched: the cost hardly depends on n.
    The same `seed` gives the same interval.

    Raises DataError when the matrix counts no image.
    """
    support = confusion.sum(axis=1)
    if not support.any():
        raise DataError("No interval for macro F1: the confusion matrix counts no image; score at least one.")
    rng = np.random.default_rng(seed)
    classes = len(confusion)
    hits = np.zeros((REPLICATES, classes))
    called = np.zeros((REPLICATES, classes))
    for k in np.flatnonzero(support):
        # Only the cells in use are drawn: of a thousand classes a row fills a few dozen.
        cells = np.flatnonzero(confusion[k])
        drawn = rng.multinomial(support[k], confusion[k, cells] / support[k], size=REPLICATES)
        called[:, cells] += drawn
        if confusion[k, k]:
            hits[:, k] = drawn[:, np.searchsorted(cells, k)]
    macro = f1_from_counts(hits, called, support.astype(np.float64)).mean(axis=1)
    low, high = np.quantile(macro, [0.025, 0.975])
    return (float(low), float(high))
