from collections import Counter
from hashlib import blake2b
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from discern.data.curation.curate import REASONS, plan
from discern.data.dataset import FACTS, SCHEMA, Dataset
from discern.data.duplicates.search import exact_clusters
from discern.errors import DataError

CLASSES = ("axe", "book", "saw")


def dataset_of(rows):
    """A scanned Dataset; each row may give image, label, split, group, decision, digest, width."""
    full = []
    for number, row in enumerate(rows):
        name = row.get("image", f"{CLASSES[row['label']]}/{number}.jpg")
        full.append(
            dict.fromkeys((*SCHEMA, *FACTS))
            | {"index": number, "file": name, "bytes": 9, "modified": 1, "width": 9, "height": 9, "format": "PNG"}
            | {"mode": "RGB", "digest": blake2b(name.encode(), digest_size=16).hexdigest(), **row, "image": name}
        )
    return Dataset(root=Path("/photos"), classes=CLASSES, table=pl.DataFrame(full, SCHEMA | FACTS))


def many(counts=(12, 30, 9), **more):
    return [{"label": label, **more} for label, count in enumerate(counts) for _ in range(count)]


def planned(rows, clusters=None, **options):
    dataset = dataset_of(rows)
    return plan(dataset, exact_clusters(dataset) if clusters is None else clusters, **options)


def reasons(plan):
    return {each.image: each.reason for each in plan.left_out}


def counts(plan, split):
    return tuple(plan.dataset.split(split).class_counts().values())


def test_held_out_before_capped_before_validated():
    made = planned(many((12, 30, 9)), test_per_class=3, max_per_class=20)
    assert counts(made, "test") == (3, 3, 3)
    assert [t + v for t, v in zip(counts(made, "train"), counts(made, "val"), strict=True)] == [9, 20, 6]
    assert Counter(reasons(made).values()) == {"over_cap": 7}
    assert {each.detail for each in made.left_out} == {"over 20"}


def test_what_is_held_out_does_not_depend_on_the_cap_or_on_balance():
    one = planned(many(), test_per_class=3)
    other = planned(many(), test_per_class=3, max_per_class=5, oversample=True)
    assert one.dataset.split("test").images == other.dataset.split("test").images


def test_without_a_number_every_split_is_made_and_given_ones_are_kept():
    made = planned(many())
    assert min(counts(made, "train") + counts(made, "val") + counts(made, "test")) >= 1
    given_test = many() + many((2, 2, 2), split="test")
    assert counts(planned(given_test), "test") == (2, 2, 2)
    assert counts(planned(given_test, test_per_class=3), "test") == (5, 5, 5)
    given_val = many() + many((2, 2, 2), split="val")
    assert counts(planned(given_val, test_per_class=1, max_per_class=4), "val") == (2, 2, 2)
    assert counts(planned(given_val, test_per_class=1, max_per_class=4), "train") == (4, 4, 4)


def test_copies_go_but_for_the_confirmed_or_largest_one():
    rows = many()
    rows[0] |= {"digest": "0" * 32}
    rows[1] |= {"digest": "0" * 32, "decision": "keep"}
    rows[12] |= {"image": "book/small.jpg"}
    rows[13] |= {"image": "book/large.jpg", "width": 90}
    rows[14] |= {"image": "book/middle.jpg", "width": 50}
    made = planned(rows, [[0, 1], [12, 13, 14]])
    assert reasons(made) == dict.fromkeys(["axe/0.jpg", "book/small.jpg", "book/middle.jpg"], "duplicate")
    assert {each.detail for each in made.left_out} == {"of axe/1.jpg", "of book/large.jpg"}


def test_of_copies_across_given_splits_those_judged_by_stay_even_if_duplicates_are_kept():
    rows = many() + many((2, 2, 2), split="test") + many((2, 2, 2), split="val")
    for keep in (False, True):
        made = planned(rows, [[0, 1, 51, 57], [2, 58], [53, 54]], keep_duplicates=keep)
        crossing = {"axe/0.jpg", "axe/1.jpg", "axe/57.jpg", "axe/2.jpg"}
        assert {image for image, reason in reasons(made).items() if reason == "crosses"} == crossing
        assert ("book/54.jpg" in reasons(made)) is not keep


def test_kept_copies_stay_in_one_split():
    rows = many((20, 20, 20))
    clusters = [[0, 1, 2], [20, 21, 22, 23], [40, 41]]
    for seed in range(20):
        made = planned(rows, clusters, keep_duplicates=True, test_per_class=4, seed=seed)
        split = dict(made.dataset.table.select("image", "split").iter_rows())
        assert counts(made, "test") == (4, 4, 4)
        names = [row["image"] for row in dataset_of(rows).table.to_dicts()]
        assert all(len({split[names[p]] for p in cluster}) == 1 for cluster in clusters)


