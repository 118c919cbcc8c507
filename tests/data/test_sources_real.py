"""The same real photos in every layout are the same Dataset: no byte, label or split differs."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from discern.data.decode import decode
from discern.data.reading import portions
from discern.data.sources import open_dataset


def content(dataset):
    """Digest, class name and split of every image, sorted."""
    rows = dataset.table.select("label", "split").rows()
    found = []
    for portion in portions(dataset):
        for row, data in zip(portion.rows, portion.fetch(), strict=True):
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            found.append((digest, dataset.classes[rows[row][0]], rows[row][1] or ""))
    assert len(found) == len(dataset)
    assert len(set(dataset.images)) == len(dataset)
    return sorted(found)


@pytest.fixture
def tools(real_data):
    """The photos of tools, as published: every 20th."""
    folder = real_data / "tools"
    dataset = open_dataset(folder / "dataset", test=folder / "dataset_testing")
    return dataset.filter(pl.col("index") % 20 == 0)


@pytest.fixture
def cifar(real_data):
    """The first test images of CIFAR-10: bytes and class name."""
    file = pq.ParquetFile(real_data / "cifar10" / "test.parquet")
    names = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    return [(row["image"]["bytes"], row["label"]) for row in file.read_row_group(0).slice(0, 300).to_pylist()], names


def expected(samples, names, split=""):
    return sorted((hashlib.blake2b(data, digest_size=16).hexdigest(), names[label], split) for data, label in samples)


@pytest.mark.parametrize("layout", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_folder_and_a_manifest_of_its_files(tools, tmp_path, layout, absolute):
    place = tmp_path / f"list.{layout}"
    if not absolute:
        (tmp_path / "photos").symlink_to(tools.root)
    rows = [
        {"path": str((tools.root if absolute else Path("photos")) / file), "label": tools.classes[label]}
        | {"split": split}
        for file, label, split in tools.table.select("file", "label", "split").iter_rows()
    ]
    if layout == "parquet":
        pl.DataFrame(rows).write_parquet(place)
    elif layout == "jsonl":
        place.write_text("\n".join(map(json.dumps, rows)))
    else:
        with place.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("path", "label", "split"), delimiter="," if layout == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    assert content(open_dataset(place)) == content(tools)


def test_parquet_and_what_datasets_saves(cifar, tmp_path):
    samples, names = cifar
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    columns = {"image": [{"bytes": data, "path": None} for data, _ in samples], "label": [k for _, k in samples]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    datasets.disable_progress_bars()
    whole.to_parquet(tmp_path / "all.parquet")
    whole.save_to_disk(tmp_path / "saved", num_shards=3)
    datasets.DatasetDict(test=whole, train=whole.select(range(9))).save_to_disk(tmp_path / "splits")
    assert content(open_dataset(tmp_path / "all.parquet")) == expected(samples, names)
    assert content(open_dataset(tmp_path / "saved")) == expected(samples, names)
    both = expected(samples, names, "test") + expected(samples[:9], names, "train")
    assert content(open_dataset(tmp_path / "splits")) == sorted(both)
    assert open_dataset(tmp_path / "splits").classes == tuple(names)


def test_shards_that_webdataset_writes(cifar, tmp_path):
    samples, names = cifar
    with webdataset.ShardWriter(str(tmp_path / "shards-%06d.tar"), maxcount=128, verbose=0) as writer:
        for number, (data, label) in enumerate(samples):
            writer.write({"__key__": f"{number:05}", "jpg": data, "cls": names[label]})
    assert len(list(tmp_path.glob("*.tar"))) == 3
    assert content(open_dataset(tmp_path)) == expected(samples, names)


@pytest.mark.parametrize("packed", [True, False])
def test_pixels_in_idx_and_cifar_files_are_those_of_the_photos(cifar, tmp_path, packed):
    samples, names = cifar
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data, _ in samples])
    labels = np.array([label for _, label in samples], np.uint8)
    grey = pixels.mean(3).astype(np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    for folder in ("idx", "cifar"):
        (tmp_path / folder).mkdir()
    opener, ending = (gzip.open, ".gz") if packed else (open, "")
    with opener(tmp_path / "idx" / f"t10k-images-idx3-ubyte{ending}", "wb") as file:
        file.write(b"\0\0\x08\x03" + np.array(grey.shape, ">u4").tobytes() + grey.tobytes())
    with opener(tmp_path / "idx" / f"t10k-labels-idx1-ubyte{ending}", "wb") as file:
        file.write(b"\0\0\x08\x01" + np.array(labels.shape, ">u4").tobytes() + labels.tobytes())
    (tmp_path / "cifar" / "test_batch.bin").write_bytes(np.c_[labels, planes].tobytes())
    (tmp_path / "cifar" / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    for folder, wanted in (("idx", grey[..., None].repeat(3, 3)), ("cifar", pixels)):
        dataset = open_dataset(tmp_path / folder)
        assert dataset.split_counts() == {"test": len(samples)}
        for portion in portions(dataset):
            for row, data in zip(portion.rows, portion.fetch(), strict=True):
                np.testing.assert_array_equal(decode(data, size=32, fit="pad").image, wanted[row])
                assert (
                    dataset.classes[dataset.labels[row]] == (names if folder == "cifar" else "0123456789")[labels[row]]
                )
