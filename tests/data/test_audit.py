import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data.audit import audit
from discern.data.findings import Finding, summarise
from discern.data.scan import scan
from discern.data.sources import open_dataset


def findings(root, **options):
    scanned, _ = scan(open_dataset(root, **options), size=8, fit="squash")
    return audit(scanned)


def test_nothing_is_found_in_clean_images(photos):
    root = photos({f"{s}/{c}": 3 for s in ("train", "val", "test") for c in ("cat", "dog")})
    assert findings(root) == []


def test_an_unreadable_file_is_found(photos):
    root = photos({"cat": 3, "dog": 3})
    (root / "cat/0.jpg").write_bytes(b"")
    (finding,) = findings(root)
    assert (finding.kind, finding.severity, finding.rows) == ("unreadable", "warning", ("cat/0.jpg",))
    assert finding.evidence == "cat/0.jpg cannot be used: it is empty (0 bytes)."


def test_empty_files_are_unreadable_not_copies_of_each_other(photos):
    root = photos({"cat": 3, "dog": 3})
    for image in ("cat/0.jpg", "cat/1.png", "dog/0.jpg"):
        (root / image).write_bytes(b"")
    assert [finding.kind for finding in findings(root)] == ["unreadable"] * 3


def test_copies_in_one_class_and_split_are_noted(photos):
    root = photos({"cat": 3, "dog": 3})
    for name in ("copy.jpg", "more/copy.jpg"):
        (root / "cat" / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / "cat/0.jpg", root / "cat" / name)
    (finding,) = findings(root)
    assert (finding.kind, finding.severity) == ("exact_duplicate", "note")
    assert finding.rows == ("cat/0.jpg", "cat/copy.jpg", "cat/more/copy.jpg")


def test_a_copy_across_splits_is_leakage(photos):
    root = photos({f"{s}/{c}": 3 for s in ("train", "test") for c in ("cat", "dog")})
    shutil.copy(root / "train/cat/0.jpg", root / "test/cat/same.jpg")
    (finding,) = findings(root)
    assert (finding.kind, finding.severity) == ("leakage", "error")
    assert set(finding.rows) == {"train/cat/0.jpg", "test/cat/same.jpg"}
    assert "test and train" in finding.evidence


def test_one_photo_under_two_labels_is_a_conflict(photos):
    root = photos({"cat": 3, "dog": 3})
    shutil.copy(root / "cat/0.jpg", root / "dog/same.jpg")
    (finding,) = findings(root)
    assert (finding.kind, finding.severity) == ("label_conflict", "error")
    assert finding.rows == ("cat/0.jpg", "dog/same.jpg")
    assert "2 labels (cat, dog)" in finding.evidence


def test_a_copy_across_splits_and_labels_is_both(photos):
    root = photos({f"{s}/{c}": 3 for s in ("train", "test") for c in ("cat", "dog")})
    shutil.copy(root / "train/cat/0.jpg", root / "test/dog/same.jpg")
    assert sorted(finding.kind for finding in findings(root)) == ["label_conflict", "leakage"]


@pytest.mark.parametrize(("width", "height", "tiny"), [(19, 200, True), (200, 19, True), (20, 20, False)])
def test_tiny_images(photos, width, height, tiny):
    root = photos({"cat": 3, "dog": 3})
    Image.fromarray(np.full((height, width, 3), 9, np.uint8)).save(root / "cat/small.png")
    found = findings(root)
    assert [finding.kind for finding in found] == (["tiny"] if tiny else [])
    if tiny:
        assert found[0].rows == ("cat/small.png",)
        assert "1 image with a side under 20 pixels, the smallest 19" in found[0].evidence


@pytest.mark.parametrize(("cats", "unbalanced"), [(6, True), (5, False)])
def test_imbalance(photos, cats, unbalanced):
    found = findings(photos({"cat": cats, "dog": 2}))
    assert [finding.kind for finding in found] == (["imbalance"] if unbalanced else [])
    if unbalanced:
        assert found[0].evidence == "Class 'cat' has 6 images, 'dog' 2: 3.0 to 1."


def test_the_summary_says_each_kind_once_the_gravest_first():
    def finding(kind, severity, evidence):
        return Finding(kind=kind, severity=severity, rows=(), evidence=evidence, remedy="")

    lines = summarise(
        [
            finding("b", "note", "one"),
            finding("c", "warning", "x"),
            finding("a", "error", "y"),
            finding("b", "note", "two"),
        ]
    )
    assert lines == ["error: a: y", "warning: c: x", "note: b: one (and 1 more like it)"]


def test_the_published_tools_photos_leak_between_training_and_test(real_data):
    tools = real_data / "tools"
    found = findings(tools / "dataset", test=tools / "dataset_testing")
    leaks = [finding for finding in found if finding.kind == "leakage"]
    assert len(leaks) == 11
    for leak in leaks:
        assert len({(tools / name).read_bytes() for name in leak.rows}) == 1
        assert {name.split("/")[0] for name in leak.rows} == {"dataset", "dataset_testing"}
    assert next(finding.evidence for finding in found if finding.kind == "imbalance").startswith(
        "Class 'Book' has 1505"
    )


def test_a_leak_is_found_among_readable_rows_of_a_filtered_dataset(photos):
    root = photos({f"{s}/{c}": 3 for s in ("train", "test") for c in ("cat", "dog")})
    shutil.copy(root / "train/cat/0.jpg", root / "test/cat/same.jpg")
    scanned, _ = scan(open_dataset(root), size=8, fit="squash")
    assert audit(scanned.filter(pl.col("split") == "train")) == []
