"""Wrong labels: found among images that a classifier can tell, judged by none that has seen them."""

import sys
from pathlib import Path

import cleanlab.filter
import cleanlab.rank
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from discern.data.audit import suspects
from discern.data.audit.suspects import (
    SURE,
    SUSPECTS,
    cleanlab_labels,
    label_scores,
    out_of_sample,
    suspect_findings,
    suspect_labels,
)
from discern.data.dataset import Dataset
from discern.errors import MissingExtra
from discern.progress import Silent

CLASSES = ("cat", "dog", "fox")


def dataset(labels, *, classes=CLASSES, decision=None, digests=None):
    n = len(labels)
    columns = {
        "image": [f"{i}.jpg" for i in range(n)],
        "label": pl.Series(labels, dtype=pl.Int32),
        "digest": digests or [f"{i:032x}" for i in range(n)],
        "group": pl.Series([None] * n, dtype=pl.String),
        "decision": pl.Series(decision or [None] * n, dtype=pl.String),
    }
    return Dataset(root=Path("/photos"), classes=classes, table=pl.DataFrame(columns))


def flipped(seed, *, count=300, share=0.1, apart=3.0):
    """Features of three kinds, their labels with a share changed, and which were."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    features = random.normal(0, 1, (count, 40)).astype(np.float32)
    features[:, :3] += apart * np.eye(3)[truth]
    wrong = random.permutation(count)[: int(share * count)]
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, 3, len(wrong))) % 3
    return features, labels, truth, np.isin(np.arange(count), wrong)


def probabilities(seed, count=200, classes=3):
    """Made-up probabilities that are mostly right about made-up labels."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
    logits = random.normal(0, 1.5, (count, classes))
    logits[np.arange(count), labels] += random.normal(2, 2, count)
    found = np.exp(logits)
    return labels, found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(4))
def test_changed_labels_are_found_with_what_they_were(seed):
    features, labels, truth, wrong = flipped(seed, count=600, apart=6.0)
    judged = out_of_sample(dataset(labels), features)
    suggested = suspect_labels(labels, judged)
    suspect = suggested >= 0
    assert (suspect & wrong).sum() / wrong.sum() > 0.8
    assert (suspect & wrong).sum() / suspect.sum() > 0.9
    assert average_precision_score(wrong, 1 - label_scores(labels, judged)) > 0.95
    assert (suggested == truth)[suspect & wrong].all()


def test_one_wrong_label_among_many_is_found():
    features, labels, _, _ = flipped(0, share=0, apart=8.0)
    labels[7] = (labels[7] + 1) % 3
    assert np.flatnonzero(suspect_labels(labels, out_of_sample(dataset(labels), features)) >= 0).tolist() == [7]


def test_right_labels_that_can_be_told_are_not_suspect():
    features, labels, _, _ = flipped(0, share=0, apart=8.0)
    assert (suspect_labels(labels, out_of_sample(dataset(labels), features)) == -1).all()


@pytest.mark.parametrize("count", [60, 200, 600, 2000])
def test_few_images_do_not_make_the_classifier_too_modest(count):
    """What it is sure of, it is right about as often as it says, whatever their number."""
    features, labels, _, _ = flipped(0, count=count, apart=6.0)
    judged = out_of_sample(dataset(labels), features)
    assert judged.max(axis=1).mean() == pytest.approx((judged.argmax(axis=1) == labels).mean(), abs=0.06)
    assert (suspect_labels(labels, judged) >= 0).any()


def test_probabilities_are_of_every_class_and_sum_to_one():
    features, labels, _, _ = flipped(0)
    judged = out_of_sample(dataset(labels), features)
    assert judged.shape == (300, 3)
    np.testing.assert_allclose(judged.sum(axis=1), 1)


def test_no_image_is_judged_by_a_classifier_that_has_seen_it_or_its_copies():
    """Labels without any sense are told by chance, even when each image is there twice."""
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(200) % 2, 2)
    features = np.tile(random.normal(0, 1, (200, 400)), (2, 1)).astype(np.float32)
    pairs = [(k, k + 200) for k in range(200)]
    data = dataset(labels, classes=("cat", "dog"))
    together = out_of_sample(data, features, clusters=pairs).argmax(axis=1) == labels
    apart = out_of_sample(data, features).argmax(axis=1) == labels
    same_file = dataset(labels, classes=("cat", "dog"), digests=[f"{k % 200:032x}" for k in range(400)])
    assert abs(together.mean() - 0.5) < 0.12
    assert abs((out_of_sample(same_file, features).argmax(axis=1) == labels).mean() - 0.5) < 0.12
    assert apart.mean() > 0.75


