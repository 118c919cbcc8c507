import gzip
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from discern.data.reading import portions
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError

RANDOM = np.random.default_rng(5)
DIGITS = RANDOM.integers(0, 256, (70, 7, 5), np.uint8)
COLOURS = RANDOM.integers(0, 256, (70, 32, 32, 3), np.uint8)
LABELS = RANDOM.integers(0, 10, 70).astype(np.uint8)
NAMES = [f"class {n}" for n in "zyxwvutsrq"]


def idx(path, values, kind=8, shape=None):
    """As the format is described at the end of MNIST's page."""
    data = bytes([0, 0, kind, values.ndim]) + np.array(shape or values.shape, ">u4").tobytes() + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def mnist(folder, ending="", dot="-", count=70):
    idx(folder / f"train-images{dot}idx3-ubyte{ending}", DIGITS[:count])
    idx(folder / f"train-labels{dot}idx1-ubyte{ending}", LABELS[:count])
    idx(folder / f"t10k-images{dot}idx3-ubyte{ending}", DIGITS[:9])
    idx(folder / f"t10k-labels{dot}idx1-ubyte{ending}", LABELS[:9])
    return folder


def cifar(path, labels, images):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.c_[labels, planes].tobytes())


def cifar10(folder):
    for batch in range(5):
        cifar(folder / f"data_batch_{batch + 1}.bin", LABELS[batch * 12 :][:12], COLOURS[batch * 12 :][:12])
    cifar(folder / "test_batch.bin", LABELS[60:], COLOURS[60:])
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def pictures(dataset):
    """Name, label and pixels of every image, decoded by Pillow."""
    found = {}
    for portion in portions(dataset):
        for row, data in zip(portion.rows, portion.fetch(), strict=True):
            with Image.open(io.BytesIO(data)) as picture:
                found[row] = np.asarray(picture)
    return [(dataset.classes[label], found[row]) for row, label in enumerate(dataset.labels)]


def same(found, labels, images):
    assert [label for label, _ in found] == [str(label) for label in labels]
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in found]), images)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "raw"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_the_mnist_folder(tmp_path, ending, below, dot):
    mnist(tmp_path / below, ending, dot)
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 70, "test": 9}
    assert dataset.classes == tuple(str(n) for n in sorted(set(LABELS.tolist())))
    same(pictures(dataset.split("train")), LABELS, DIGITS)
    same(pictures(dataset.split("test")), LABELS[:9], DIGITS[:9])
    assert dataset.split("train").images[3].endswith(f"train-images{dot}idx3-ubyte{ending}#3")


def test_what_is_there_packed_and_unpacked_counts_once(tmp_path):
    mnist(tmp_path)
    mnist(tmp_path, ".gz")
    assert open_dataset(tmp_path).split_counts() == {"train": 70, "test": 9}


def test_one_file_of_images_with_its_labels_beside_it(tmp_path):
    mnist(tmp_path)
    dataset = open_dataset(tmp_path / "train-images-idx3-ubyte", test=tmp_path / "t10k-images-idx3-ubyte")
    assert dataset.split_counts() == {"train": 70, "test": 9}


def test_colour_images_in_idx(tmp_path):
    idx(tmp_path / "images-idx4-ubyte", COLOURS)
    idx(tmp_path / "labels-idx1-ubyte", LABELS)
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {}
    same(pictures(dataset), LABELS, COLOURS)


def test_the_scan_knows_size_and_kind(tmp_path):
    scanned, pixels = scan(open_dataset(mnist(tmp_path, ".gz")), size=7, fit="pad")
    assert set(scanned.table["format"]) == {"PPM"}
    assert set(scanned.table["mode"]) == {"L"}
    assert set(zip(scanned.table["width"], scanned.table["height"], strict=True)) == {(5, 7)}
    shown = pixels.array[scanned.split("train").index[42]]
    np.testing.assert_array_equal(shown[:, 1:6, 0], DIGITS[42])


def test_cifar_10(tmp_path):
    dataset = open_dataset(cifar10(tmp_path))
    assert dataset.classes == tuple(NAMES)  # in the order of the file, not the alphabet's
    assert dataset.split_counts() == {"train": 60, "test": 10}
    same(pictures(dataset), [NAMES[n] for n in LABELS], COLOURS)
    assert dataset.images[0] == "data_batch_1.bin#0"


