from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.data.dataset import FACTS, SCHEMA, Dataset
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError


@pytest.fixture
def scanned(photos):
    root = photos({"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    return scan(open_dataset(root), size=8, fit="squash")[0]


def test_the_table_has_the_columns_that_are_promised(photos, scanned):
    listed = open_dataset(photos({"cat": 1, "dog": 1}, into="other"))
    assert listed.table.schema == pl.Schema(SCHEMA)
    assert not listed.scanned
    assert scanned.table.schema == pl.Schema(SCHEMA | FACTS)
    assert scanned.scanned


def test_what_is_written_is_read_back(scanned, tmp_path):
    scanned.write(tmp_path / "run" / "dataset.parquet")
    again = Dataset.read(tmp_path / "run" / "dataset.parquet")
    assert again.table.equals(scanned.table)
    assert again.table.schema == scanned.table.schema
    assert (again.classes, again.root, again.fingerprint) == (scanned.classes, scanned.root, scanned.fingerprint)


@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5, unique=True)
)
@settings(deadline=None, max_examples=50)
def test_class_names_are_read_back_whatever_they_are(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("run") / "dataset.parquet"
    dataset = Dataset(root=path.parent, classes=tuple(names), table=pl.DataFrame(schema=SCHEMA))
    dataset.write(path)
    assert Dataset.read(path).classes == tuple(names)


def test_the_fingerprint_needs_the_scan(photos):
    with pytest.raises(DataError, match="needs its scan"):
        _ = open_dataset(photos({"cat": 1, "dog": 1})).fingerprint


@pytest.mark.parametrize("column", ["label", "split", "image", "digest"])
def test_the_fingerprint_changes_with_what_matters(scanned, column):
    value = {"label": 1 - scanned.table["label"][0], "split": "val", "image": "x.jpg", "digest": "0" * 32}[column]
    values = [value, *scanned.table[column].to_list()[1:]]
    changed = scanned.with_columns(pl.Series(column, values, scanned.table.schema[column]))
    assert changed.fingerprint != scanned.fingerprint


def test_the_fingerprint_changes_with_class_names_and_missing_images(scanned):
    assert replace(scanned, classes=("cat", "wolf")).fingerprint != scanned.fingerprint
    assert scanned.filter(pl.col("index") > 0).fingerprint != scanned.fingerprint
    assert len(scanned.fingerprint) == 16


def test_the_fingerprint_does_not_change_with_order_place_or_time(scanned, tmp_path):
    other = replace(scanned, table=scanned.table.reverse(), root=tmp_path)
    other = other.with_columns(pl.Series("modified", [0] * len(other)), pl.Series("index", range(len(other))))
    assert other.fingerprint == scanned.fingerprint


def test_a_touched_copy_elsewhere_has_the_same_fingerprint_and_changed_content_has_not(photos):
    root = photos({"cat": 2, "dog": 2})
    first = scan(open_dataset(root), size=8, fit="squash")[0].fingerprint
    moved = root.rename(root.parent / "moved")
    assert scan(open_dataset(moved), size=8, fit="pad")[0].fingerprint == first
    (moved / "cat/0.jpg").write_bytes((moved / "dog/0.jpg").read_bytes())
    assert scan(open_dataset(moved), size=8, fit="pad")[0].fingerprint != first


def test_counts_name_every_class_and_only_the_splits_there_are(scanned):
    train = scanned.split("train").filter(pl.col("label") == 0)
    assert train.class_counts() == {"cat": 3, "dog": 0}
    assert train.split_counts() == {"train": 3}
    assert str(scanned) == "7 images of 2 classes (cat 4, dog 3); train 5, test 2"


def test_operations_give_a_new_dataset(scanned):
    before = scanned.table.clone()
    scanned.filter(pl.col("label") == 0).with_columns(pl.Series("split", ["val"] * 4))
    scanned.with_classes(("dog", "cat"))
    assert scanned.table.equals(before)


def test_another_list_of_classes_is_matched_by_name(scanned):
    wider = scanned.with_classes(("dog", "ant", "cat"))
    assert wider.class_counts() == {"dog": 3, "ant": 0, "cat": 4}
    assert [wider.classes[label] for label in wider.labels] == [scanned.classes[label] for label in scanned.labels]


def test_an_unknown_label_stays_unknown(scanned):
    unknown = scanned.with_columns(pl.Series("label", [-1, *scanned.labels[1:]], pl.Int32))
    assert unknown.with_classes(("dog", "ant", "cat")).labels[0] == -1
    assert unknown.class_counts() == {"cat": 3, "dog": 3}


def test_a_class_that_the_list_lacks_is_refused(scanned):
    with pytest.raises(DataError, match=r"classes that training had not: dog \(it had cat, emu\)"):
        scanned.with_classes(("cat", "emu"))


def test_keys_depend_on_content_alone(scanned):
    assert scanned.keys.dtype == "uint64"
    assert len(set(scanned.keys.tolist())) == 7
    reverse = replace(scanned, table=scanned.table.reverse())
    assert reverse.keys.tolist() == scanned.keys.tolist()[::-1]
