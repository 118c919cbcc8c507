"""The checks that need no more than the scan and the copies, each on images with one known fault."""

import shutil

import polars as pl
import pytest
from PIL import Image, ImageOps

from discern.data.audit.checks import audit, unreadable_findings
from discern.data.audit.findings import Finding, summarise
from discern.data.duplicates.search import copies
from discern.data.scan import scan
from discern.data.sources import open_dataset


def findings(root, *, only=None, **options):
    scanned, pixels = scan(open_dataset(root, **options), size=64, fit="pad")
    good = scanned.filter(pl.col("problem").is_null())
    good = good if only is None else good.filter(only)
    return [*unreadable_findings(scanned), *audit(good, *copies(good, pixels))]


def edited(photo, copy, **options):
    with Image.open(photo) as picture:
        picture.resize((60, 80)).save(copy, **options)


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


def test_of_a_leak_nothing_is_found_in_one_of_its_splits(photos):
    root = photos({f"{s}/{c}": 3 for s in ("train", "test") for c in ("cat", "dog")})
    shutil.copy(root / "train/cat/0.jpg", root / "test/cat/same.jpg")
    assert findings(root, only=pl.col("split") == "train") == []


def test_an_edited_copy_in_one_class_and_split_is_noted_with_what_was_done_to_it(scenes):
    root = scenes({"cat": 6, "dog": 6})
    edited(root / "cat/000.jpg", root / "cat/small.jpg", quality=70)
    with Image.open(root / "dog/000.jpg") as picture:
        ImageOps.mirror(picture).save(root / "dog/mirrored.png")
    cat, dog = sorted(findings(root), key=lambda finding: finding.rows)
    assert (cat.kind, cat.severity, cat.rows) == ("near_duplicate", "note", ("cat/000.jpg", "cat/small.jpg"))
    assert cat.detail["variants"] == []
    assert 0.95 < cat.detail["correlation"] <= 1
    assert "2 files show the same picture (edited: correlation 0.9" in cat.evidence
    assert (dog.kind, dog.rows, dog.detail["variants"]) == (
        "near_duplicate",
        ("dog/000.jpg", "dog/mirrored.png"),
        ["mirrored"],
    )


def test_identical_files_among_edited_copies_are_named_on_their_own_too(scenes):
    root = scenes({"cat": 6, "dog": 6})
    edited(root / "cat/000.jpg", root / "cat/small.jpg")
    shutil.copy(root / "cat/000.jpg", root / "cat/same.jpg")
    exact, near = findings(root)
    assert (exact.kind, exact.rows) == ("exact_duplicate", ("cat/000.jpg", "cat/same.jpg"))
    assert (near.kind, near.rows) == ("near_duplicate", ("cat/000.jpg", "cat/same.jpg", "cat/small.jpg"))


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        ("test/cat", ["leakage"]),
        ("train/dog", ["label_conflict"]),
        ("test/dog", ["label_conflict", "leakage"]),
        ("train/cat", ["near_duplicate"]),
    ],
)
def test_an_edited_copy_counts_like_the_file_itself(scenes, place, kinds):
    root = scenes({f"{s}/{c}": 4 for s in ("train", "test") for c in ("cat", "dog")})
    edited(root / "train/cat/000.jpg", root / place / "edited.png")
    found = findings(root)
    assert sorted(finding.kind for finding in found) == kinds
    for finding in found:
        assert set(finding.rows) == {"train/cat/000.jpg", f"{place}/edited.png"}
        assert "same picture" in finding.evidence
        assert "edited: correlation" in finding.evidence


def test_a_cluster_of_many_copies_is_one_finding(scenes):
    root = scenes({f"{s}/{c}": 4 for s in ("train", "val", "test") for c in ("cat", "dog")})
    names = [f"{split}/cat/copy{k}.jpg" for split in ("train", "val", "test") for k in range(3)]
    for k, name in enumerate(names):
        edited(root / "train/cat/000.jpg", root / name, quality=70 + 3 * k)
    (finding,) = findings(root)
    assert finding.kind == "leakage"
    assert set(finding.rows) == {"train/cat/000.jpg", *names}
    assert "is in test and train and val" in finding.evidence


def test_a_finding_comes_back_from_json_as_it_was(scenes):
    root = scenes({"cat": 9, "dog": 2})
    edited(root / "cat/000.jpg", root / "cat/small.jpg")
    found = findings(root)
    assert {finding.kind for finding in found} == {"near_duplicate", "imbalance"}
    assert [Finding.from_json(finding.to_json()) for finding in found] == found
