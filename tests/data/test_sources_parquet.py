import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError


def picture(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, labels, *, names=None, seed=0, row_group_size=None, images=None):
    """Write `labels` with random pictures as the Hugging Face `datasets` library does."""
    images = images or [{"bytes": picture(seed + i), "path": f"{i}.png"} for i in range(len(labels))]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, image_type), "label": pa.array(labels)})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_a_single_file_with_class_names_in_its_schema(tmp_path):
    dataset = open_dataset(write(tmp_path / "all.parquet", [1, 0, 1], names=["zebra", "ant"]))
    assert dataset.classes == ("zebra", "ant")  # the schema's order, not the alphabet's
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.images == ("all.parquet#0", "all.parquet#1", "all.parquet#2")
    assert dataset.split_counts() == {}
    assert dataset.root == tmp_path.resolve()


@pytest.mark.parametrize("below", ["", "data"])
def test_a_folder_of_split_files(tmp_path, below):
    names = ["cat", "dog"]
    write(tmp_path / below / "train-00000-of-00002.parquet", [0, 1, 1], names=names)
    write(tmp_path / below / "train-00001-of-00002.parquet", [0], names=names)
    write(tmp_path / below / "validation-00000-of-00001.parquet", [1], names=names)
    write(tmp_path / below / "test-00000-of-00001.parquet", [0, 1], names=names)
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 4, "val": 1, "test": 2}
    assert dataset.split("train").class_counts() == {"cat": 2, "dog": 2}


def test_separate_test_file(tmp_path):
    train = write(tmp_path / "photos.parquet", ["cat", "dog"])
    test = write(tmp_path / "elsewhere" / "held_out.parquet", ["dog"], seed=9)
    dataset = open_dataset(train, test=test)
    assert dataset.split_counts() == {"train": 2, "test": 1}
    scanned, _ = scan(dataset, size=8, fit="pad")
    assert scanned.table["problem"].null_count() == 3


def test_text_labels(tmp_path):
    dataset = open_dataset(write(tmp_path / "a.parquet", ["dog", "cat", "dog"]))
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0, 1]


def test_whole_number_labels_without_names_are_in_order_of_value(tmp_path):
    assert open_dataset(write(tmp_path / "a.parquet", [10, 9, 2])).classes == ("2", "9", "10")


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, missing):
    path = write(tmp_path / "a.parquet", ["cat", "dog"])
    pq.write_table(pq.read_table(path).rename_columns({missing: "other"}), path)
    with pytest.raises(DataError, match=rf"no column '{missing}' \(it has .*other"):
        open_dataset(path)


