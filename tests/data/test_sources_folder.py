import os
import shutil
import subprocess

import pytest

from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError


def listed(dataset):
    """(image, class, split) of every row."""
    return [
        (image, dataset.classes[label], split)
        for image, label, split in dataset.table.select("image", "label", "split").iter_rows()
    ]


def test_sub_folders_are_the_classes(photos):
    root = photos({"dog": 1, "cat": 2})
    dataset = open_dataset(root)
    assert dataset.classes == ("cat", "dog")
    assert listed(dataset) == [("cat/0.jpg", "cat", None), ("cat/1.png", "cat", None), ("dog/0.jpg", "dog", None)]
    assert dataset.root == root.resolve()
    assert dataset.table["bytes"].to_list() == [(root / name).stat().st_size for name in dataset.images]
    assert dataset.table["index"].to_list() == [0, 1, 2]
    assert str(dataset) == "3 images of 2 classes (cat 2, dog 1); not yet split"


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_split_folders_in_any_usual_spelling(photos, train, val, test):
    dataset = open_dataset(photos({f"{s}/{c}": 1 for s in (train, val, test) for c in ("cat", "dog")}))
    assert dataset.classes == ("cat", "dog")
    assert dataset.split_counts() == {"train": 2, "val": 2, "test": 2}
    assert {(image.split("/")[0], split) for image, _, split in listed(dataset)} == {
        (train, "train"),
        (val, "val"),
        (test, "test"),
    }


def test_a_class_that_only_the_test_folder_has_is_a_class(photos):
    dataset = open_dataset(photos({"train/cat": 1, "train/dog": 1, "test/emu": 1}))
    assert dataset.classes == ("cat", "dog", "emu")


def test_trains_beside_buses_are_a_class(photos):
    dataset = open_dataset(photos({"train": 2, "bus": 2}))
    assert dataset.classes == ("bus", "train")
    assert dataset.split_counts() == {}


def test_nested_images_belong_to_the_class_above(photos):
    dataset = open_dataset(photos({"cat/2024/spring": 2, "cat": 1, "dog": 1}))
    assert dataset.class_counts() == {"cat": 3, "dog": 1}


def test_hidden_files_and_folders_are_skipped(photos):
    root = photos({"cat": 1, "dog": 1, ".thumbnails": 1, "cat/.cache": 1, "__MACOSX/cat": 1})
    shutil.copy(root / "cat/0.jpg", root / "cat/._0.jpg")
    shutil.copy(root / "cat/0.jpg", root / "cat/.hidden.png")
    assert open_dataset(root).images == ("cat/0.jpg", "dog/0.jpg")


def test_files_that_are_no_images_are_left_alone_and_endings_have_any_case(photos):
    root = photos({"cat": 1, "dog": 1})
    (root / "cat/notes.txt").write_text("no picture")
    (root / "labels.csv").write_text("a,b")
    shutil.copy(root / "cat/0.jpg", root / "cat/B.JPEG")
    assert open_dataset(root).images == ("cat/0.jpg", "cat/B.JPEG", "dog/0.jpg")


def test_names_may_have_any_letters_and_spaces(photos):
    dataset = open_dataset(photos({"chat noir été": 1, "猫 🐈": 1}))
    assert set(dataset.classes) == {"chat noir été", "猫 🐈"}
    assert all((dataset.root / image).exists() for image in dataset.images)


def test_a_name_that_is_not_utf8_is_refused_with_its_folder(photos):
    root = photos({"cat": 1, "dog": 1})
    shutil.copy(os.fsencode(root / "cat/0.jpg"), os.fsencode(root) + b"/cat/caf\xe9.jpg")
    with pytest.raises(DataError, match=r"cat/caf\\xe9\.jpg.*is not valid UTF-8; rename it"):
        open_dataset(root)


