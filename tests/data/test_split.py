"""Splits and folds: every class in each with its share, what belongs together on one side, nothing by chance."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.data.dataset import Dataset
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.split import SHARE, folds, grouped_by, refuse_missing_classes, units, with_splits
from discern.errors import DataError, UsageError


def dataset(counts, *, split=None, digests=None, groups=None):
    """A scanned Dataset made of nothing but its table."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    n = len(labels)
    return Dataset(
        root=Path("/photos"),
        classes=tuple("abcdefgh"[: len(counts)]),
        table=pl.DataFrame(
            {
                "index": range(n),
                "image": [f"{i}.jpg" for i in range(n)],
                "label": labels,
                "split": split or [None] * n,
                "digest": digests or [f"{i:032x}" for i in range(n)],
                "group": groups or [None] * n,
            },
            {
                "index": pl.Int64,
                "image": pl.String,
                "label": pl.Int32,
                "split": pl.String,
                "digest": pl.String,
                "group": pl.String,
            },
        ),
    )


def split_of(data):
    return dict(data.table.select("image", "split").iter_rows())


@given(counts=st.lists(st.integers(3, 200), min_size=2, max_size=6), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_every_class_is_in_every_split_with_its_share(counts, seed):
    split = with_splits(dataset(counts), seed=seed)
    for label, count in enumerate(counts):
        rows = split.filter(pl.col("label") == label)
        for name, share in (("val", SHARE), ("test", SHARE)):
            n = len(rows.split(name))
            assert n >= 1
            assert abs(n - share * count) <= 1
        assert len(rows.split("train")) >= 1
    assert sum(split.split_counts().values()) == sum(counts)


@given(
    counts=st.lists(st.integers(1, 25), min_size=2, max_size=4),
    copies=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=30),
    given_test=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=150)
def test_with_copies_every_class_is_in_every_split_or_it_is_refused(counts, copies, given_test, seed):
    n = sum(counts)
    digests = list(range(n))
    for a, b in copies:
        digests[a % n] = digests[b % n]
    given_split = ["test" if given_test and i % 4 == 0 else None for i in range(n)]
    data = dataset(counts, digests=[f"{d:032x}" for d in digests], split=given_split)
    try:
        split = with_splits(data, seed=seed)
    except DataError:
        return
    for name in ("train", "val", "test"):
        assert min(split.split(name).class_counts().values()) >= 1
    ours = split.filter(pl.lit(pl.Series(given_split).is_null()))
    assert ours.table.group_by("digest").agg(pl.col("split").n_unique())["split"].max() == 1


def test_the_seed_decides():
    data = dataset([100, 100])
    assert split_of(with_splits(data, seed=1)) == split_of(with_splits(data, seed=1))
    same = sum(a == b for a, b in zip(*(split_of(with_splits(data, seed=s)).values() for s in (1, 2)), strict=True))
    assert same < 150


def test_neither_row_order_nor_file_names_matter():
    data = dataset([60, 30])
    expected = split_of(with_splits(data, seed=0))
    shuffled = replace(data, table=data.table.sample(fraction=1, shuffle=True, seed=1))
    assert split_of(with_splits(shuffled, seed=0)) == expected
    renamed = data.with_columns(pl.Series("image", [f"x{90 - i}" for i in range(90)]))
    assert list(split_of(with_splits(renamed, seed=0)).values()) == list(expected.values())


