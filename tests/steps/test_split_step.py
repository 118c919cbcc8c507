import shutil

import polars as pl
import pytest

from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError
from discern.steps.split import split


def where(manifest):
    return dict(pl.read_csv(manifest).select("path", "split").iter_rows())


def test_the_manifest_is_read_as_the_same_images_with_their_splits(photos, tmp_path):
    root = photos({"cat": 20, "dog": 10})
    made = split(root, tmp_path / "out" / "split.csv", seed=3)
    assert made.counts == (
        {"train": {"cat": 14, "dog": 6}, "val": {"cat": 3, "dog": 2}, "test": {"cat": 3, "dog": 2}},
    )
    read = open_dataset(made.files[0])
    assert read.class_counts() == {"cat": 20, "dog": 10}
    assert read.split_counts() == {"train": 20, "val": 5, "test": 5}
    assert {(read.root / file).resolve() for file in read.table["file"]} == {
        (root / file).resolve() for file in open_dataset(root).table["file"]
    }


def test_the_seed_decides(photos, tmp_path):
    root = photos({"cat": 20, "dog": 20})
    first, again, other = (
        where(split(root, tmp_path / f"{name}.csv", seed=seed).files[0])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_copies_and_groups_stay_together(photos, tmp_path):
    root = photos({"cat": 24, "dog": 24})
    for number in range(0, 24, 2):
        shutil.copy(root / f"cat/{number}.jpg", root / f"cat/copy{number}.jpg")
    made = split(root, tmp_path / "split.csv", group_by=r"dog/(\d)")
    splits = where(made.files[0])
    named = {path.rsplit("/", 2)[-2] + "/" + path.rsplit("/", 1)[-1]: name for path, name in splits.items()}
    assert all(named[f"cat/{n}.jpg"] == named[f"cat/copy{n}.jpg"] for n in range(0, 24, 2))
    groups = {}
    for name, its in named.items():
        if name.startswith("dog/"):
            groups.setdefault(name[4], set()).add(its)
    assert len(groups) == 10
    assert all(len(found) == 1 for found in groups.values())


def test_a_column_of_a_manifest_groups(photos, tmp_path):
    root = photos({"cat": 16, "dog": 16})
    lines = ["path,label,patient"]
    lines += [f"{c}/{n}.{'jpg' if n % 2 == 0 else 'png'},{c},{c}{n // 2}" for c in ("cat", "dog") for n in range(16)]
    (root / "all.csv").write_text("\n".join(lines))
    made = split(root / "all.csv", tmp_path / "split.csv", group_by="patient")
    table = pl.read_csv(made.files[0])
    assert table.columns == ["path", "label", "split", "group"]
    assert table["group"].n_unique() == 16
    assert table.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 16


def test_every_image_is_tested_in_exactly_one_fold(photos, tmp_path):
    root = photos({"cat": 15, "dog": 10})
    made = split(root, tmp_path / "folds", count=5)
    assert [file.name for file in made.files] == [f"fold-{k}-of-5.csv" for k in range(1, 6)]
    tests = [{path for path, name in where(file).items() if name == "test"} for file in made.files]
    assert len(set.union(*tests)) == sum(map(len, tests)) == 25
    assert all(counts["test"] == {"cat": 3, "dog": 2} for counts in made.counts)
    assert all(set(counts) == {"train", "val", "test"} for counts in made.counts)


def test_a_given_test_split_stays_sealed_in_every_fold(photos, tmp_path):
    root = photos({"train/cat": 9, "train/dog": 9, "test/cat": 2, "test/dog": 2})
    made = split(root, tmp_path / "folds", count=3)
    for counts in made.counts:
        assert counts == {
            "train": {"cat": 6, "dog": 6},
            "val": {"cat": 3, "dog": 3},
            "test": {"cat": 2, "dog": 2},
        }


def test_copies_across_given_splits_are_refused_or_dropped(photos, tmp_path):
    root = photos({f"{part}/{name}": 8 for part in ("train", "test") for name in ("cat", "dog")})
    shutil.copy(root / "train/cat/0.jpg", root / "test/cat/same.jpg")
    with pytest.raises(DataError, match=r"train/cat/0\.jpg \(train\) = test/cat/same\.jpg \(test\)|= train/cat/0"):
        split(root, tmp_path / "split.csv")
    assert not (tmp_path / "split.csv").exists()
    made = split(root, tmp_path / "split.csv", leakage="drop")
    assert made.passage.dropped == ("train/cat/0.jpg",)
    assert not [path for path in where(made.files[0]) if path.endswith("train/cat/0.jpg")]


def test_an_unreadable_file_is_left_out(photos, tmp_path):
    root = photos({"cat": 8, "dog": 8})
    (root / "cat/0.jpg").write_bytes(b"")
    assert len(where(split(root, tmp_path / "split.csv").files[0])) == 15


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("split.txt", {}, r"must end in \.csv or \.parquet"),
        ("split.csv", {"count": 5}, "go into a folder"),
        ("folds", {"count": 1}, "two at least"),
        ("split.csv", {"group_by": "("}, "not a regular expression"),
        ("split.csv", {"group_by": "zebra"}, "matches no image name"),
        ("split.csv", {"leakage": "allow"}, "needs a reason"),
        ("split.csv", {"leakage": "hide"}, "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(photos, tmp_path, out, options, said):
    with pytest.raises(UsageError, match=said):
        split(photos({"cat": 8, "dog": 8}), tmp_path / out, **options)


def test_a_manifest_is_never_overwritten(photos, tmp_path):
    (tmp_path / "split.csv").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        split(photos({"cat": 8, "dog": 8}), tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text() == "mine"


def test_the_command_prints_counts_and_the_next_step(photos, tmp_path, discern):
    root = photos({"cat": 20, "dog": 10})
    answer = discern("split", root, tmp_path / "split.csv")
    assert answer.code == 0
    assert "14" in answer.out
    assert f"discern train {tmp_path / 'split.csv'}" in answer.out
    folds = discern("split", root, tmp_path / "folds", "--folds", 2, "--json")
    assert len(folds.json["files"]) == 2
    assert folds.json["gate"]["leakage"] is None
