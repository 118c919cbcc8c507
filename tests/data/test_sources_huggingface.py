import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from discern.data.reading import portions
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


def picture(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def made(labels, *, names=("zebra", "ant"), image="image", label="label", seed=0):
    """A Dataset of the `datasets` library."""
    columns = {
        "id": list(range(len(labels))),
        image: [{"bytes": picture(seed + n), "path": None} for n in range(len(labels))],
        label: labels,
    }
    of_labels = datasets.ClassLabel(names=list(names)) if names else datasets.Value(label_type(labels))
    features = datasets.Features({"id": datasets.Value("int64"), image: datasets.Image(), label: of_labels})
    return datasets.Dataset.from_dict(columns, features=features)


def label_type(labels):
    return "string" if isinstance(labels[0], str) else "int64"


def fetched(dataset):
    found = {}
    for portion in portions(dataset):
        found |= dict(zip(portion.rows, portion.fetch(), strict=True))
    return [found[row] for row in range(len(dataset))]


def test_one_dataset_in_several_files(tmp_path):
    made([0, 1] * 50).save_to_disk(tmp_path / "saved", num_shards=3)
    dataset = open_dataset(tmp_path / "saved")
    assert dataset.classes == ("zebra", "ant")  # in the order of the features, not the alphabet's
    assert dataset.labels.tolist() == [0, 1] * 50
    assert dataset.split_counts() == {}
    assert dataset.images[0] == "data-00000-of-00003.arrow#0"
    assert fetched(dataset) == [picture(n) for n in range(100)]
    scanned, pixels = scan(dataset, size=11, fit="pad")
    shown = pixels.array[scanned.index[77]][1:10]
    np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(picture(77)))))


def test_a_folder_per_split(tmp_path):
    splits = {"train": made([0, 1, 1]), "validation": made([1], seed=10), "test": made([0, 1], seed=20)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 3, "val": 1, "test": 2}
    assert fetched(dataset.split("test")) == [picture(20), picture(21)]
    assert open_dataset(tmp_path / "train", test=tmp_path / "test").split_counts() == {"train": 3, "test": 2}


def test_rows_that_were_chosen_shuffled_or_come_from_files(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(50))
    both = datasets.concatenate_datasets([made([0, 1, 1, 0]), made([1], seed=50)])
    from_file = made([0, 1]).to_dict() | {"image": [str(tmp_path / "a.png"), {"bytes": picture(51), "path": "b.png"}]}
    both = datasets.concatenate_datasets([both, datasets.Dataset.from_dict(from_file, features=both.features)])
    both.shuffle(seed=3).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(tmp_path / "saved")
    assert len(dataset) == 7
    assert sorted(fetched(dataset)) == sorted([*(picture(n) for n in range(4)), *[picture(50)] * 2, picture(51)])


def test_the_split_that_a_dataset_remembers(tmp_path):
    made([0, 1]).to_parquet(tmp_path / "x.parquet")
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "x.parquet"), split="test", cache_dir=str(tmp_path / "c"))
    loaded.save_to_disk(tmp_path / "saved")
    assert open_dataset(tmp_path / "saved").split_counts() == {"test": 2}


@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "fine_label"), ("photo", "kind")])
def test_columns_by_other_names(tmp_path, image, label):
    """As in CIFAR-100 on the hub; where the names say nothing, the features do."""
    whole = made([0, 1], image=image, label=label)
    whole.save_to_disk(tmp_path / "saved")
    whole.to_parquet(tmp_path / "whole.parquet")
    for place in (tmp_path / "saved", tmp_path / "whole.parquet"):
        dataset = open_dataset(place)
        assert dataset.classes == ("zebra", "ant")
        assert fetched(dataset) == [picture(0), picture(1)]


def test_labels_without_names(tmp_path):
    made([10, 9], names=None).save_to_disk(tmp_path / "numbers")
    made(["dog", "cat"], names=None).save_to_disk(tmp_path / "words")
    assert open_dataset(tmp_path / "numbers").classes == ("9", "10")
    assert open_dataset(tmp_path / "words").classes == ("cat", "dog")


def test_a_row_without_image_becomes_a_problem(tmp_path):
    columns = {"image": [{"bytes": picture(0), "path": None}, None], "label": [0, 1]}
    datasets.Dataset.from_dict(columns, features=made([0]).remove_columns("id").features).save_to_disk(tmp_path)
    scanned, _ = scan(open_dataset(tmp_path), size=8, fit="pad")
    assert scanned.table["problem"].to_list() == [None, "it is empty (0 bytes)"]


def test_a_split_that_is_none(tmp_path):
    datasets.DatasetDict(train=made([0, 1]), extra=made([0, 1])).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"the split 'extra', which is neither .*name the folder .*/extra, or save"):
        open_dataset(tmp_path)
    datasets.DatasetDict(train=made([0, 1]), val=made([0]), validation=made([0])).save_to_disk(tmp_path)
    with pytest.raises(DataError, match=r"two splits for one purpose \(train, val, validation\)"):
        open_dataset(tmp_path)


def test_a_dataset_without_images_or_labels(tmp_path):
    made([0, 1]).remove_columns("image").save_to_disk(tmp_path / "words")
    with pytest.raises(DataError, match=r"no column 'image' \(it has id, label\)"):
        open_dataset(tmp_path / "words")
    made([0, 1]).remove_columns("label").save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(DataError, match=r"no column 'label' \(it has id, image\)"):
        open_dataset(tmp_path / "unlabelled")
    made([0, 1]).select([]).save_to_disk(tmp_path / "empty")
    with pytest.raises(DataError, match=r"No images in .*empty: its Arrow files have no rows"):
        open_dataset(tmp_path / "empty")


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"no arrow"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    made([0, 1]).save_to_disk(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*save the dataset again"):
        open_dataset(tmp_path)


def test_a_file_that_is_missing_or_cut_off(tmp_path):
    made([0, 1]).save_to_disk(tmp_path)
    file = tmp_path / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"00001\.arrow cannot be read as Arrow .*save the dataset again"):
        open_dataset(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"00001\.arrow cannot be read as Arrow"):
        open_dataset(tmp_path)


def test_a_file_that_goes_away_after_listing_is_the_images_problem(tmp_path):
    made([0, 1]).save_to_disk(tmp_path)
    dataset = open_dataset(tmp_path)
    (tmp_path / "data-00000-of-00001.arrow").unlink()
    assert all(isinstance(data, FileNotFoundError) for data in fetched(dataset))


def test_files_that_name_no_data(tmp_path):
    made([0, 1]).save_to_disk(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(state | {"_data_files": []}))
    with pytest.raises(DataError, match=r"No images in"):
        open_dataset(tmp_path)