@given(count=st.integers(20, 120), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_adding_an_image_moves_no_other_but_those_at_the_edges(count, seed):
    # Exact shares cost this much: a new image may push one over each edge, and may make room for one more.
    before = split_of(with_splits(dataset([count, 30]), seed=seed))
    digests = [f"{i:032x}" for i in range(count + 31)]
    digests[count], digests[count + 1 :] = "f" * 32, digests[count:-1]
    images = [f"{i}.jpg" for i in range(count)] + ["new.jpg"] + [f"{i}.jpg" for i in range(count, count + 30)]
    data = dataset([count + 1, 30], digests=digests).with_columns(pl.Series("image", images))
    after = split_of(with_splits(data, seed=seed))
    assert sum(before[image] != after[image] for image in before) <= 3


def test_identical_files_stay_together_even_under_two_labels():
    digests = [f"{i % 20:032x}" for i in range(120)]
    split = with_splits(dataset([60, 60], digests=digests), seed=0)
    assert split.table.group_by("digest").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 20


@pytest.mark.parametrize("seed", range(8))
def test_many_copies_of_one_file_do_not_swell_a_small_split(seed):
    digests = [f"{max(0, i - 19):032x}" for i in range(40)] + [f"{i:032x}" for i in range(100, 140)]
    split = with_splits(dataset([40, 40], digests=digests), seed=seed)  # 20 of a's 40 images are one file
    assert split.split("val").class_counts() == split.split("test").class_counts() == {"a": 6, "b": 6}


def test_splits_that_are_there_are_kept():
    given_split = ["test"] * 10 + ["train"] * 40 + ["test"] * 5 + ["train"] * 45
    split = with_splits(dataset([50, 50], split=given_split), seed=0)
    kept = [name == "test" for name in split.table["split"]]
    assert kept == [name == "test" for name in given_split]
    assert split.split("val").class_counts() == {"a": 6, "b": 7}  # 15 % of 40 and of 45


def test_a_complete_split_is_not_touched():
    given_split = ["train", "val", "test"] * 4
    assert with_splits(dataset([6, 6], split=given_split), seed=3).table["split"].to_list() == given_split


@pytest.mark.parametrize(("count", "words"), [(1, "1 image"), (2, "2 images")])
def test_a_class_too_small_for_three_splits_is_named(count, words):
    with pytest.raises(
        DataError,
        match=rf"The class 'b' has {words}, fewer than one for each of train, val, test; add images",
    ):
        with_splits(dataset([20, count]), seed=0)


def test_a_class_missing_from_a_given_split_is_named():
    given_split = ["train"] * 10 + ["test"] * 5 + ["train"] * 10
    with pytest.raises(DataError, match=r"split 'test' of /photos has no image of 'b': its scores would be blind"):
        with_splits(dataset([15, 10], split=given_split), seed=0)
    with pytest.raises(DataError, match=r"split 'val' of /photos has no image of 'a', 'b'"):
        refuse_missing_classes(dataset([15, 10], split=given_split))


@st.composite
def belonging(draw, *, classes=4, largest=30):
    """(Dataset, clusters): some of the images are copies of each other, some are of one group, some are both."""
    counts = draw(st.lists(st.integers(3, largest), min_size=2, max_size=classes))
    n = sum(counts)
    groups = draw(st.lists(st.sampled_from([None, None, "p", "q", "r", "s", "t"]), min_size=n, max_size=n))
    digests = draw(st.lists(st.integers(0, 3 * n), min_size=n, max_size=n))
    clusters = draw(st.lists(st.lists(st.integers(0, n - 1), min_size=2, max_size=5, unique=True), max_size=6))
    return dataset(counts, digests=[f"{each:032x}" for each in digests], groups=groups), clusters


def separated(data, clusters, where):
    """Whether rows that belong together are in different places."""
    table = data.table.with_columns(where=pl.Series(where))
    apart = [
        table.drop_nulls(c).group_by(c).agg(pl.col("where").n_unique())["where"].max() for c in ("digest", "group")
    ]
    return max(1, *(each or 1 for each in apart), *(len({where[row] for row in rows}) for rows in clusters)) > 1


@given(data=belonging(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=150)
def test_nothing_that_belongs_together_is_separated_by_splits(data, seed):
    data, clusters = data
    try:
        split = with_splits(data, seed=seed, clusters=clusters)
    except DataError:
        return
    assert not separated(data, clusters, split.table["split"].to_list())
    assert min(min(split.split(name).class_counts().values()) for name in ("train", "val", "test")) >= 1


@given(data=belonging(), seed=st.integers(0, 99), count=st.integers(2, 5))
@settings(deadline=None, max_examples=150)
def test_nothing_that_belongs_together_is_separated_by_folds(data, seed, count):
    data, clusters = data
    try:
        fold = folds(data, count, seed=seed, clusters=clusters)
    except DataError:
        return
    assert set(fold.tolist()) <= set(range(count))
    assert not separated(data, clusters, fold.tolist())


@given(
    sizes=st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=20), min_size=2, max_size=4),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=200)