def test_a_symlink_loop_ends_and_gives_no_image_to_another_class(photos):
    root = photos({"cat": 2, "dog": 1, "cat/deep": 1})
    (root / "cat/deep/up").symlink_to(root / "cat")
    (root / "cat/everything").symlink_to(root)
    assert open_dataset(root).class_counts() == {"cat": 3, "dog": 1}


def test_a_linked_folder_of_images_counts(photos, tmp_path):
    root = photos({"cat": 1, "dog": 1})
    elsewhere = photos({"more": 2}, into="elsewhere")
    (root / "cat/linked").symlink_to(elsewhere / "more")
    assert open_dataset(root).class_counts() == {"cat": 3, "dog": 1}


def test_a_directory_named_like_an_image_is_a_folder(photos):
    dataset = open_dataset(photos({"cat/x.jpg": 1, "dog": 1}))
    assert dataset.images == ("cat/x.jpg/0.jpg", "dog/0.jpg")


def test_the_order_does_not_depend_on_the_file_system(photos):
    first = open_dataset(photos({"b": 3} | {f"a/{name}": 2 for name in "zmxqfkbw"}))
    assert list(first.images) == sorted(first.images)


def test_loose_images_are_answered_with_where_to_put_them(photos):
    root = photos({".": 2})
    with pytest.raises(
        DataError, match=r"images lie directly in .*photos: put the images of each class into a sub-folder"
    ):
        open_dataset(root)


def test_loose_images_in_the_split_folders_too(photos):
    root = photos({"train": 2, "test": 2})
    # Read as two classes they would train something absurd, so the split names win.
    with pytest.raises(DataError, match=r"images lie directly in .*(train|test): put the images of each class"):
        open_dataset(root)


@pytest.mark.parametrize("folders", [{}, {"cat": 0, "dog": 0}])
def test_no_images(photos, folders):
    with pytest.raises(DataError, match=r"No images in .*photos: expected one sub-folder per class"):
        open_dataset(photos(folders))


def test_one_class_is_not_enough(photos):
    with pytest.raises(DataError, match=r"one class only \('cat'\).*at least two"):
        open_dataset(photos({"cat": 3}))


def test_no_such_path(tmp_path):
    with pytest.raises(UsageError, match=r"No such file or folder: .*nowhere; check the path"):
        open_dataset(tmp_path / "nowhere")


def test_a_single_image_is_no_dataset(photos):
    with pytest.raises(UsageError, match=r"0\.jpg is a single file: name a folder"):
        open_dataset(photos({"cat": 1}) / "cat/0.jpg")


def test_a_folder_of_images_beside_train_and_test_is_not_passed_over(photos):
    root = photos({"train/cat": 1, "train/dog": 1, "test/cat": 1, "test/dog": 1, "extra/cat": 1})
    with pytest.raises(DataError, match=r"folders of images beside .*: extra/; move them away"):
        open_dataset(root)


def test_a_folder_without_images_beside_train_and_test_does_not_matter(photos):
    root = photos({"train/cat": 1, "train/dog": 1, "test/cat": 1, "test/dog": 1, "scripts": 0})
    assert len(open_dataset(root)) == 4


def test_two_folders_for_one_split(photos):
    root = photos({f"{s}/{c}": 1 for s in ("train", "val", "valid") for c in ("cat", "dog")})
    with pytest.raises(DataError, match=r"two folders for one split \(train, val, valid\)"):
        open_dataset(root)


def test_separate_validation_and_test_folders(photos):
    root = photos({"cat": 3, "dog": 2})
    val, test = photos({"cat": 1, "dog": 1}, into="v"), photos({"dog": 1}, into="photos_testing")
    dataset = open_dataset(root, val=val, test=test)
    assert dataset.split_counts() == {"train": 5, "val": 2, "test": 1}
    assert dataset.split("test").class_counts() == {"cat": 0, "dog": 1}
    assert dataset.root == root.parent.resolve()
    assert all((dataset.root / image).exists() for image in dataset.images)
    assert dataset.table["index"].to_list() == list(range(8))


