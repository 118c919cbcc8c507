import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from discern.errors import DataError
from discern.evaluation.intervals import bootstrap_macro_f1
from discern.evaluation.metrics import (
    averages,
    confusion_matrix,
    evaluate,
    f1,
    log_loss,
    precision,
    recall,
    scorable,
    score,
    top1,
)
from discern.runs.predictions import Predictions

CLASSES = 4
LABELLED = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=80).map(
    lambda pairs: np.array(pairs).T
)


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def predictions(n=400, classes=3, seed=0, split="test", skill=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += skill
    return Predictions(
        images=tuple(f"{i}.jpg" for i in range(n)),
        splits=(split,) * n,
        labels=labels,
        probabilities=softmax(logits).astype(np.float32),
        classes=tuple("abcdefghijklmnop"[:classes]),
    )


@given(LABELLED)
@settings(deadline=None)
def test_counts_are_scikit_learns(labelled):
    labels, predicted = labelled
    confusion = confusion_matrix(labels, predicted, CLASSES)
    expected = reference.confusion_matrix(labels, predicted, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion, expected)
    assert confusion.sum() == len(labels)
    assert top1(confusion) == pytest.approx(reference.accuracy_score(labels, predicted))


@given(LABELLED)
@settings(deadline=None, max_examples=60)
def test_scores_are_scikit_learns_classification_report(labelled):
    labels, predicted = labelled
    confusion = confusion_matrix(labels, predicted, CLASSES)
    report = reference.classification_report(
        labels, predicted, labels=range(CLASSES), output_dict=True, zero_division=0
    )
    for k in range(CLASSES):
        expected = report[str(k)]
        assert precision(confusion)[k] == pytest.approx(expected["precision"])
        assert recall(confusion)[k] == pytest.approx(expected["recall"])
        assert f1(confusion)[k] == pytest.approx(expected["f1-score"])
    for weighted, name in ((False, "macro avg"), (True, "weighted avg")):
        mean = averages(confusion, weighted=weighted)
        expected = [report[name][key] for key in ("precision", "recall", "f1-score")]
        assert [mean.precision, mean.recall, mean.f1] == pytest.approx(expected)


@given(LABELLED, st.permutations(range(CLASSES)), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_neither_the_order_of_images_nor_the_numbering_of_classes_matters(labelled, renumbering, random):
    labels, predicted = labelled
    before = confusion_matrix(labels, predicted, CLASSES)

    order = list(range(len(labels)))
    random.shuffle(order)
    np.testing.assert_array_equal(confusion_matrix(labels[order], predicted[order], CLASSES), before)

    new = np.array(renumbering)
    after = confusion_matrix(new[labels], new[predicted], CLASSES)
    np.testing.assert_array_equal(f1(after)[new], f1(before))
    assert averages(after, weighted=True).f1 == pytest.approx(averages(before, weighted=True).f1)


@given(LABELLED)
@settings(deadline=None)
def test_perfect_predictions_score_one(labelled):
    labels, _ = labelled
    confusion = confusion_matrix(labels, labels, CLASSES)
    seen = np.isin(np.arange(CLASSES), labels)
    for scores in (precision, recall, f1):
        np.testing.assert_array_equal(scores(confusion), seen.astype(float))
    assert top1(confusion) == 1.0
    assert averages(confusion, weighted=True).f1 == pytest.approx(1.0)


def test_small_label_types_do_not_overflow():
    labels = np.arange(200, dtype=np.uint8)
    np.testing.assert_array_equal(confusion_matrix(labels, labels, 200), np.eye(200, dtype=int))


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [([0, 1], [0], "2 true labels for 1"), ([-1, 0], [0, 0], "true class indices run from -1"),
     ([0, 1], [0, 3], "predicted class indices run from 0 to 3")],
)  # fmt: skip
def test_confusion_matrix_refuses_what_it_cannot_count(labels, predicted, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(np.array(labels), np.array(predicted), 3)


def test_scores_of_no_image_are_an_error_not_nan():
    nothing = np.zeros((2, 2), dtype=np.int64)
    for call in (
        lambda: top1(nothing),
        lambda: averages(nothing, weighted=True),
        lambda: averages(nothing, weighted=False),
        lambda: log_loss(np.zeros(0, dtype=int), np.zeros((0, 2))),
    ):
        with pytest.raises(DataError, match="no image"):
            call()


@given(st.integers(0, 10_000), st.sampled_from([1.0, 10.0, 300.0]))
@settings(deadline=None, max_examples=40)
def test_log_loss_is_scikit_learns_even_where_probabilities_reach_zero(seed, sharpness):
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, CLASSES, 50), softmax(sharpness * rng.normal(size=(50, CLASSES)))
    expected = reference.log_loss(labels, probabilities, labels=range(CLASSES))
    assert log_loss(labels, probabilities) == pytest.approx(expected, rel=1e-12)


def test_log_loss_of_a_certain_mistake_is_finite_in_float32_too():
    certain = np.array([[1, 0]], dtype=np.float32)
    assert log_loss(np.array([1]), certain) == pytest.approx(-np.log(np.finfo(np.float64).eps))
    assert log_loss(np.array([0]), certain) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("skill", [0.0, 1.0, 3.0])
def test_evaluate_agrees_with_scikit_learn_on_every_number(skill):
    p = predictions(n=301, skill=skill)
    scores = evaluate(p).splits["test"]
    report = reference.classification_report(p.labels, p.predicted, target_names=p.classes, output_dict=True)
    assert scores.n == 301
    assert scores.top1 == pytest.approx(report["accuracy"])
    assert scores.macro_f1 == scores.macro.f1
    for mean, name in ((scores.macro, "macro avg"), (scores.weighted, "weighted avg")):
        expected = [report[name][key] for key in ("precision", "recall", "f1-score")]
        assert [mean.precision, mean.recall, mean.f1] == pytest.approx(expected)
    for c in scores.per_class:
        expected = [report[c.name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert [c.precision, c.recall, c.f1, c.support] == pytest.approx(expected)
        interval = proportion_confint(round(c.recall * c.support), c.support, method="wilson")
        assert c.recall_ci == pytest.approx(interval)
    hits = int((p.labels == p.predicted).sum())
    assert scores.top1_ci == pytest.approx(proportion_confint(hits, 301, method="wilson"))
    exact = p.probabilities.astype(np.float64)
    expected_loss = reference.log_loss(p.labels, exact / exact.sum(axis=1, keepdims=True))
    assert scores.loss == pytest.approx(expected_loss, rel=1e-6)
    counted = reference.confusion_matrix(p.labels, p.predicted)
    np.testing.assert_array_equal(scores.confusion, counted)
    assert scores.macro_f1_ci == bootstrap_macro_f1(counted, seed=0)


def test_evaluate_scores_every_split_apart_and_does_not_mix_their_randomness():
    parts = [predictions(seed=k, split=split) for k, split in enumerate(("train", "test", "val"))]
    together = Predictions(
        images=sum((p.images for p in parts), ()),
        splits=sum((p.splits for p in parts), ()),
        labels=np.concatenate([p.labels for p in parts]),
        probabilities=np.concatenate([p.probabilities for p in parts]),
        classes=parts[0].classes,
    )
    found = evaluate(together).splits
    assert list(found) == ["val", "test", "train"]
    for p in parts:
        assert found[p.splits[0]] == evaluate(p).splits[p.splits[0]]


def test_the_seed_moves_only_the_bootstrap():
    p = predictions()
    first, second = (evaluate(p, seed=seed).splits["test"] for seed in (0, 1))
    assert first.macro_f1_ci != second.macro_f1_ci
    assert replace(first, macro_f1_ci=second.macro_f1_ci) == second
    assert evaluate(p, seed=1).splits["test"] == second


def test_images_of_unknown_truth_are_left_out():
    p = predictions(n=90)
    unknown = np.arange(90) >= 60
    partly = replace(p, labels=np.where(unknown, -1, p.labels))
    assert evaluate(partly) == evaluate(p.take(np.flatnonzero(~unknown)))


def test_shuffled_images_score_the_same():
    p = predictions()
    shuffled = evaluate(p.take(np.random.default_rng(0).permutation(len(p)))).splits["test"]
    expected = evaluate(p).splits["test"]
    assert shuffled.loss == pytest.approx(expected.loss, rel=1e-12)
    assert replace(shuffled, loss=expected.loss) == expected


def test_a_class_never_predicted_has_precision_zero_and_raises_no_warning():
    p = predictions(n=60)
    probabilities = p.probabilities.copy()
    probabilities[:, 1] = 0
    scores = evaluate(replace(p, probabilities=probabilities)).splits["test"].per_class[1]
    assert (scores.precision, scores.recall, scores.f1, scores.support) == (0.0, 0.0, 0.0, 20)


def test_nothing_to_score_is_an_error_that_names_the_split():
    p = predictions(n=30)
    with pytest.raises(DataError, match="'test' split has no image with a known label"):
        evaluate(replace(p, labels=np.full(30, -1)))
    with pytest.raises(DataError, match="'val' split has no image"):
        scorable(p, "val")
    with pytest.raises(DataError, match="Nothing to score: 30 predictions"):
        evaluate(replace(p, splits=("holdout",) * 30))
    with pytest.raises(DataError, match="Nothing to score: 0 predictions"):
        evaluate(p.take(np.arange(0)))


def test_a_class_missing_from_a_split_is_an_error_that_names_it():
    p = predictions(n=60)
    with pytest.raises(DataError, match="'test' split has no image of 'b', so"):
        score(p.take(np.flatnonzero(p.labels != 1)), "test")
    many = predictions(n=60, classes=12)
    with pytest.raises(DataError, match="'b', 'c', 'd', 'e', 'f' and 6 more classes"):
        score(many.take(np.flatnonzero(many.labels == 0)), "test")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_probabilities_that_are_no_numbers_are_an_error_that_names_an_image(broken):
    p = predictions(n=30)
    probabilities = p.probabilities.copy()
    probabilities[[7, 9], 0] = broken
    with pytest.raises(DataError, match=r"2 'test' images .*'7.jpg'"):
        evaluate(replace(p, probabilities=probabilities))


def test_sixty_thousand_images_take_well_under_a_second():
    p = predictions(n=60_000, classes=10)
    start = time.perf_counter()
    evaluate(p)
    assert time.perf_counter() - start < 1.0  # 0.04 s on one idle core
