"""Preparing: the unreadable left out, the splits made, copies kept from both sides, the findings said."""

import shutil

import polars as pl
import pytest
from PIL import Image, ImageEnhance

from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError
from discern.progress import Silent
from discern.steps.prepare import prepare
from discern.training.recipe import Recipe


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def prepared(data, progress=None, *, size=8, **recipe):
    return prepare(data, Recipe(**recipe), size=size, progress=progress or Silent())


def splits(done):
    return dict(done.dataset.table.select("image", "split").iter_rows())


def test_every_readable_image_is_in_one_split_and_has_its_pixels(photos):
    done = prepared(photos({"cat": 10, "dog": 10}))
    assert done.dataset.split_counts() == {"train": 12, "val": 4, "test": 4}
    assert done.pixels.take(done.dataset.index).shape == (20, 8, 8, 3)
    assert done.findings == ()
    assert (done.passage.leakage, done.passage.clusters) == (None, 0)


def test_the_unreadable_are_left_out_and_said(photos):
    root, listener = photos({"cat": 8, "dog": 8}), Listener()
    (root / "cat" / "0.jpg").write_bytes(b"")
    done = prepared(root, listener)
    assert "cat/0.jpg" not in done.dataset.images
    assert [finding.kind for finding in done.findings] == ["unreadable"]
    assert listener.said == ["warning: unreadable: cat/0.jpg cannot be used: it is empty (0 bytes)."]


def test_a_class_whose_images_are_all_unreadable_is_refused(photos):
    root = photos({"cat": 8, "dog": 4})
    for file in (root / "dog").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="dog"):
        prepared(open_dataset(root))


def test_no_readable_image_at_all(photos):
    root = photos({"cat": 2, "dog": 2})
    for file in root.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 4 images in .* can be decoded; the first, cat/0\.jpg: it is em"):
        prepared(root)


def test_the_recipe_decides_about_seed_share_and_groups(photos):
    root = photos({"cat": 20, "dog": 20})
    assert splits(prepared(root)) == splits(prepared(root))
    assert splits(prepared(root, seed=1)) != splits(prepared(root))
    assert prepared(root, val_share=0.3).dataset.split_counts()["val"] == 12
    grouped = splits(prepared(root, group_by=r"(\d)\."))  # 0, 10; 1, 11; ...
    for k in range(10):
        for name, suffix in (("cat", "jpg" if k % 2 == 0 else "png"), ("dog", "jpg" if k % 2 == 0 else "png")):
            assert grouped[f"{name}/{k}.{suffix}"] == grouped[f"{name}/1{k}.{suffix}"]


def edited(photo, copy):
    with Image.open(photo) as picture:
        ImageEnhance.Brightness(picture.resize((60, 80))).enhance(1.1).save(copy, quality=80)


@pytest.fixture(params=["exact", "near"])
def leaking(request, scenes):
    """A cat in all three splits (twice in training), a dog in training and validation; files or edited copies."""
    root = scenes({f"{s}/{c}": 6 for s in ("train", "val", "test") for c in ("cat", "dog")})
    copy = shutil.copy if request.param == "exact" else edited
    for photo, name in (
        ("train/cat/000.jpg", "train/cat/again.jpg"),
        ("train/cat/000.jpg", "val/cat/again.jpg"),
        ("train/cat/000.jpg", "test/cat/again.jpg"),
        ("train/dog/000.jpg", "val/dog/again.jpg"),
    ):
        copy(root / photo, root / name)
    return root


def test_copies_across_splits_are_refused_with_the_pairs_and_the_ways_on(leaking):
    with pytest.raises(DataError) as refused:
        prepared(leaking, size=64)
    message = str(refused.value)
    assert refused.value.exit_code == 3
    assert message.startswith("Leakage: 2 photos are in more than one split")
    for name in ("train/cat/000.jpg (train)", "val/cat/again.jpg (val)", "test/cat/again.jpg (test)"):
        assert name in message
    assert "train/dog/000.jpg (train) = val/dog/again.jpg (val)" in message
    assert all(f"--leakage {way}" in message for way in ("group", "drop", "allow"))