def test_cifar_10_without_its_names(tmp_path):
    (cifar10(tmp_path) / "batches.meta.txt").unlink()
    same(pictures(open_dataset(tmp_path)), LABELS, COLOURS)


def test_cifar_100_by_its_fine_labels(tmp_path):
    cifar(tmp_path / "train.bin", np.c_[LABELS[:60] // 5, LABELS[:60]], COLOURS[:60])
    cifar(tmp_path / "test.bin", np.c_[LABELS[60:] // 5, LABELS[60:]], COLOURS[60:])
    (tmp_path / "fine_label_names.txt").write_text("\n".join(NAMES))
    (tmp_path / "coarse_label_names.txt").write_text("a\nb")
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == {"train": 60, "test": 10}
    by_name = dict(zip(dataset.images, pictures(dataset), strict=True))
    same([by_name[f"train.bin#{n}"] for n in range(60)], [NAMES[n] for n in LABELS[:60]], COLOURS[:60])


@pytest.mark.parametrize("names", [("batches.meta", "test_batch", "data_batch_1"), ("meta", "train", "test")])
def test_pickles_are_refused_with_the_reason(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(pickle.dumps({"data": 0}))
    with pytest.raises(DataError, match=r"Python pickles, and reading a pickle can run .*download the binary version"):
        open_dataset(tmp_path)


def test_class_folders_called_train_and_test_and_meta_are_no_pickles(photos):
    root = photos({"train/cat": 1, "test/cat": 1, "train/dog": 1, "test/dog": 1})
    (root / "meta").write_text("notes")
    assert open_dataset(root).split_counts() == {"train": 2, "test": 2}


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), r"has no labels beside it: expected train-labels-idx1-"),
        (lambda f: idx(f / "train-labels-idx1-ubyte", LABELS[:60]), r"has 70 images, but there are 60 labels"),
        (lambda f: idx(f / "train-labels-idx1-ubyte", LABELS, shape=[80]), r"holds 70 labels, but its header says 80"),
        (lambda f: idx(f / "train-labels-idx1-ubyte", DIGITS), r"\(70, 7, 5\), which is no list of labels"),
        (lambda f: idx(f / "train-images-idx3-ubyte", LABELS), r"\(70,\), which is no list of images"),
        (lambda f: idx(f / "train-images-idx3-ubyte", DIGITS.astype(">f4"), 13), r"are of type 0x0d, not bytes"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b""), r"does not begin as an IDX file does"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\x1f\x8b\0\0\0\0"), r"does not begin as an IDX"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0"), r"it is cut off"),
    ],
)
def test_idx_files_that_do_not_fit(tmp_path, break_it, sentence):
    break_it(mnist(tmp_path))
    with pytest.raises(DataError, match=sentence):
        open_dataset(tmp_path)


def test_a_packed_file_that_is_cut_off(tmp_path):
    mnist(tmp_path, ".gz")
    for name in ("train-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        if "labels" in name:
            with pytest.raises(DataError, match=r"cannot be read \(.*\); download them again"):
                open_dataset(tmp_path)
            (tmp_path / name).write_bytes(whole)
    dataset = open_dataset(tmp_path)  # the header of the images can still be read
    data = [data for portion in portions(dataset.split("train")) for data in portion.fetch()]
    assert all(isinstance(one, OSError) for one in data)
    assert "damaged" in str(data[0])


def test_a_file_that_is_cut_off_is_refused_before_its_images_are_read(tmp_path):
    path = mnist(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"is cut off: it has 2,366 bytes instead of 2,466; download it again"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: (f / "data_batch_2.bin").write_bytes(bytes(5000)), r"its 5000 bytes are no whole number of CIFAR"),
        (lambda f: (f / "data_batch_2.bin").write_bytes(b""), r"its 0 bytes are no whole number of CIFAR images"),
        (lambda f: (f / "batches.meta.txt").write_text("cat\ndog\n"), r"has the label \d, but 2 classes are named"),
    ],
)
def test_cifar_files_that_do_not_fit(tmp_path, break_it, sentence):
    break_it(cifar10(tmp_path))
    with pytest.raises(DataError, match=sentence):
        open_dataset(tmp_path)
