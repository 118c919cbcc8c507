"""Outliers: strangers among images that are alike, found by their distance to the ten nearest."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.neighbors import NearestNeighbors

from discern.data.audit import outliers
from discern.data.audit.outliers import Space, by_facts, by_features, outlier_findings, outlier_scores
from discern.data.scan import scan
from discern.data.sources import open_dataset


def clouds(seed, count=200, strangers=5):
    """Features of two kinds of images, and last of some that are of neither."""
    random = np.random.default_rng(seed)
    kinds = random.normal(0, 1, (2, 32)) + 4
    alike = kinds[random.integers(0, 2, count)] + random.normal(0, 0.4, (count, 32))
    return np.concatenate([alike, random.normal(0, 4, (strangers, 32))]).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_strangers_are_found_and_few_others(seed):
    scores, outlying = outlier_scores(by_features(clouds(seed)))
    assert outlying[-5:].all()
    assert outlying[:-5].mean() < 0.05
    assert scores[-5:].max() < scores[:-5].min()


def test_scores_are_shares_and_under_one_half_exactly_for_outliers():
    scores, outlying = outlier_scores(by_features(clouds(0)))
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert ((scores < 0.5) == outlying).all()


def test_how_long_a_feature_vector_is_does_not_matter():
    features = clouds(1)
    longer = features * np.random.default_rng(0).uniform(0.1, 10, (len(features), 1)).astype(np.float32)
    np.testing.assert_allclose(*(outlier_scores(by_features(each))[0] for each in (features, longer)), atol=1e-4)


@pytest.mark.parametrize("count", [40, 1500])
def test_distances_are_those_of_an_independent_search(count):
    points = np.random.default_rng(2).normal(size=(count, 8)).astype(np.float32)
    nearest, _ = NearestNeighbors(n_neighbors=10).fit(points).kneighbors()  # without arguments none is its own
    expected = nearest.mean(axis=1)
    scores, outlying = outlier_scores(Space(points=points, limit=1.5, what="numbers"))
    deviation = 1.4826 * np.median(np.abs(expected - np.median(expected)))
    far = (expected - np.median(expected)) / max(deviation, expected.std() / 2)
    np.testing.assert_allclose(scores, np.clip(1 - far / 3, 0, 1), atol=1e-4)
    assert (outlying == (far > 1.5)).mean() > 0.99


def test_among_very_many_images_a_part_is_looked_at(monkeypatch):
    monkeypatch.setattr(outliers, "_REFERENCES", 150)
    scores, outlying = outlier_scores(by_features(clouds(3, count=3000)))
    assert outlying[-5:].all()
    assert outlying[:-5].mean() < 0.05
    np.testing.assert_array_equal(scores, outlier_scores(by_features(clouds(3, count=3000)))[0])


@pytest.mark.parametrize("count", [3, 4, 11])
def test_a_handful_of_images_has_scores_too(count):
    scores, _ = outlier_scores(by_features(clouds(0, count=count, strangers=0)))
    assert np.isfinite(scores).all()


def test_copies_make_no_outliers_of_the_rest():
    """With three images in five equal, the median distance is none, and all others would be far."""
    features = clouds(5, count=100, strangers=0)
    features[:60] = features[0]
    assert outlier_scores(by_features(features))[1].sum() <= 2


def test_equal_images_are_no_outliers():
    assert not outlier_scores(by_features(np.ones((30, 8), np.float32)))[1].any()


@pytest.fixture
def strange(scenes):
    """Sixty scenes, and two pictures that are lit and coloured like none of them."""
    from PIL import Image, ImageOps

    root = scenes({"cat": 30, "dog": 30})
    with Image.open(root / "cat/000.jpg") as picture:
        ImageOps.posterize(picture.convert("L"), 1).save(root / "cat/drawing.png")
        Image.merge("RGB", [picture.getchannel("R"), *[Image.new("L", picture.size)] * 2]).save(root / "dog/red.png")
    return scan(open_dataset(root), size=32, fit="pad")[0]


def test_facts_tell_pictures_that_are_lit_and_coloured_otherwise(strange):
    space = by_facts(strange)
    scores, outlying = outlier_scores(space)
    names = np.array(strange.images)
    assert set(names[np.argsort(scores)[:2]]) == {"cat/drawing.png", "dog/red.png"}
    (finding,) = outlier_findings(strange, space, scores, outlying)
    assert set(finding.rows) == set(names[outlying])
    assert {"cat/drawing.png", "dog/red.png"} <= set(finding.rows)
    assert finding.rows[0] == names[np.argmin(scores)]
    assert (finding.kind, finding.severity) == ("outlier", "note")
    assert "brightness, contrast, colour and sharpness" in finding.evidence
    assert finding.detail["values"] == sorted(finding.detail["values"])


def test_what_a_person_decided_is_not_asked_again(strange):
    decided = [image == "cat/drawing.png" for image in strange.images]
    kept = pl.Series("decision", ["keep" if each else None for each in decided], dtype=pl.String)
    data, space = strange.with_columns(kept), by_facts(strange)
    (finding,) = outlier_findings(data, space, *outlier_scores(space))
    assert "cat/drawing.png" not in finding.rows


def test_nothing_is_said_when_there_is_none(strange):
    few = replace(strange, table=strange.table.filter(pl.col("image").str.contains(r"\d")))
    scores, _ = outlier_scores(by_facts(few))
    assert list(outlier_findings(few, by_facts(few), scores, np.zeros(len(few), bool))) == []
