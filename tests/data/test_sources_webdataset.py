import importlib.util
import io
import os
import tarfile

import fsspec
import numpy as np
import polars as pl
import pytest
import webdataset
from PIL import Image

from discern.data.reading import as_on_disk, portions
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.errors import DataError, UsageError


def picture(seed, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def samples(count, first=0):
    """That many with cats and dogs in turns, as the webdataset package takes them."""
    return [{"__key__": f"{n:05}", "png": picture(n), "cls": n % 2} for n in range(first, first + count)]


def write(path, samples):
    """Written by the webdataset package itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def tar(path, members, **options):
    """Written by hand: a member for each name and its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def fetched(dataset):
    """The bytes of every image, in table order."""
    found = {}
    for portion in portions(dataset):
        found |= dict(zip(portion.rows, portion.fetch(), strict=True))
    return [found[row] for row in range(len(dataset))]


def test_one_shard(tmp_path):
    path = write(tmp_path / "photos.tar", samples(70))  # more than two portions
    dataset = open_dataset(path)
    assert dataset.classes == ("0", "1")
    assert dataset.labels.tolist() == [0, 1] * 35
    assert dataset.images[:2] == ("photos.tar#00000.png", "photos.tar#00001.png")
    assert dataset.split_counts() == {}
    assert dataset.root == tmp_path
    assert set(dataset.table["bytes"]) == {path.stat().st_size}
    assert fetched(dataset) == [picture(n) for n in range(70)]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["shards-000000.tar", "shards-000001.tar", "shards-000002.tar"], {}),
        (["train-0.tar", "validation-0.tar", "test-0.tar"], {"train": 4, "val": 4, "test": 4}),
        (["pets_train_00.tar", "pets_val_00.tar", "pets_test_00.tar"], {"train": 4, "val": 4, "test": 4}),
        (["train/0.tar", "valid/0.tar", "test/0.tar"], {"train": 4, "val": 4, "test": 4}),
    ],
)
def test_a_folder_of_shards(tmp_path, names, splits):
    for number, name in enumerate(names):
        write(tmp_path / name, samples(4, first=10 * number))
    dataset = open_dataset(tmp_path)
    assert dataset.split_counts() == splits
    assert len(dataset) == 12
    assert sorted(fetched(dataset)) == sorted(picture(10 * k + n) for k in range(3) for n in range(4))


def test_the_scan_reads_every_image_at_its_place(tmp_path):
    write(tmp_path / "photos.tar", samples(40))
    scanned, pixels = scan(open_dataset(tmp_path), size=11, fit="pad")
    assert scanned.table["problem"].null_count() == 40
    for row in (0, 17, 39):
        shown = pixels.array[scanned.index[row]][1:10]
        np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(picture(row)))))


def test_labels_are_words_numbers_or_inside_json(tmp_path):
    members = [
        {"__key__": "a", "jpg": picture(0, "JPEG"), "cls": "axe"},
        {"__key__": "b", "webp": picture(1, "WEBP"), "json": {"label": "book", "caption": "one book"}},
        {"__key__": "c", "PNG": picture(2), "json": {"class": "axe"}, "txt": "an axe"},
    ]
    dataset = open_dataset(write(tmp_path / "a.tar", members))
    assert dataset.classes == ("axe", "book")
    assert dataset.labels.tolist() == [0, 1, 0]
    numbers = [{"__key__": str(n), "png": picture(n), "json": {"target": n}} for n in (10, 9)]
    assert open_dataset(write(tmp_path / "b.tar", numbers)).classes == ("9", "10")


