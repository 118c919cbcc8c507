from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.errors import DataError
from discern.runs.predictions import Predictions

CLASSES = ("naïve 猫", "p(x)", "dog")


def predictions(n=5, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.random((n, len(classes)), dtype=np.float32)
    return Predictions(
        images=tuple(f"ünï/{i}.jpg" for i in range(n)),
        splits=tuple(("val", "test")[i % 2] for i in range(n)),
        labels=rng.integers(-1, len(classes), n),
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        classes=classes,
    )


def assert_same(a, b):
    assert (a.images, a.splits, a.classes) == (b.images, b.splits, b.classes)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
    assert a.probabilities.dtype == b.probabilities.dtype == np.float32


@given(
    classes=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6, unique=True),
    n=st.integers(0, 12),
)
@settings(deadline=None, max_examples=50)
def test_what_is_written_is_read_back_whatever_the_classes_are_called(tmp_path_factory, classes, n):
    path = tmp_path_factory.mktemp("run") / "predictions.parquet"
    p = predictions(n, tuple(classes))
    p.write(path)
    assert_same(Predictions.read(path), p)


def test_the_table_names_its_columns_and_an_unknown_truth_is_null(tmp_path):
    p = replace(predictions(3), labels=np.array([-1, 1, 0]))
    p.write(tmp_path / "predictions.parquet")
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert table.columns == [
        "image", "split", "label", "prediction", "confidence", "p(naïve 猫)", "p(p(x))", "p(dog)"
    ]  # fmt: skip
    assert table["label"].to_list() == [None, "p(x)", "naïve 猫"]
    assert table["prediction"].to_list() == [CLASSES[k] for k in p.probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(table["confidence"].to_numpy(), p.probabilities.max(axis=1))
    np.testing.assert_array_equal(Predictions.read(tmp_path / "predictions.parquet").labels, [-1, 1, 0])


@pytest.mark.parametrize("n", [0, 4])
def test_text_columns_are_text_even_when_they_hold_nothing(n):
    table = replace(predictions(n), labels=np.full(n, -1)).to_table()
    assert [table.schema[c] for c in ("image", "split", "label", "prediction")] == [pl.String] * 4


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "predictions.parquet"
    predictions(4).write(path)
    predictions(7, seed=1).write(path)
    assert_same(Predictions.read(path), predictions(7, seed=1))
    assert [p.name for p in path.parent.iterdir()] == ["predictions.parquet"]


def test_predicted_and_confidence_are_the_most_probable_class():
    p = replace(predictions(2), probabilities=np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], dtype=np.float32))
    np.testing.assert_array_equal(p.predicted, [1, 0])
    np.testing.assert_allclose(p.confidence, [0.7, 0.5])
    assert len(p) == 2


def test_a_split_keeps_its_images_in_order_and_take_follows_the_order_given():
    p = replace(predictions(6), labels=np.array([0, 1, 2, -1, 1, 0]))
    assert p.split("test").images == ("ünï/1.jpg", "ünï/3.jpg", "ünï/5.jpg")
    assert set(p.split("test").splits) == {"test"}
    assert len(p.split("train")) == 0
    taken = p.take(np.array([4, 0]))
    assert taken.images == ("ünï/4.jpg", "ünï/0.jpg")
    np.testing.assert_array_equal(taken.labels, [1, 0])
    np.testing.assert_array_equal(taken.probabilities, p.probabilities[[4, 0]])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros(4, dtype=int)},
        {"splits": ("val",) * 4},
        {"images": ("a", "b")},
        {"probabilities": np.zeros((5, 2), dtype=np.float32)},
        {"probabilities": np.zeros(5, dtype=np.float32)},
    ],
    ids=["labels", "splits", "images", "classes", "flat"],
)
def test_parts_that_do_not_fit_together_are_refused(change):
    with pytest.raises(DataError, match="do not fit together"):
        replace(predictions(5), **change)


@pytest.mark.parametrize("label", [-2, 3])
def test_labels_that_are_no_class_are_refused(label):
    with pytest.raises(DataError, match="The labels run from"):
        replace(predictions(5), labels=np.array([0, 1, 2, label, -1]))


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match="Two classes are called 'dog'"):
        replace(predictions(5), classes=("dog", "cat", "dog"))