def test_a_test_folder_with_a_class_unknown_to_training(photos):
    root, test = photos({"cat": 1, "dog": 1}), photos({"cat": 1, "emu": 1}, into="t")
    with pytest.raises(DataError, match=r"classes that training had not: emu \(it had cat, dog\)"):
        open_dataset(root, test=test)


def test_a_test_folder_given_beside_one_already_there(photos):
    root = photos({f"{s}/{c}": 1 for s in ("train", "test") for c in ("cat", "dog")})
    with pytest.raises(UsageError, match=r"already has a split 'test': leave out --test"):
        open_dataset(root, test=photos({"cat": 1, "dog": 1}, into="t"))


def test_a_relative_path_is_the_same_place(photos, monkeypatch):
    root = photos({"cat": 1, "dog": 1})
    monkeypatch.chdir(root.parent)
    assert open_dataset("photos").root == root.resolve()


@pytest.mark.parametrize("locked", ["photos", "photos/cat", "photos/cat/deep"])
def test_a_folder_that_may_not_be_read_is_not_passed_over(photos, shared_tmp, unprivileged, locked):
    shutil.copytree(photos({"cat": 1, "dog": 1, "cat/deep": 1}), shared_tmp / "photos")
    subprocess.run(["chmod", "-R", "a+rX", shared_tmp / "photos"], check=True)
    (shared_tmp / locked).chmod(0o000)
    with unprivileged(), pytest.raises(UsageError, match=rf"No permission to read the folder .*{locked}"):
        open_dataset(shared_tmp / "photos")


def test_images_beside_the_class_folders_are_said_to_be_left_out(photos, caplog):
    root = photos({"cat": 1, "dog": 1, ".": 2})
    assert open_dataset(root).images == ("cat/0.jpg", "dog/0.jpg")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"2 images lie beside the class folders of {root}, such as 0.jpg: being in no class" in caplog.text


def test_images_beside_the_class_folders_of_a_split_too(photos, caplog):
    root = photos({"train/cat": 1, "train/dog": 1, "test/cat": 1, "test/dog": 1, "test": 1})
    assert len(open_dataset(root)) == 4
    assert "1 image lies beside the class folders" in caplog.text
    assert "such as test/0.jpg" in caplog.text


def test_nothing_is_said_where_nothing_is_left_out(photos, caplog):
    root = photos({"cat": 1, "dog": 1})
    (root / "README.md").write_text("words")
    (root / ".thumb.png").write_text("hidden")
    open_dataset(root)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("train", "other", "option"),
    [
        ("dataset", "dataset_testing", "--test"),
        ("data", "data-test", "--test"),
        ("pets", "Pets Validation", "--val"),
        ("flowers_train", "flowers_test", "--test"),
        ("imgs", "imgstest", "--test"),
    ],
)
def test_a_folder_beside_its_own_test_folder_is_no_class(photos, train, other, option):
    root = photos({f"{folder}/{name}": 2 for folder in (train, other) for name in ("axe", "book")})
    with pytest.raises(
        DataError,
        match=rf"{train}/ and {other}/ with the same class folders.*{root}/{train} and {option} {root}/{other}",
    ):
        open_dataset(root)


def test_classes_that_look_like_split_siblings_stay_classes(photos):
    # Names alike, but what lies inside is not the same; and years inside classes are not classes.
    assert open_dataset(photos({"crash": 1, "crash_test": 1})).classes == ("crash", "crash_test")
    root = photos({"cat/2023": 1, "cat/2024": 1, "dog/2023": 1, "dog/2024": 1}, into="years")
    assert open_dataset(root).classes == ("cat", "dog")


def test_the_real_folder_above_two_splits(real_data):
    with pytest.raises(DataError, match=r"tools/dataset and --test .*tools/dataset_testing"):
        open_dataset(real_data / "tools")
