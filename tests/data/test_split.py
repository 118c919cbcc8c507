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
from discern.data.split import SHARE, refuse_missing_classes, with_splits
from discern.errors import DataError


def dataset(counts, *, split=None, digests=None):
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
                "group": None,
            },
            {"index": pl.Int64, "image": pl.String, "label": pl.Int32, "split": pl.String, "digest": pl.String, "group": pl.String},
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