def test_a_photo_with_two_labels_is_left_out_whole_unless_a_person_has_settled_it():
    rows = many()
    made = planned(rows, [[0, 12, 13]])
    assert reasons(made) == dict.fromkeys(["axe/0.jpg", "book/12.jpg", "book/13.jpg"], "two_labels")
    assert made.left_out[0].detail == "axe and book: axe/0.jpg = book/12.jpg = book/13.jpg"
    rows[13]["decision"] = "keep"
    assert reasons(planned(rows, [[0, 12, 13]])) == {"axe/0.jpg": "other_label", "book/12.jpg": "duplicate"}
    rows[0]["decision"] = "keep"  # two persons, two opinions
    assert set(reasons(planned(rows, [[0, 12, 13]])).values()) == {"two_labels"}


def test_groups_are_held_out_whole_and_what_does_not_fit_is_said():
    rows = [row | {"group": f"{row['label']}-{k // 3}"} for k, row in enumerate(many((30, 30, 30)))]
    made = planned(rows, test_per_class=7)
    assert counts(made, "test") == (6, 6, 6)
    assert made.short == {"axe": 1, "book": 1, "saw": 1}
    groups = {row["image"]: row["group"] for row in dataset_of(rows).table.to_dicts()}
    for split in ("train", "val", "test"):
        assert {*Counter(groups[image] for image in made.dataset.split(split).images).values()} == {3}


def test_a_group_that_the_source_spreads_over_splits_stays_where_it_is_judged():
    rows = many() + many((2, 2, 2), split="test")
    rows[0]["group"] = rows[51]["group"] = "patient 7"
    (left,) = planned(rows).left_out
    assert (left.image, left.reason, left.detail) == ("axe/0.jpg", "crosses", "its group 'patient 7' is in test")


def test_copies_fill_every_class_up_evenly():
    made = planned(many((12, 30, 9)), test_per_class=2, oversample=True)
    train = made.dataset.table["split"] == "train"
    assert not made.copies[~train.to_numpy()].any()
    total = Counter()
    for label, copies, is_train in zip(made.dataset.labels, made.copies, train, strict=True):
        total[label] += (1 + copies) * is_train
    assert len(set(total.values())) == 1
    for label in range(3):
        of_class = made.copies[(made.dataset.labels == label) & train.to_numpy()]
        assert of_class.max() - of_class.min() <= 1
    assert not planned(many(), oversample=False).copies.any()


def test_identical_photos_are_not_varied_twice():
    rows = [row | {"digest": "1" * 32} if k < 3 else row for k, row in enumerate(many((30, 60, 9)))]
    for seed in range(10):
        made = planned(rows, keep_duplicates=True, oversample=True, seed=seed)
        same = made.copies[(made.dataset.table["digest"] == "1" * 32).to_numpy()]
        assert (same > 0).sum() <= 1


def test_too_few_to_hold_out_names_the_class_and_a_number_that_works():
    with pytest.raises(
        DataError, match=r"class 'saw' has 9 images: with 8 held out .* give --test-per-class 7 or less"
    ):
        planned(many(), test_per_class=8)
    assert counts(planned(many(), test_per_class=7), "test") == (7, 7, 7)


def test_the_seed_decides_and_nothing_else_does():
    rows = [row | {"image": f"{k}.jpg"} for k, row in enumerate(many((20, 20, 20)))]
    made, again = (
        planned(each, test_per_class=4, max_per_class=12, oversample=True, seed=3) for each in (rows, rows[::-1])
    )
    told = [
        sorted(zip(p.dataset.images, p.dataset.table["split"], p.copies.tolist(), strict=True)) for p in (made, again)
    ]
    assert told[0] == told[1]
    assert made.left_out == again.left_out
    other = planned(rows, test_per_class=4, seed=4)
    assert set(other.dataset.split("test").images) != set(made.dataset.split("test").images)


row = st.fixed_dictionaries(
    {
        "label": st.integers(0, 2),
        "split": st.sampled_from([None, None, None, "train", "test"]),
        "digest": st.integers(0, 60).map(lambda n: f"{n:032x}"),
        "decision": st.sampled_from([None, None, "keep"]),
        "width": st.integers(1, 99),
    }
)


@given(st.lists(row, min_size=30, max_size=90), st.integers(0, 9), st.booleans(), st.booleans(), st.integers(1, 4))
def test_every_image_is_somewhere_once_and_no_photo_is_on_two_sides(rows, seed, keep, oversample, per_class):
    dataset = dataset_of(rows)
    try:
        made = plan(
            dataset,
            exact_clusters(dataset),
            test_per_class=per_class,
            max_per_class=9,
            keep_duplicates=keep,
            oversample=oversample,
            seed=seed,
        )
    except DataError:
        assume(False)
    placed = [*made.dataset.images, *(each.image for each in made.left_out)]
    assert sorted(placed) == sorted(dataset.images)
    assert all(each.reason in REASONS and each.detail for each in made.left_out)
    where = made.dataset.table.group_by("digest").agg(pl.col("split").n_unique(), pl.col("label").n_unique())
    assert where["split"].max() == 1
    assert where["label"].max() == 1
    assert keep or made.dataset.table["digest"].is_unique().all()
    assert not made.copies[(made.dataset.table["split"] != "train").to_numpy()].any()
    given_test = {image for image, split in dataset.table.select("image", "split").iter_rows() if split == "test"}
    assert given_test - {each.image for each in made.left_out} <= set(made.dataset.split("test").images)