def test_masks_and_notes_beside_the_image_are_left_alone(tmp_path):
    members = [
        ("./", b""),
        ("./__meta__.json", b'{"label": "x"}'),
        ("./._a.png", b"of a Mac"),
        ("./sub.dir/a.png", picture(0)),
        ("./sub.dir/a.seg.png", picture(1)),
        ("./sub.dir/a.cls", b"cat\n"),
        ("./b.depth.png", picture(2)),
        ("./b.cls", b"dog"),
        ("README", b"words"),
    ]
    dataset = open_dataset(tar(tmp_path / "a.tar", members))
    assert dataset.images == ("a.tar#sub.dir/a.png", "a.tar#b.depth.png")
    assert fetched(dataset) == [picture(0), picture(2)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_in_any_order_and_names_of_any_length(tmp_path, form):
    long = "d" * 90 + "/" + "n" * (40 if form == tarfile.USTAR_FORMAT else 200)
    name = long if form == tarfile.USTAR_FORMAT else f"{long}é猫"
    members = [(f"{name}.cls", b"1"), ("b.png", picture(1)), (f"{name}.png", picture(0)), ("b.cls", b"0")]
    dataset = open_dataset(tar(tmp_path / "a.tar", members, format=form))
    assert {image.rpartition("#")[2] for image in dataset.images} == {f"{name}.png", "b.png"}
    assert dict(zip(dataset.images, fetched(dataset), strict=True)) == {
        f"a.tar#{name}.png": picture(0),
        "a.tar#b.png": picture(1),
    }


def test_samples_without_image_are_left_out_and_said(tmp_path, caplog):
    members = [*samples(4), {"__key__": "note", "cls": 0}, {"__key__": "text", "json": {"label": "x"}}]
    assert len(open_dataset(write(tmp_path / "a.tar", members))) == 4
    assert "2 samples hold no image and count for nothing, such as a.tar#note" in caplog.text


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("a.png", b"x")], r"'a\.png' in .* has no label: expected 'a\.cls', or 'a\.json' .*must be unpacked first"),
        ([("cat/a.png", b"x"), ("dog/b.png", b"y")], r"an archive of class folders must be unpacked first"),
        ([("a.png", b"x"), ("a.cls", b" \n")], r"has no label"),
        ([("a.png", b"x"), ("a.cls", b"\xff\xfe")], r"has no label"),
        ([("a.png", b"x"), ("a.json", b"{")], r"has no label"),
        ([("a.png", b"x"), ("a.json", b'["cat"]')], r"has no label"),
        ([("a.png", b"x"), ("a.json", b'{"label": ["cat", "dog"]}')], r"has no label"),
        ([("a.png", b"x"), ("a.jpg", b"y"), ("a.cls", b"0")], r"'a' .* has several images \(a\.png and a\.jpg\)"),
        ([("a.png", b"x"), ("a.png", b"y"), ("a.cls", b"0")], r"has two members 'a\.png'"),
        ([("a.cls", b"0")], r"No images in .*expected samples such as 0001\.jpg with 0001\.cls"),
        ([], r"No images in"),
    ],
)
def test_shards_that_are_no_labelled_images(tmp_path, members, sentence):
    with pytest.raises(DataError, match=sentence):
        open_dataset(tar(tmp_path / "a.tar", members))


@pytest.mark.parametrize("content", [b"", b"words that are no tar file" * 40, None])
def test_a_damaged_shard_is_named(tmp_path, content):
    path = write(tmp_path / "a.tar", samples(4))
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(DataError, match=r"a\.tar cannot be read as a tar file .*; download or write it again"):
        open_dataset(path)


def test_a_shard_for_no_split_beside_one_that_is(tmp_path):
    write(tmp_path / "train-0.tar", samples(2))
    write(tmp_path / "more-0.tar", samples(2))
    with pytest.raises(DataError, match=r"more-0\.tar is for no split while its neighbours are"):
        open_dataset(tmp_path)


def test_a_stray_archive_beside_class_folders_is_no_shard(photos):
    root = photos({"cat": 1, "dog": 1})
    tar(root / "backup.tar", [("cat/0.jpg", b"x")])
    tar(root / "test.tar", [("cat/0.jpg", b"x")])
    assert open_dataset(root).images == ("cat/0.jpg", "dog/0.jpg")


def test_a_picture_beside_the_shards_is_left_alone(tmp_path):
    write(tmp_path / "a.tar", samples(2))
    (tmp_path / "preview.png").write_bytes(picture(0))
    assert len(open_dataset(tmp_path)) == 2


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="the package is there")
def test_a_package_that_is_missing_for_a_scheme_is_named():
    with pytest.raises(UsageError, match=r"s3://bucket/a\.tar cannot be opened yet: Install s3fs .*then try again"):
        open_dataset("s3://bucket/a.tar")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst"])
def test_packed_shards_are_refused_with_the_way_on(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(UsageError, match=rf"{name} is packed: unpack it and name the folder or \.tar file"):
        open_dataset(tmp_path / name)


def test_a_shard_is_listed_once_until_it_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", samples(4))
    first = open_dataset(path)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)  # it is not read again
        assert open_dataset(path).table.equals(first.table)
    write(path, samples(6, first=2))
    assert len(open_dataset(path)) == 6


def test_a_shard_that_changes_after_listing_is_the_images_problem(tmp_path):
    path = write(tmp_path / "a.tar", samples(4))
    dataset = open_dataset(path)
    write(path, [{"__key__": "0", "png": picture(9), "cls": 0}])
    data = fetched(dataset)
    assert isinstance(data[-1], OSError)
    assert "no file begins at byte" in str(data[-1])
    path.unlink()
    assert all(isinstance(one, FileNotFoundError) for one in fetched(dataset))


def test_patterns_name_several_local_shards(tmp_path, monkeypatch):
    for number in range(12):
        write(tmp_path / "s" / f"train-{number:03}.tar", samples(2, first=10 * number))
    write(tmp_path / "s" / "test-000.tar", samples(2, first=500))
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset("s/train-{008..011}.tar")) == 8
    assert open_dataset("s/{train,test}-000.tar").split_counts() == {"train": 2, "test": 2}
    assert len(open_dataset(str(tmp_path / "s" / "train-*.tar"))) == 24
    both = open_dataset("s/train-*.tar", test="s/test-*.tar")
    assert both.split_counts() == {"train": 24, "test": 2}
    assert both.root == tmp_path / "s"
    with pytest.raises(UsageError, match=r"No such file: s/val-\*\.tar"):
        open_dataset("s/val-*.tar")
    with pytest.raises(UsageError, match=r"train-012\.tar"):
        open_dataset("s/train-{010..012}.tar")


