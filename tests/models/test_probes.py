"""Probes: what is read from features at once, against scikit-learn's own models and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from discern.models import probes
from discern.models.probes import PROBES, logistic_regression, nearest_neighbours, prototypes

CLASSES = 3


def clouds(count, seed, spread=1.0):
    """Points around the corners of a triangle far from the origin, two classes of three small."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, count, p=(0.8, 0.1, 0.1))
    centres = 4 * np.eye(CLASSES, 20) + 3
    return (centres[labels] + spread * rng.normal(size=(count, 20))).astype(np.float32), labels


@pytest.fixture
def data():
    return (*clouds(300, 0), *clouds(90, 1)), clouds(200, 2)


@pytest.mark.parametrize("name", PROBES)
def test_probabilities_are_right_for_what_is_easy_to_tell(data, name):
    known, (features, labels) = data
    said = PROBES[name](*known, CLASSES)(features)
    assert said.shape == (200, CLASSES)
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-4)
    assert (said.argmax(axis=1) == labels).mean() > 0.95
    assert all((said.argmax(axis=1) == k)[labels == k].mean() > 0.85 for k in range(CLASSES)), "small classes too"


def test_one_neighbour_is_scikit_learns(data, monkeypatch):
    monkeypatch.setattr(probes, "_NEIGHBOURS", (1,))
    monkeypatch.setattr(probes, "_PORTION", 7)
    (train, labels, *val), (features, _) = data
    said = nearest_neighbours(train, labels, *val, CLASSES)(features)
    expected = KNeighborsClassifier(1, metric="cosine").fit(train, labels).predict(features)
    np.testing.assert_array_equal(said.argmax(axis=1), expected)


def test_logistic_regression_is_scikit_learns_on_scaled_features(data, monkeypatch):
    monkeypatch.setattr(probes, "_STRENGTHS", (0.01,))
    (train, labels, *val), (features, _) = data
    scale = np.sqrt(500 / (train.astype(float) ** 2).sum(axis=1).mean())
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000).fit(train * scale, labels)
    said = logistic_regression(train, labels, *val, CLASSES)(features)
    np.testing.assert_allclose(said, model.predict_proba(features * scale), atol=0.01)


def test_prototypes_are_the_nearest_means_of_unit_features(data):
    (train, labels, *val), (features, _) = data
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, features)]
    means = NearestCentroid().fit(unit[0], labels).centroids_
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = (unit[1] @ means.T).argmax(axis=1)
    said = prototypes(train, labels, *val, CLASSES)(features)
    np.testing.assert_array_equal(said.argmax(axis=1), expected)


def test_settings_are_chosen_on_validation_alone(data):
    """Other images do not change what the probe is."""
    known, (features, _) = data
    for probe in PROBES.values():
        model = probe(*known, CLASSES)
        np.testing.assert_allclose(model(features)[:10], model(features[:10]), atol=1e-6)


@pytest.mark.parametrize("name", PROBES)
def test_a_class_without_a_training_image_is_never_likely(data, name):
    (train, labels, val, val_labels), (features, _) = data
    there = labels != 2
    said = PROBES[name](train[there], labels[there], val[val_labels != 2], val_labels[val_labels != 2], CLASSES)(
        features
    )
    assert (said.argmax(axis=1) != 2).all()