def test_with_groups_of_any_size_every_class_is_in_every_split_with_its_share_within_a_group(sizes, seed):
    """As long as a class has three groups; it was refused once when all of them were larger than its share."""
    counts = [sum(each) for each in sizes]
    groups = [f"{label}-{k}" for label, each in enumerate(sizes) for k, size in enumerate(each) for _ in range(size)]
    split = with_splits(dataset(counts, groups=groups), seed=seed)
    for label, each in enumerate(sizes):
        rows = split.filter(pl.col("label") == label)
        for name in ("val", "test"):
            n = len(rows.split(name))
            assert n >= 1
            assert abs(n - SHARE * sum(each)) <= max(each) + 0.5
        assert len(rows.split("train")) >= 1


@pytest.mark.parametrize("seed", range(10))
def test_of_groups_all_larger_than_the_share_the_smallest_are_held_out(seed):
    groups = ["a"] * 20 + ["b"] * 30 + ["c"] * 50 + [f"d{k}" for k in range(100)]
    split = with_splits(dataset([100, 100], groups=groups), seed=seed)
    table = split.table.filter(pl.col("label") == 0)
    place = dict(table.select("group", "split").unique().iter_rows())
    assert place["c"] == "train"
    assert {place["a"], place["b"]} == {"val", "test"}
    assert split.split("val").class_counts()["b"] == 15  # the other class keeps its share


def test_a_given_test_split_and_one_huge_group_leave_something_to_validate_with():
    groups = ["t"] * 10 + ["big"] * 60 + ["small"] * 30 + [None] * 100
    given_split = ["test"] * 10 + [None] * 90 + ["test"] * 10 + [None] * 90
    split = with_splits(dataset([100, 100], split=given_split, groups=groups), seed=0)
    table = split.table.filter(pl.col("label") == 0)
    assert dict(table.select("group", "split").unique().iter_rows()) == {"t": "test", "big": "train", "small": "val"}


def test_two_groups_are_too_few_for_three_splits():
    groups = ["a"] * 30 + ["b"] * 30 + [None] * 60
    with pytest.raises(DataError, match="'a' has 60 images of which 2 are no copies or members of one group"):
        with_splits(dataset([60, 60], groups=groups), seed=0)


@given(count=st.integers(9, 40), seed=st.integers(0, 99), share=st.sampled_from([0.5, 0.8, 0.95]))
@settings(deadline=None, max_examples=40)
def test_a_large_share_for_validation_leaves_something_to_learn_from(count, seed, share):
    split = with_splits(dataset([count, count]), seed=seed, val_share=share)
    assert min(split.split("train").class_counts().values()) >= 1


