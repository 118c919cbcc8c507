from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

from discern.errors import DataError
from discern.evaluation.intervals import bootstrap_macro_f1, f1_from_counts, wilson


@given(n=st.integers(1, 100_000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
@settings(deadline=None)
def test_wilson_is_the_interval_statsmodels_gives(n, share, confidence):
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert wilson(successes, n, confidence=confidence) == pytest.approx(expected, abs=1e-12)


@given(n=st.integers(1, 10_000), share=st.floats(0, 1))
@settings(deadline=None)
def test_wilson_holds_the_share_itself_and_stays_a_share(n, share):
    successes = round(share * n)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_ends_exactly_at_0_and_1():
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 500))
    assert all(wilson(0, n)[1] > 0 for n in range(1, 500))


@pytest.mark.parametrize("p", [0.03, 0.2, 0.5, 0.9])
def test_wilson_covers_the_truth_about_95_times_in_100(p):
    hits = np.random.default_rng(7).binomial(80, p, size=4000)
    by_count = [wilson(k, 80) for k in range(81)]
    covered = np.mean([by_count[k][0] <= p <= by_count[k][1] for k in hits])
    # Counts are discrete, so the coverage oscillates around 0.95; the Wald interval has 0.91 at p = 0.03.
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_counts_that_are_none(successes, n):
    with pytest.raises(DataError, match=f"{successes} of {n} images"):
        wilson(successes, n)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
@settings(deadline=None, max_examples=50)
def test_f1_from_counts_is_scikit_learns_with_and_without_a_batch(pairs):
    labels, predicted = np.array(pairs).T
    hits = np.array([np.sum((labels == k) & (predicted == k)) for k in range(4)], dtype=float)
    called, support = (np.bincount(x, minlength=4).astype(float) for x in (predicted, labels))
    expected = f1_score(labels, predicted, labels=range(4), average=None, zero_division=0)
    np.testing.assert_allclose(f1_from_counts(hits, called, support), expected)
    np.testing.assert_allclose(f1_from_counts(np.stack([hits] * 2), np.stack([called] * 2), support)[1], expected)


CONFUSION = np.array([[40, 8, 2], [5, 60, 0], [3, 9, 18]])


def naive(confusion, seed):
    """The same interval from scipy, which redraws the images of each class one by one."""
    rows = [np.repeat(np.arange(len(row)), row) for row in confusion]

    def macro_f1(*drawn, axis=-1):
        scores = []
        for k in range(len(drawn)):
            hits = np.sum(drawn[k] == k, axis=axis)
            called = sum(np.sum(images == k, axis=axis) for images in drawn)
            precision = np.where(called > 0, hits / np.maximum(called, 1), 0)
            recall = hits / drawn[k].shape[axis]
            both = precision + recall
            scores.append(np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0))
        return np.mean(scores, axis=0)

    result = bootstrap(
        rows,
        macro_f1,
        n_resamples=10_000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return result.confidence_interval


@pytest.mark.parametrize(
    "confusion",
    [CONFUSION, np.array([[0, 6, 0], [1, 9, 2], [0, 0, 30]])],
    ids=["middling", "a class never hit"],
)
def test_bootstrap_agrees_with_resampling_the_images(confusion):
    low, high = bootstrap_macro_f1(confusion)
    expected = tuple(naive(confusion, seed=1))
    # An end point has a standard error of 1.5 % of the width.
    assert [low, high] == pytest.approx(expected, abs=0.06 * (high - low))


def test_bootstrap_of_a_tiny_set_is_the_exact_distribution():
    # 10 and 6 images of two classes: all 11 x 7 outcomes can be listed with their probability.
    first, second = np.meshgrid(np.arange(11), np.arange(7), indexing="ij")
    probability = np.outer(binom.pmf(np.arange(11), 10, 0.7), binom.pmf(np.arange(7), 6, 5 / 6)).ravel()
    f1 = (2 * first / (10 + first + 6 - second) + 2 * second / (6 + second + 10 - first)) / 2
    order = np.argsort(f1, axis=None)
    cumulated = np.cumsum(probability[order])

    def exact(q):
        return f1.ravel()[order][np.searchsorted(cumulated, q)]

    low, high = bootstrap_macro_f1(np.array([[7, 3], [1, 5]]))
    # Four standard errors of a share of 0.025 among 2,000 replicates.
    assert exact(0.025 - 0.014) <= low <= exact(0.025 + 0.014)
    assert exact(0.975 - 0.014) <= high <= exact(0.975 + 0.014)


def test_bootstrap_repeats_with_the_seed_and_moves_little_without():
    first = bootstrap_macro_f1(CONFUSION, seed=3)
    assert bootstrap_macro_f1(CONFUSION, seed=3) == first
    others = [bootstrap_macro_f1(CONFUSION, seed=seed) for seed in range(10, 20)]
    assert first not in others
    assert np.std([low for low, _ in others]) < 0.05 * (first[1] - first[0])


def test_bootstrap_narrows_as_the_images_grow():
    widths = [high - low for low, high in (bootstrap_macro_f1(CONFUSION * factor) for factor in (1, 4, 16))]
    assert all(wide / narrow == pytest.approx(2, rel=0.15) for wide, narrow in pairwise(widths))


def test_bootstrap_of_a_perfect_model_is_a_point_and_a_class_without_images_counts_zero():
    assert bootstrap_macro_f1(np.diag([5, 8, 1])) == (1.0, 1.0)
    assert bootstrap_macro_f1(np.diag([5, 0])) == (0.5, 0.5)


def test_bootstrap_refuses_an_empty_matrix():
    with pytest.raises(DataError, match="no image"):
        bootstrap_macro_f1(np.zeros((2, 2), dtype=np.int64))
