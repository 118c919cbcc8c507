"""The gate: copies across splits are refused, grouped, dropped or allowed with a reason."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.data.dataset import SPLITS, Dataset
from discern.data.duplicates.gate import WAYS, Passage, refuse_way, through_gate
from discern.errors import DataError, UsageError


def dataset(splits, groups=None):
    count = range(len(splits))
    table = pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in count],
            "digest": [f"{k:032x}" for k in count],
            "split": splits,
            "group": groups or [None for _ in count],
            "label": [0 for _ in count],
        },
        {"image": pl.String, "digest": pl.String, "split": pl.String, "group": pl.String, "label": pl.Int32},
    )
    return Dataset(root=Path("/photos"), classes=("cat", "dog"), table=table)


THREE = dataset(["train", "train", "train", "val", "val", "test", "test", "train"])
"""Rows 0, 3 and 5 will be one picture, 1 and 4 another, 2 and 7 a third that stays in training."""
CLUSTERS = [[0, 3, 5], [1, 4], [2, 7]]


def splits(data):
    return dict(data.table.select("image", "split").iter_rows())


@pytest.mark.parametrize("way", [None, *WAYS])
def test_without_copies_across_splits_all_goes_on_unchanged(way):
    because = "why not" if way == "allow" else None
    data, passage = through_gate(THREE, [[2, 7]], leakage=way, because=because)
    assert data is THREE
    assert passage == Passage(leakage=None, clusters=0)
    assert str(passage) == "No photo is in two splits."


def test_copies_across_splits_are_refused_with_the_pairs_and_the_three_ways_on():
    with pytest.raises(DataError) as refused:
        through_gate(THREE, CLUSTERS)
    message = str(refused.value)
    assert refused.value.exit_code == 3
    assert message.startswith("Leakage: 2 photos are in more than one split of /photos")
    assert "0.jpg (train) = 3.jpg (val) = 5.jpg (test)\n" in message
    assert "1.jpg (train) = 4.jpg (val)\n" in message
    assert "2.jpg" not in message
    assert all(word in message for word in ("--leakage drop", "--leakage group", '--leakage allow --because "..."'))


def test_of_very_many_pairs_a_dozen_is_shown_and_the_rest_counted():
    data = dataset(["train", "test"] * 40)
    with pytest.raises(DataError, match=r"and 28 more\n") as refused:
        through_gate(data, [[2 * k, 2 * k + 1] for k in range(40)])
    assert str(refused.value).count(" = ") == 12


def test_group_moves_each_photo_to_its_most_held_out_split():
    data, passage = through_gate(THREE, CLUSTERS, leakage="group")
    assert list(splits(data).values()) == ["test", "val", "train", "test", "val", "test", "test", "train"]
    assert passage == Passage(leakage="group", clusters=2, moved=("0.jpg", "1.jpg", "3.jpg"))
    assert str(passage) == "2 photos are in several splits: 3 copies were moved to the split of their held-out copy."


def test_drop_leaves_the_copies_out_of_the_other_splits():
    data, passage = through_gate(THREE, CLUSTERS, leakage="drop")
    assert splits(data) == {
        "2.jpg": "train",
        "4.jpg": "val",
        "5.jpg": "test",
        "6.jpg": "test",
        "7.jpg": "train",
    }
    assert passage == Passage(leakage="drop", clusters=2, dropped=("0.jpg", "1.jpg", "3.jpg"))
    assert str(passage) == "2 photos are in several splits: 3 copies were left out of training and validation."


def test_allow_changes_nothing_and_keeps_the_reason():
    data, passage = through_gate(THREE, CLUSTERS, leakage="allow", because="published so")
    assert splits(data) == splits(THREE)
    assert passage == Passage(leakage="allow", clusters=2, because="published so")
    assert str(passage) == "2 photos are in several splits and stay there, because: published so"


def test_copies_within_the_held_out_split_stay():
    data = dataset(["train", "test", "test"])
    dropped, passage = through_gate(data, [[0, 1, 2]], leakage="drop")
    assert splits(dropped) == {"1.jpg": "test", "2.jpg": "test"}
    assert str(passage) == "1 photo is in several splits: 1 copy was left out of training and validation."


def test_images_without_a_split_go_where_their_copies_are():
    data = dataset(["train", None, "test", None])
    grouped, passage = through_gate(data, [[0, 1, 2]], leakage="group")
    assert list(splits(grouped).values()) == ["test", "test", "test", None]
    assert passage.moved == ("0.jpg", "1.jpg")
    assert through_gate(dataset(["train", None]), [[0, 1]])[1].clusters == 0


@given(
    st.lists(st.sampled_from(SPLITS), min_size=2, max_size=40),
    st.lists(st.sets(st.integers(0, 39), min_size=2, max_size=12), max_size=6),
    st.sampled_from(["group", "drop"]),
)
def test_behind_the_gate_no_photo_is_in_two_splits_and_the_test_split_lost_nothing(where, sets, way):
    taken, clusters = set(), []
    for rows in sets:  # clusters have no row in common
        rows = {row for row in rows if row < len(where)} - taken
        taken |= rows
        clusters += [sorted(rows)] if len(rows) > 1 else []
    data = dataset(where)
    behind, passage = through_gate(data, clusters, leakage=way)
    after = splits(behind)
    for cluster in clusters:
        assert len({after[f"{row}.jpg"] for row in cluster if f"{row}.jpg" in after}) == 1
    assert {name for name, split in splits(data).items() if split == "test"} <= {
        name for name, split in after.items() if split == "test"
    }
    assert len(behind) + len(passage.dropped) == len(data)
    lone = {f"{row}.jpg" for row in range(len(where))} - {f"{row}.jpg" for cluster in clusters for row in cluster}
    assert {name: after[name] for name in lone} == {name: splits(data)[name] for name in lone}


@pytest.mark.parametrize(
    ("leakage", "because", "words"),
    [
        ("ignore", None, "--leakage ignore does not exist here: choose group, drop or allow."),
        ("allow", None, "--leakage allow needs a reason"),
        ("allow", "  ", "--leakage allow needs a reason"),
        ("drop", "it leaks", "--because is the reason for --leakage allow"),
        (None, "it leaks", "--because is the reason for --leakage allow"),
    ],
)
def test_ways_that_do_not_exist_or_are_not_complete_are_refused_even_without_copies(leakage, because, words):
    for clusters in ([], CLUSTERS):
        with pytest.raises(UsageError, match=words):
            through_gate(THREE, clusters, leakage=leakage, because=because)
    with pytest.raises(UsageError):
        refuse_way(leakage, because)


@pytest.mark.parametrize("way", WAYS)
def test_a_passage_comes_back_from_json(way):
    passage = through_gate(THREE, CLUSTERS, leakage=way, because="so it is" if way == "allow" else None)[1]
    assert Passage.from_json(passage.to_json()) == passage


def test_a_group_in_two_given_splits_counts_as_copies_do():
    data = dataset(["train", "train", "test", "val"], ["anna", "bob", "anna", "bob"])
    with pytest.raises(
        DataError, match=r"(?s)2 photos or groups are in more than one split.*0\.jpg \(train\) = 2\.jpg"
    ):
        through_gate(data, [])
    rest, passage = through_gate(data, [], leakage="drop")
    assert splits(rest) == {"2.jpg": "test", "3.jpg": "val"}
    assert passage.dropped == ("0.jpg", "1.jpg")


def test_of_a_large_group_a_few_images_are_named_of_every_split_one():
    data = dataset(["train"] * 50 + ["test"], ["anna"] * 51)
    with pytest.raises(DataError, match=r"(?s)= 50\.jpg \(test\) and 46 more"):
        through_gate(data, [])


def test_copies_and_groups_that_share_an_image_go_together():
    data = dataset(["train", "val", "test"], ["anna", "anna", None])
    rest, _ = through_gate(data, [[1, 2]], leakage="group")
    assert set(splits(rest).values()) == {"test"}