@given(counts=st.lists(st.integers(5, 120), min_size=2, max_size=5), count=st.integers(2, 5), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_folds_are_of_equal_size_in_every_class(counts, count, seed):
    data = dataset(counts)
    fold = folds(data, count, seed=seed)
    for label, n in enumerate(counts):
        sizes = np.bincount(fold[data.labels == label], minlength=count)
        assert sizes.sum() == n
        assert sizes.max() - sizes.min() <= 1


@given(sizes=st.lists(st.integers(1, 25), min_size=5, max_size=25), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_folds_of_groups_are_equal_within_the_largest_group(sizes, seed):
    groups = [f"{k}" for k, size in enumerate(sizes) for _ in range(size)]
    data = dataset([sum(sizes), 20], groups=groups + [None] * 20)
    fold = folds(data, 5, seed=seed)
    filled = np.bincount(fold[data.labels == 0], minlength=5)
    assert filled.max() - filled.min() <= max(sizes)
    assert filled.min() >= 1


def test_the_seed_decides_about_folds_and_names_and_order_do_not():
    data = dataset([60, 30])
    fold = folds(data, 5, seed=0)
    np.testing.assert_array_equal(fold, folds(data, 5, seed=0))
    assert (fold != folds(data, 5, seed=1)).mean() > 0.5
    renamed = data.with_columns(pl.Series("image", [f"x{90 - i}" for i in range(90)]))
    np.testing.assert_array_equal(folds(renamed, 5, seed=0), fold)
    order = np.random.default_rng(0).permutation(90)
    np.testing.assert_array_equal(folds(data.with_rows(order), 5, seed=0), fold[order])


@pytest.mark.parametrize("together", ["clusters", "groups", "digests"])
def test_a_class_with_fewer_units_than_folds_is_named(together):
    data = dataset([20, 12])
    clusters = [[20, 21, 22, 23, 24, 25, 26, 27, 28]] if together == "clusters" else ()
    if together == "groups":
        data = dataset([20, 12], groups=[None] * 20 + ["p"] * 9 + [None] * 3)
    if together == "digests":
        data = dataset([20, 12], digests=[f"{max(20, i) if i > 28 else min(i, 20):032x}" for i in range(32)])
    assert len(set(folds(data, 4, seed=0, clusters=clusters)[data.labels == 1].tolist())) == 4
    with pytest.raises(DataError, match=r"'b' has 4 images that are no copies of each other, fewer than 5 folds"):
        folds(data, 5, seed=0, clusters=clusters)


@pytest.mark.parametrize("count", [1, 0, -3])
def test_fewer_than_two_folds_make_no_sense(count):
    with pytest.raises(UsageError, match=f"{count} folds make no sense: give 2 or more"):
        folds(dataset([20, 20]), count, seed=0)


def test_units_join_what_is_linked_over_corners():
    data = dataset([6], digests=["0", "1", "1", "2", "3", "4"], groups=[None, "p", None, "p", None, None])
    named = units(data, [[0, 3]]).to_list()  # 0 = 3 by copies, 3 = 1 by group, 1 = 2 by content
    assert Counter(named) == {"0": 4, "3": 1, "4": 1}


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"(p\d)_", ["p1", "p1", "p2", None]),
        (r"p\d", ["p1", "p1", "p2", None]),
        (r"p(\d)?_", ["1", "1", "2", None]),
    ],
)
def test_groups_are_what_an_expression_finds_in_names(pattern, groups):
    data = dataset([4]).with_columns(pl.Series("image", ["a/p1_0.jpg", "b/p1_1.jpg", "a/p2_0.jpg", "a/other.jpg"]))
    assert grouped_by(data, pattern).table["group"].to_list() == groups


def test_an_expression_that_is_none_or_matches_nothing_is_refused():
    data = dataset([4])
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        grouped_by(data, "(")
    for pattern in ("patient", "x?"):  # the second matches everywhere, but nothing
        with pytest.raises(UsageError, match=r"matches no image name in /photos, such as 0\.jpg"):
            grouped_by(data, pattern)


def test_real_tools_photos(real_data):
    tools = open_dataset(real_data / "tools" / "dataset")
    assert tools.class_counts() == {"Axe": 98, "Book": 1470, "Hammer": 92}
    scanned, _ = scan(tools, size=8, fit="squash")
    split = with_splits(scanned.filter(pl.col("problem").is_null()), seed=0)
    for name, share in (("val", SHARE), ("test", SHARE)):
        for n, count in zip(split.split(name).class_counts().values(), (98, 1470, 92), strict=True):
            assert abs(n - share * count) <= 1


def test_real_cifar10(real_data):
    cifar = open_dataset(real_data / "cifar10")
    assert cifar.split_counts() == {"train": 50_000, "test": 10_000}
    assert len(cifar.classes) == 10
    assert set(cifar.split("test").class_counts().values()) == {1000}
    test = replace(cifar.split("test"), classes=cifar.classes)
    scanned, pixels = scan(test, size=32, fit="squash")
    assert scanned.table["problem"].null_count() == 10_000
    mean, deviation = pixels.statistics(scanned.index)
    # The constants that every CIFAR-10 recipe carries (0.4914, 0.4822, 0.4465), for the training images.
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.01)
    np.testing.assert_allclose(deviation, [0.247, 0.2435, 0.2616], atol=0.01)