def test_of_very_many_images_some_of_each_class_are_learned_from(monkeypatch):
    monkeypatch.setattr(suspects, "_TAUGHT_BY", 240)
    monkeypatch.setattr(suspects, "_LEAST_OF_CLASS", 20)
    features, labels, _, wrong = flipped(0, count=3000, apart=6.0)
    rare = np.flatnonzero(labels == 2)[:-30]
    kept = np.setdiff1d(np.arange(3000), rare)  # 30 images of the third class among two thousand
    judged = out_of_sample(dataset(labels[kept]), features[kept])
    assert average_precision_score(wrong[kept], 1 - label_scores(labels[kept], judged)) > 0.9
    assert (judged.argmax(axis=1) == 2)[labels[kept] == 2].mean() > 0.7


def test_the_answer_does_not_depend_on_anything_but_images_labels_and_seed():
    features, labels, _, _ = flipped(1)
    data = dataset(labels)
    np.testing.assert_array_equal(out_of_sample(data, features), out_of_sample(data, features))
    assert not np.array_equal(out_of_sample(data, features, seed=1), out_of_sample(data, features))


def test_a_class_too_small_for_five_folds_is_said_and_nothing_is_judged():
    said = []

    class Listener(Silent):
        def say(self, message):
            said.append(message)

    labels = np.array([0] * 20 + [1] * 4)
    assert out_of_sample(dataset(labels, classes=("cat", "dog")), np.ones((24, 3), np.float32)) is None
    assert out_of_sample(dataset(labels, classes=("cat", "dog")), np.ones((24, 3)), progress=Listener()) is None
    (sentence,) = said
    assert sentence.startswith("Wrong labels are not looked for. The class 'dog' has 4 images")


def test_a_class_without_images_is_never_suggested():
    features, labels, _, _ = flipped(0)
    data = dataset(labels, classes=(*CLASSES, "owl"))
    judged = out_of_sample(data, features)
    assert judged.shape == (300, 4)
    for each in SUSPECTS.values():
        suggested = each(labels, judged)
        assert (suggested >= 0).any()
        assert 3 not in suggested


@given(seed=st.integers(0, 10_000), count=st.integers(20, 300), classes=st.integers(2, 8))
@settings(deadline=None, max_examples=60)
def test_ours_are_those_of_confident_learning_and_more_where_another_class_is_far_more_probable(seed, count, classes):
    labels, judged = probabilities(seed, count, classes)
    confident = cleanlab.filter.find_label_issues(labels, judged, filter_by="confident_learning", n_jobs=1)
    suggested = suspect_labels(labels, judged)
    suspect, given = suggested >= 0, label_scores(labels, judged)
    far_more = judged.max(axis=1) >= SURE * given
    np.testing.assert_array_equal(suspect, far_more)
    np.testing.assert_array_equal(suspect & confident, confident & far_more)
    assert (suggested[suspect] == judged[suspect].argmax(axis=1)).all()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_the_score_is_the_self_confidence_of_cleanlab(seed):
    labels, judged = probabilities(seed)
    theirs = cleanlab.rank.get_label_quality_scores(labels, judged, method="self_confidence")
    np.testing.assert_allclose(label_scores(labels, judged), theirs)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_cleanlab_is_asked_as_it_comes(seed):
    labels, judged = probabilities(seed)
    suggested = cleanlab_labels(labels, judged)
    np.testing.assert_array_equal(suggested >= 0, cleanlab.filter.find_label_issues(labels, judged, n_jobs=1))
    assert (suggested != labels).all()


def test_ours_are_fewer_and_more_of_them_are_wrong():
    features, labels, _, wrong = flipped(0, count=1500, apart=2.0)
    judged = out_of_sample(dataset(labels), features)
    ours, theirs = (each(labels, judged) >= 0 for each in (suspect_labels, cleanlab_labels))
    assert ours.sum() < theirs.sum()
    assert wrong[ours].mean() > wrong[theirs].mean()


def test_without_cleanlab_the_install_command_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(
        MissingExtra, match=r"'cleanlab' is not installed: run `pip install 'discern-vision\[audit\]'`"
    ):
        cleanlab_labels(*probabilities(0))


def test_findings_name_the_label_the_better_one_and_how_sure_the_worst_first():
    labels = np.array([0, 0, 1, 1, 2])
    judged = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.02, 0.03, 0.95], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    suggested = np.array([-1, 1, 2, -1, -1])
    first, second = suspect_findings(dataset(labels), judged, suggested)
    assert (first.rows, second.rows) == (("2.jpg",), ("1.jpg",))
    assert (first.kind, first.severity) == ("label_suspect", "warning")
    assert first.evidence == (
        "2.jpg is labelled 'dog' (3%), a classifier that has not seen it says 'fox' (95%); of all labels it would "
        "give 60%."
    )
    assert first.detail == {"given": "dog", "suggested": "fox", "probability": 0.95, "agreement": 0.6}


def test_what_a_person_decided_is_not_asked_again():
    labels = np.array([0, 0])
    judged, suggested = np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([1, 1])
    data = dataset(labels, classes=("cat", "dog"), decision=["keep", None])
    (finding,) = suspect_findings(data, judged, suggested)
    assert finding.rows == ("1.jpg",)
