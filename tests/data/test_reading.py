import io
import os
import tarfile
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.data.dataset import SCHEMA, Dataset
from discern.data.reading import PER_PORTION, as_on_disk, image_column, located, portions, status
from discern.data.sources import open_dataset


def dataset(root, rows):
    """A Dataset of (file, row) pairs."""
    columns = {
        "image": [f"{file}#{row}" for file, row in rows],
        "file": [f for f, _ in rows],
        "row": [r for _, r in rows],
    }
    table = pl.DataFrame({name: columns.get(name, [None] * len(rows)) for name in SCHEMA}, SCHEMA)
    return Dataset(root=root, classes=("a", "b"), table=table)


def fetched(data):
    """What every row gives, in table order, each fetched exactly once."""
    found = [pair for portion in portions(data) for pair in zip(portion.rows, portion.fetch(), strict=True)]
    assert sorted(row for row, _ in found) == list(range(len(data)))
    return [content for _, content in sorted(found, key=lambda pair: pair[0])]


@pytest.fixture
def places(tmp_path):
    """Hundred images `file N` in a file of every kind; gives their Dataset, kinds in turns."""
    names = [f"file {n}".encode() for n in range(100)]
    images = pa.array([{"bytes": name, "path": None} for name in names])
    for number, name in enumerate(names):
        (tmp_path / f"{number}.jpg").write_bytes(name)
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", row_group_size=7)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink:
        table = pa.table({"image": images})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=11)
    headers = []
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(name)
            headers.append(archive.offset)
            archive.addfile(info, io.BytesIO(name))
    pixels = np.frombuffer(b"".join(name.ljust(8) for name in names), np.uint8).tobytes()
    (tmp_path / "a-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + np.array([100, 2, 4], ">u4").tobytes() + pixels)
    rows = [
        place
        for n in range(100)
        for place in ((f"{n}.jpg", None), ("a.parquet", n), ("a.arrow", n), ("a.tar", headers[n]), ("a-idx3-ubyte", n))
    ]
    return dataset(tmp_path, rows)


def test_every_row_is_fetched_once_whatever_it_lies_in_and_whatever_the_order(places):
    wanted = [f"file {n}".encode() for n in range(100) for _ in range(5)]
    assert [data.rpartition(b"\n")[2].rstrip() for data in fetched(places)] == wanted
    order = np.random.default_rng(1).permutation(500)[:333]
    some = replace(places, table=places.table[order.tolist()])
    assert [data.rpartition(b"\n")[2].rstrip() for data in fetched(some)] == [wanted[n] for n in order]


def test_portions_are_small_enough_for_threads_to_share(places):
    assert max(len(portion.rows) for portion in portions(places)) == PER_PORTION


def test_large_files_come_in_smaller_portions(places):
    files = places.filter(pl.col("row").is_null())
    large = files.with_columns(pl.Series("bytes", [30 << 20] * len(files)))
    assert max(len(portion.rows) for portion in portions(large)) <= 3
    assert sorted(row for portion in portions(large) for row in portion.rows) == list(range(len(files)))


def test_raw_pixels_come_as_a_file_that_says_what_they_are(places):
    assert fetched(places)[4] == b"P5\n4 2\n255\nfile 0  "


def test_files_that_are_gone_are_each_row_s_error(places):
    for file in places.root.iterdir():
        file.unlink()
    assert all(isinstance(error, FileNotFoundError) for error in fetched(places))


def test_files_that_became_something_else_are_each_row_s_error(places):
    for file in places.root.glob("a*"):
        file.write_bytes(b"\xff" * 600)
    found = fetched(places.filter(pl.col("row").is_not_null()))
    assert all(isinstance(error, OSError) for error in found)
    assert {str(error).split(":")[0] for error in found} == {
        "a.parquet is damaged",
        "a.arrow is damaged",
        "a-idx3-ubyte is damaged",
        "no file begins at byte 0 of the archive",
        *(f"no file begins at byte {1024 * n} of the archive" for n in range(1, 100)),
    }


def test_a_file_that_has_fewer_images_now(places):
    for name in ("a-idx3-ubyte", "a.tar"):
        data = (places.root / name).read_bytes()
        (places.root / name).write_bytes(data[: len(data) // 2])
    found = fetched(places)
    assert sum(isinstance(data, OSError) for data in found) in range(90, 110)
    assert fetched(places)[:5] == found[:5]


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert isinstance(fetched(dataset(tmp_path, [("a.jpg", None)]))[0], OSError)


def test_as_on_disk_looks_again(photos):
    root = photos({"cat": 1, "dog": 2})
    before = open_dataset(root)
    assert as_on_disk(before).table.equals(before.table)
    (root / "cat/0.jpg").write_bytes(b"other")
    (root / "dog/1.png").unlink()
    after = as_on_disk(before).table
    assert after["bytes"].to_list() == [5, before.table["bytes"][1], 0]
    assert after["modified"][2] == 0


def test_where_a_file_is(tmp_path):
    assert located(tmp_path, "cat/0.jpg") == tmp_path / "cat/0.jpg"
    assert located(tmp_path, "s3://bucket/a.tar") == "s3://bucket/a.tar"
    assert status(tmp_path / "nothing") == (0, 0)


def test_the_column_of_images():
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert image_column(pa.schema({"image": image, "img": image})) == "image"
    assert image_column(pa.schema({"image": pa.string(), "img": image})) == "img"
    assert image_column(pa.schema({"image": pa.binary()})) is None
    assert image_column(pa.schema({"photo": image})) is None  # without a note it may be a mask, a thumbnail, a sound