# Remote shards


@pytest.fixture
def bucket():
    """A place in fsspec's memory, which stands for every remote store."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]

    def put(name, path):
        files.pipe(f"/bucket/{name}", path.read_bytes())

    yield put
    files.store.clear()


def test_remote_shards(tmp_path, bucket):
    for number in range(3):
        bucket(f"train-{number:03}.tar", write(tmp_path / "x.tar", samples(40, first=100 * number)))
    bucket("test/000.tar", write(tmp_path / "x.tar", samples(4, first=900)))
    dataset = open_dataset("memory://bucket/train-{000..002}.tar", test="memory://bucket/test/*.tar")
    assert dataset.split_counts() == {"train": 120, "test": 4}
    assert dataset.images[0] == "memory://bucket/train-000.tar#00000.png"
    assert fetched(dataset) == [picture(100 * k + n) for k in range(3) for n in range(40)] + [
        picture(n) for n in range(900, 904)
    ]
    scanned, _ = scan(dataset, size=8, fit="pad")
    assert scanned.table["problem"].null_count() == 124
    assert as_on_disk(dataset).table.equals(dataset.table)


def test_local_photos_with_a_remote_test_set(tmp_path, bucket, photos):
    bucket("test.tar", write(tmp_path / "x.tar", samples(4)))
    dataset = open_dataset(photos({"0": 2, "1": 2}), test="memory://bucket/test.tar")
    assert dataset.split_counts() == {"train": 4, "test": 4}
    assert all(isinstance(data, bytes) for data in fetched(dataset))


def test_a_remote_shard_that_changes_is_listed_again(tmp_path, bucket):
    bucket("a.tar", write(tmp_path / "x.tar", samples(4)))
    assert len(open_dataset("memory://bucket/a.tar")) == 4
    bucket("a.tar", write(tmp_path / "x.tar", samples(6)))
    assert len(open_dataset("memory://bucket/a.tar")) == 6


def test_remote_shards_that_go_away_after_listing(tmp_path, bucket):
    bucket("a.tar", write(tmp_path / "x.tar", samples(4)))
    dataset = open_dataset("memory://bucket/a.tar")
    fsspec.filesystem("memory").rm("/bucket/a.tar")
    assert all(isinstance(data, OSError) for data in fetched(dataset))
    assert set(as_on_disk(dataset).table["bytes"]) == {0}


def test_a_file_url_is_a_path(tmp_path):
    write(tmp_path / "a.tar", samples(4))
    assert open_dataset(f"file://{tmp_path}/a.tar").images == open_dataset(tmp_path / "a.tar").images
    assert len(open_dataset(f"file://{tmp_path}")) == 4


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://bucket/none.tar", r"memory://bucket/none\.tar cannot be opened \(.*\); check the address"),
        ("memory://bucket/none-*.tar", r"No such file: memory://bucket/none-\*\.tar"),
        ("carrier-pigeon://coop/a.tar", r"carrier-pigeon://coop/a\.tar cannot be opened \(Protocol not known"),
        ("s3://bucket/photos", r"s3://bucket/photos is not read: .*only WebDataset shards .*; download it first"),
        ("https://host/photos.parquet", r"is not read: .*download it first"),
    ],
)
def test_urls_that_lead_nowhere(bucket, url, sentence):
    with pytest.raises(UsageError, match=sentence):
        open_dataset(url)


def test_a_url_on_the_command_line_stays_a_url(discern, bucket, tmp_path, tiny, colours):
    root = colours({"red": 8, "green": 8})
    members = [
        {"__key__": f"{n}", file.suffix[1:]: file.read_bytes(), "cls": file.parent.name}
        for n, file in enumerate(sorted(root.rglob("*.*g")))
    ]
    bucket("photos.tar", write(tmp_path / "x.tar", members))
    answer = discern("audit", "memory://bucket/photos.tar", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["images"] == 16
    answer = discern(
        "train", "memory://bucket/photos.tar", *tiny, "--runs", tmp_path / "runs", "--name", "x", "--json"
    )
    assert answer.code == 0, answer.err
    assert pl.read_parquet(tmp_path / "runs/x/dataset.parquet")["file"][0] == "memory://bucket/photos.tar"
    again = ("evaluate", tmp_path / "runs/x", "memory://bucket/photos.tar", "--json")
    assert discern(*again).code == 3  # it was trained on them
    scored = discern(*again, "--leakage", "allow", "--because", "a test")
    assert scored.code == 0, scored.err
    assert scored.json["splits"]["test"]["n"] == 16
    assert os.listdir(tmp_path / "runs/x/evaluations")[0].startswith("photos.tar-")