def test_drop_leaves_the_training_and_validation_copies_out(leaking):
    listener = Listener()
    done = prepared(leaking, listener, size=64, leakage="drop")
    gone = {"train/cat/000.jpg", "train/cat/again.jpg", "val/cat/again.jpg", "train/dog/000.jpg"}
    assert set(done.passage.dropped) == gone
    assert not gone & set(done.dataset.images)
    assert splits(done)["test/cat/again.jpg"] == "test"
    assert splits(done)["val/dog/again.jpg"] == "val"
    (leak,) = (finding for finding in done.findings if finding.kind == "leakage")
    assert (leak.severity, set(leak.rows)) == ("note", gone)
    assert leak.evidence == "2 photos are in several splits: 4 copies were left out of training and validation."
    assert f"note: leakage: {leak.evidence}" in listener.said


def test_group_moves_each_photo_to_its_held_out_split(leaking):
    done = prepared(leaking, size=64, leakage="group")
    where = splits(done)
    assert len(where) == 40
    assert {where[name] for name in ("train/cat/000.jpg", "train/cat/again.jpg", "val/cat/again.jpg")} == {"test"}
    assert where["train/dog/000.jpg"] == "val"
    assert len(done.passage.moved) == 4
    assert [finding.severity for finding in done.findings if finding.kind == "leakage"] == ["note"]


def test_allow_goes_on_with_the_reason_and_the_errors_stay(leaking):
    done = prepared(leaking, size=64, leakage="allow", because="published so")
    assert len(done.dataset) == 40
    assert done.passage.because == "published so"
    leaks = [finding for finding in done.findings if finding.kind == "leakage"]
    assert [leak.severity for leak in leaks] == ["error", "error"]


def test_a_class_that_is_gone_after_dropping_is_refused(photos):
    root = photos({"train/cat": 6, "train/dog": 2, "val/cat": 3, "val/dog": 3, "test/cat": 4, "test/dog": 4})
    for name in ("0.jpg", "1.png"):
        shutil.copy(root / "train/dog" / name, root / "test/dog" / f"same-{name}")
    with pytest.raises(DataError, match=r"The split 'train' of .* has no image of 'dog'"):
        prepared(root, leakage="drop")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"because": "so it is"}, "--because is the reason for --leakage allow"),
        ({"leakage": "drop", "because": "so it is"}, "--because is the reason for --leakage allow"),
        ({"leakage": "allow"}, "--leakage allow needs a reason"),
    ],
)
def test_a_way_on_that_is_not_complete_is_refused_before_an_image_is_read(photos, cache, recipe, words):
    with pytest.raises(UsageError, match=words):
        prepared(photos({"cat": 8, "dog": 8}), **recipe)
    assert list(cache.iterdir()) == []


def test_copies_go_to_one_side_when_the_splits_are_ours(scenes):
    root = scenes({"cat": 30, "dog": 30})
    for k in range(10):
        edited(root / f"cat/00{k}.jpg", root / f"cat/again{k}.jpg")
        shutil.copy(root / f"dog/00{k}.jpg", root / f"dog/again{k}.jpg")
    for seed in range(3):
        done = prepared(root, size=64, seed=seed)
        where = splits(done)
        assert done.passage.clusters == 0
        for k in range(10):
            assert where[f"cat/00{k}.jpg"] == where[f"cat/again{k}.jpg"]
            assert where[f"dog/00{k}.jpg"] == where[f"dog/again{k}.jpg"]
        assert not [finding for finding in done.findings if finding.kind == "leakage"]
        assert sum(finding.kind == "near_duplicate" for finding in done.findings) == 10


def test_published_tools_photos_go_on_when_told_how(real_data):
    data = open_dataset(real_data / "tools" / "dataset", test=real_data / "tools" / "dataset_testing")
    with pytest.raises(DataError, match="Leakage: 11 photos are in more than one split"):
        prepared(data, size=64)
    done = prepared(data, size=64, leakage="drop")
    assert len(done.passage.dropped) >= 11
    assert done.dataset.split("test").class_counts() == {"Axe": 35, "Book": 35, "Hammer": 35}
    assert len(done.dataset.filter(pl.col("split") == "test")) == 105
