import hashlib
import os

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data.curation.copies import LARGEST, OUTPUTS, building, class_folders, encoded, fitted_picture, write_copy
from discern.data.curation.curate import plan
from discern.data.decode import FITS, decode
from discern.data.duplicates.search import exact_clusters
from discern.data.scan import load_images, scan
from discern.data.sources import open_dataset
from discern.errors import DataError, StorageError, UsageError
from discern.progress import Silent


def written(root, out, *, size=None, fit="pad", seed=0, **options):
    dataset, _ = scan(open_dataset(root), size=16, fit="pad")
    made = plan(dataset, exact_clusters(dataset), seed=seed, **options)
    out.mkdir()
    return write_copy(made, out, size=size, fit=fit, seed=seed, progress=Silent())


@pytest.fixture
def source(photos):
    return photos({"cat": 12, "dog": 5, "emu": 8})


def files_below(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_without_a_size_every_file_is_the_source_s_byte_for_byte(source, tmp_path):
    outputs = written(source, tmp_path / "out")
    assert outputs.schema == pl.Schema(OUTPUTS)
    assert outputs.height == 25
    for image, origin, digest, split, label, operations in outputs.select(
        "image", "source", "source_digest", "split", "label", "operations"
    ).iter_rows():
        data = (tmp_path / "out" / image).read_bytes()
        assert data == (source / origin).read_bytes()
        assert hashlib.blake2b(data, digest_size=16).hexdigest() == digest
        assert image == f"{split}/{origin}"
        assert origin.startswith(f"{label}/")
        assert operations == ""
    assert set(files_below(tmp_path / "out")) == set(outputs["image"])


@pytest.mark.parametrize("fit", FITS)
def test_with_a_size_the_pixels_are_those_a_training_would_make_of_the_source(source, tmp_path, fit):
    outputs = written(source, tmp_path / "out", size=20, fit=fit)
    copy, of_source = open_dataset(tmp_path / "out"), open_dataset(source)
    pixels = dict(zip(copy.images, load_images(copy, size=20, fit="pad"), strict=True))
    expected = dict(zip(of_source.images, load_images(of_source, size=20, fit=fit), strict=True))
    assert {image.rpartition(".")[2] for image in outputs["image"]} == {"png"}
    assert set(outputs["operations"]) == {f"{fit} 20"}
    for image, origin in outputs.select("image", "source").iter_rows():
        assert (pixels[image] == expected[origin]).all()


@pytest.mark.parametrize("size", [None, 20])
def test_varied_copies_fill_up_training_and_stand_beside_their_source(source, tmp_path, size):
    outputs = written(source, tmp_path / "out", size=size, oversample=True, test_per_class=1)
    copies = outputs.filter(pl.col("copy") > 0)
    train = outputs.filter(pl.col("split") == "train")
    assert train["label"].value_counts()["count"].n_unique() == 1
    originals = dict(outputs.filter(pl.col("copy") == 0).select("source", "image").iter_rows())
    for image, origin, number in copies.select("image", "source", "copy").iter_rows():
        assert image.rpartition(".")[0] == f"{originals[origin].rpartition('.')[0]}-aug{number}"
    splits = outputs.group_by("source").agg(pl.col("split").n_unique())
    assert splits["split"].max() == 1
    assert set(copies["split"]) == {"train"}
    with Image.open(tmp_path / "out" / copies["image"][0]) as picture:
        assert picture.size == ((20, 20) if size else (32, 24))
        assert picture.format == ("PNG" if size else "JPEG")
    dataset, _ = scan(open_dataset(tmp_path / "out"), size=16, fit="pad")
    assert dataset.table["problem"].null_count() == len(dataset) == outputs.height
    assert dataset.table["digest"].is_unique().all()


def test_the_same_seed_writes_the_same_bytes_and_another_others(source, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        written(source, tmp_path / name, size=20, oversample=True, seed=seed)
    one, two, three = (files_below(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one.keys() != three.keys()


def test_names_that_would_be_one_get_numbers(photos, tmp_path):
    root = photos({"cat/a": 3, "cat/b": 3, "cat": 3, "dog": 4, "cat/c": 1})
    (root / "cat/c/0.jpg").rename(root / "cat/c/0-2.JPG")
    (root / "cat/1.png").rename(root / "cat/0.PNG")
    outputs = written(root, tmp_path / "out", size=8, oversample=True)
    assert outputs["image"].str.to_lowercase().is_unique().all()
    assert len(files_below(tmp_path / "out")) == outputs.height


def test_images_inside_a_file_get_its_name_and_their_row(real_data, tmp_path):
    dataset = open_dataset(real_data / "cifar10" / "test.parquet").filter(pl.col("row") % 37 == 0)
    dataset, _ = scan(dataset, size=32, fit="pad")
    dataset = dataset.with_columns(pl.Series("split", [None] * len(dataset), pl.String))
    (tmp_path / "out").mkdir()
    made = plan(dataset, [], seed=0)
    outputs = write_copy(made, tmp_path / "out", size=None, fit="pad", seed=0, progress=Silent())
    row = outputs.row(0, named=True)
    assert row["source"] == "test.parquet#0"
    assert row["image"].startswith(f"{row['split']}/{row['label']}/test-0.")
    assert open_dataset(tmp_path / "out").class_counts() == dataset.class_counts()


def test_a_source_that_changes_meanwhile_is_noticed(source, tmp_path):
    dataset, _ = scan(open_dataset(source), size=16, fit="pad")
    made = plan(dataset, [], seed=0)
    (source / "dog/0.jpg").write_bytes((source / "dog/2.jpg").read_bytes())
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"dog/0\.jpg in .* changed meanwhile; run the command again"):
        write_copy(made, tmp_path / "out", size=None, fit="pad", seed=0, progress=Silent())


def test_a_class_name_becomes_a_folder_name_or_is_refused():
    assert class_folders(["tomato/healthy", "a\\b", " c "]) == ["tomato-healthy", "a-b", "c"]
    for names in (["a/b", "a-b"], ["Cat", "cat"]):
        with pytest.raises(DataError, match="would share a folder"):
            class_folders(names)
    for name in ("..", ".hidden", "", "__MACOSX"):
        with pytest.raises(DataError, match="cannot be a folder's"):
            class_folders(["cat", name])


def test_a_very_long_picture_is_varied_at_a_size_that_memory_bears():
    data = encoded(np.full((40, LARGEST + 1000, 3), 7, np.uint8), lossless=True)
    picture, inside = fitted_picture(data, LARGEST + 1000, 40, size=None, fit="pad")
    assert picture.shape == (32, LARGEST, 3)
    assert (inside == 255).all()


def test_the_mask_covers_the_photo_and_not_its_padding():
    data = encoded(np.full((10, 40, 3), 200, np.uint8), lossless=True)
    picture, inside = fitted_picture(data, 40, 10, size=16, fit="pad")
    assert ((picture[..., 0] > 0) == (inside > 0)).all()
    for fit in ("squash", "crop"):
        assert (fitted_picture(data, 40, 10, size=16, fit=fit)[1] == 255).all()


def test_what_is_encoded_without_loss_is_read_back():
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    assert (decode(encoded(picture, lossless=True), size=9, fit="pad").image == picture).all()
    smooth = cv2.resize(picture[:3, :3], (64, 64), interpolation=cv2.INTER_CUBIC)
    lossy = decode(encoded(smooth, lossless=False), size=64, fit="pad").image
    assert np.abs(lossy.astype(int) - smooth).mean() < 1.5


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt), building(out) as folder:  # noqa: PT012
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    assert list((tmp_path / "deep").iterdir()) == []
    with building(out) as folder:
        (folder / "whole").write_text("x")
        assert not out.exists()
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert os.listdir(out) == ["whole"]


def test_an_empty_folder_is_taken_and_a_full_one_or_a_file_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with building(tmp_path / "empty") as folder:
        (folder / "x").touch()
    (tmp_path / "file").touch()
    for name in ("empty", "file"):
        with pytest.raises(UsageError, match="not an empty folder"), building(tmp_path / name):
            pass


def test_a_full_disk_leaves_nothing(source, mounted):
    disk = mounted("size=96k")
    dataset, _ = scan(open_dataset(source), size=16, fit="pad")
    made = plan(dataset, [], seed=0)
    with pytest.raises(StorageError, match="The disk is full"), building(disk / "out") as folder:
        write_copy(made, folder, size=128, fit="pad", seed=0, progress=Silent())
    assert list(disk.iterdir()) == []
