import json
import os
import shutil

import polars as pl
import pytest

from discern.data.audit.checks import audit
from discern.data.duplicates.search import copies
from discern.data.journal import Decision, decide
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError
from discern.steps.curate import curate


def contents(folder):
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def faulty(photos):
    """Three classes with a copy, a photo of two labels, an unreadable file, and a decision."""
    root = photos({"cat": 14, "dog": 9, "emu": 9})
    shutil.copy(root / "cat/0.jpg", root / "cat/copy.jpg")
    shutil.copy(root / "dog/0.jpg", root / "emu/also.jpg")
    (root / "dog/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    decide(
        root,
        [
            Decision(image="emu/1.png", decision="drop", reason="a drawing"),
            Decision(image="emu/2.jpg", decision="relabel", label="dog", reason="it is one"),
        ],
    )
    return root


def test_the_whole_preparation(faulty, tmp_path):
    before = contents(faulty)
    done = curate(faulty, tmp_path / "out", test_per_class=2, max_per_class=10, size=16, balance="oversample", seed=1)
    assert contents(faulty) == before
    assert {(each.image, each.reason) for each in done.left_out if each.reason != "over_cap"} == {
        ("emu/1.png", "dropped"),
        ("dog/broken.jpg", "unreadable"),
        ("dog/0.jpg", "two_labels"),
        ("emu/also.jpg", "two_labels"),
        ("cat/copy.jpg", "duplicate"),
    }
    assert sum(each.reason == "over_cap" for each in done.left_out) == 2
    counts = done.counts()
    assert counts["test"] == {"cat": 2, "dog": 2, "emu": 2}
    assert len(set(counts["train"].values())) == 1
    labels = dict(done.outputs.filter(pl.col("copy") == 0).select("source", "label").iter_rows())
    assert labels["emu/2.jpg"] == "dog"
    assert sorted(os.listdir(tmp_path / "out")) == ["curation", "test", "train", "val"]
    written = {"curation.html", "curation.json", "outputs.parquet"}
    assert set(os.listdir(tmp_path / "out" / "curation")) == written


def test_the_copy_is_read_like_any_photos_and_has_no_fault(faulty, tmp_path):
    done = curate(faulty, tmp_path / "out", test_per_class=2, size=16, balance="oversample")
    dataset, pixels = scan(open_dataset(tmp_path / "out"), size=16, fit="pad")
    assert dataset.images == tuple(sorted(done.outputs["image"], key=dataset.images.index))
    splits = dict(done.outputs.select("image", "split").iter_rows())
    labels = dict(done.outputs.select("image", "label").iter_rows())
    for image, split, label in dataset.table.select("image", "split", "label").iter_rows():
        assert splits[image] == split
        assert labels[image] == dataset.classes[label]
    kinds = {finding.kind for finding in audit(dataset, *copies(dataset, pixels))}
    assert not kinds & {"leakage", "exact_duplicate", "label_conflict", "unreadable"}


def test_what_is_written_tells_how_it_was_made(faulty, tmp_path):
    done = curate(faulty, tmp_path / "out", size=16, balance="oversample", seed=7)
    record = json.loads((tmp_path / "out" / "curation" / "curation.json").read_text())
    assert record["arguments"]["size"] == 16
    assert record["arguments"]["seed"] == 7
    assert record["photos"] == [str(faulty)]
    assert record["counts"] == done.counts()
    assert {"image": "emu/1.png", "reason": "dropped", "detail": "a drawing"} in record["left_out"]
    table = pl.read_parquet(tmp_path / "out" / "curation" / "outputs.parquet")
    assert table.equals(done.outputs)
    assert set(table["seed"]) == {7}


def test_the_same_arguments_give_the_same_files(faulty, tmp_path):
    arguments = {"test_per_class": 2, "size": 16, "balance": "oversample"}
    for name in ("one", "two"):
        curate(faulty, tmp_path / name, **arguments)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert {name: data for name, (data, _) in one.items()} == {name: data for name, (data, _) in two.items()}


def test_photos_of_a_test_folder_are_not_among_the_training_photos(photos, tmp_path):
    root, test = photos({"cat": 9, "dog": 9}), photos({"cat": 3, "dog": 3}, into="t")
    shutil.copy(test / "cat/0.jpg", root / "cat/seen.jpg")
    decide(test, [Decision(image="dog/1.png", decision="drop", reason="x")])
    done = curate(root, tmp_path / "out", test=test, keep_duplicates=True)
    assert {(each.image, each.reason) for each in done.left_out} == {
        ("photos/cat/seen.jpg", "crosses"),
        ("t/dog/1.png", "dropped"),
    }
    assert done.counts()["test"] == {"cat": 3, "dog": 2}


@pytest.mark.parametrize("inside", [".", "new", "cat/new"])
def test_a_copy_inside_the_source_is_refused(faulty, inside):
    before = contents(faulty)
    with pytest.raises(UsageError, match=r"lies in .*, whose images it would join; choose a folder elsewhere"):
        curate(faulty, faulty / inside)
    assert contents(faulty) == before


def test_nothing_is_left_when_it_fails(faulty, tmp_path):
    with pytest.raises(DataError, match="give --test-per-class"):
        curate(faulty, tmp_path / "out", test_per_class=40)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_photos_that_cannot_be_decoded_at_all(photos, tmp_path):
    root = photos({"cat": 2, "dog": 2})
    for file in root.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="None of the 4 images"):
        curate(root, tmp_path / "out")


def test_tool_photos_become_the_prepared_set(real_data, tmp_path):
    """The preparation of the tools set: 1,500 of a class at most, 30 held out, all 224 pixels, classes equal."""
    source = real_data / "tools" / "dataset"
    done = curate(source, tmp_path / "out", test_per_class=30, max_per_class=400, size=64, balance="oversample")
    counts = done.counts()
    assert counts["test"] == {"Axe": 30, "Book": 30, "Hammer": 30}
    assert len(set(counts["train"].values())) == 1
    dataset, pixels = scan(open_dataset(tmp_path / "out"), size=64, fit="pad")
    kinds = {finding.kind for finding in audit(dataset, *copies(dataset, pixels))}
    assert not kinds & {"leakage", "exact_duplicate", "label_conflict", "unreadable"}