def test_an_image_column_of_another_kind(tmp_path):
    pq.write_table(pa.table({"image": [b"raw", b"raw"], "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column 'image' .*binary.*expected .*struct of bytes and path"):
        open_dataset(tmp_path / "a.parquet")


def test_a_row_without_label_is_named(tmp_path):
    with pytest.raises(DataError, match=r"the row 1 has no label"):
        open_dataset(write(tmp_path / "a.parquet", ["cat", None, "dog"]))


def test_a_label_beyond_the_names(tmp_path):
    with pytest.raises(DataError, match=r"the label 2, but its schema names 2 classes"):
        open_dataset(write(tmp_path / "a.parquet", [0, 2], names=["cat", "dog"]))


def test_files_that_disagree_about_the_classes(tmp_path):
    write(tmp_path / "train.parquet", [0, 1], names=["cat", "dog"])
    write(tmp_path / "test.parquet", [0, 1], names=["dog", "cat"])
    with pytest.raises(DataError, match=r"name different classes"):
        open_dataset(tmp_path)


def test_a_file_for_no_split_beside_one_that_is(tmp_path):
    write(tmp_path / "train.parquet", ["cat", "dog"])
    write(tmp_path / "more.parquet", ["cat", "dog"])
    with pytest.raises(DataError, match=r"more\.parquet is for no split while its neighbours are"):
        open_dataset(tmp_path)


def test_no_rows(tmp_path):
    with pytest.raises(DataError, match=r"No images in .*: its Parquet files have no rows"):
        open_dataset(write(tmp_path / "a.parquet", pa.array([], pa.string())))


@pytest.mark.parametrize("content", [b"", b"no parquet at all, whatever its name says", None])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "a.parquet"
    if content is None:  # cut off in the middle
        content = write(path, ["cat", "dog"]).read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet .*; download or write it again"):
        open_dataset(path)


def test_damage_inside_the_images_becomes_the_rows_problem(tmp_path):
    path = write(tmp_path / "a.parquet", ["cat", "dog"] * 4, row_group_size=4)
    data = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = second.dictionary_page_offset or second.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    scanned, _ = scan(open_dataset(path), size=8, fit="pad")
    problems = scanned.table["problem"].to_list()
    assert problems[:4] == [None] * 4
    assert all(problem.startswith("it cannot be opened") for problem in problems[4:])


def test_rows_without_image_become_a_problem(tmp_path):
    images = [{"bytes": picture(0), "path": None}, {"bytes": None, "path": "x.png"}, None, {"bytes": b"", "path": ""}]
    scanned, _ = scan(open_dataset(write(tmp_path / "a.parquet", ["a", "b"] * 2, images=images)), size=8, fit="pad")
    assert scanned.table["problem"].to_list() == [None] + ["it is empty (0 bytes)"] * 3


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_row_groups_do_not_matter(tmp_path, row_group_size):
    path = write(tmp_path / "a.parquet", ["cat", "dog"] * 5, row_group_size=row_group_size)
    scanned, pixels = scan(open_dataset(path), size=30, fit="pad")
    for row in range(10):
        expected = np.asarray(Image.open(io.BytesIO(picture(row))))
        np.testing.assert_array_equal(pixels.array[row][5:25], expected)
    assert scanned.table["digest"].n_unique() == 10


@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "labels"), ("img", "fine_label")])
def test_the_columns_by_the_names_they_have_on_the_hub(tmp_path, image, label):
    path = write(tmp_path / "a.parquet", [1, 0])
    table = pq.read_table(path).rename_columns({"image": image, "label": label})
    table = table.append_column("coarse_label", pa.array([7, 7])).append_column("mask", table[image])
    pq.write_table(table, path)
    scanned, _ = scan(open_dataset(path), size=8, fit="pad")
    assert scanned.labels.tolist() == [1, 0]
    assert scanned.table["problem"].null_count() == 2


def test_several_labels_for_one_image(tmp_path):
    table = pq.read_table(write(tmp_path / "a.parquet", [1, 0])).drop_columns("label")
    pq.write_table(table.append_column("labels", pa.array([[0, 1], [1]])), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"The column 'labels' of .* is of type list.*exactly one label"):
        open_dataset(tmp_path / "a.parquet")


def test_a_folder_per_split(tmp_path):
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        write(tmp_path / split / "0000.parquet", [0, 1, 0][:count], names=["cat", "dog"])
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 3, "val": 1, "test": 2}
    assert dataset.images[0] == "test/0000.parquet#0"


def test_the_split_may_stand_anywhere_in_a_file_s_name(tmp_path):
    write(tmp_path / "svhn-train.parquet", [0, 1], names=["cat", "dog"])
    write(tmp_path / "svhn-test.parquet", [0, 1], names=["cat", "dog"])
    assert open_dataset(tmp_path).split_counts() == {"train": 2, "test": 2}


def test_files_with_and_without_names_of_classes(tmp_path):
    write(tmp_path / "train.parquet", [0, 1], names=["cat", "dog"])
    write(tmp_path / "test.parquet", [0, 1])
    with pytest.raises(DataError, match=r"name different classes"):
        open_dataset(tmp_path)
    write(tmp_path / "test.parquet", ["dog", "cat"])
    assert open_dataset(tmp_path).split("test").labels.tolist() == [1, 0]
