import os
import shutil
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data import scan as scan_module
from discern.data.decode import FITS, decode
from discern.data.scan import cache_folder, load_images, scan
from discern.data.sources import open_dataset
from discern.errors import StorageError


class Interrupting:
    """A Progress that presses Ctrl-C after some images."""

    def __init__(self, after):
        self.left = after

    @contextmanager
    def track(self, label, total, unit="images"):
        def advance(done, note):
            self.left -= done
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance

    def say(self, message):
        pass


class Counting(Interrupting):
    """A Progress that counts the images that were read."""

    def __init__(self):
        super().__init__(10**9)

    @property
    def read(self):
        return 10**9 - self.left


def unchanged_stat(path, content):
    """Replace a file's content without a trace in its size and times."""
    status = path.stat()
    path.write_bytes(content.ljust(status.st_size, b"\0")[: status.st_size])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_facts_of_every_image(photos):
    root = photos({"cat": 2, "dog": 1}, side=24)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((10, 30), np.uint8)).save(root / "dog/0.jpg", exif=exif)
    shutil.copy(root / "cat/1.png", root / "dog/copy.png")
    scanned, pixels = scan(open_dataset(root), size=16, fit="pad")
    facts = scanned.table.select("image", "width", "height", "format", "mode", "problem").rows()
    assert facts == [
        ("cat/0.jpg", 32, 24, "JPEG", "RGB", None),
        ("cat/1.png", 32, 24, "PNG", "RGB", None),
        ("dog/0.jpg", 10, 30, "JPEG", "L", None),
        ("dog/copy.png", 32, 24, "PNG", "RGB", None),
    ]
    digests = scanned.table["digest"]
    assert digests[1] == digests[3]
    assert digests.n_unique() == 3
    assert pixels.size == 16
    assert pixels.array.shape == (4, 16, 16, 3)


@pytest.mark.parametrize("fit", FITS)
def test_pixels_are_those_of_the_decoder_and_of_load_images(photos, fit):
    dataset = open_dataset(photos({"cat": 40, "dog": 41}))  # more than one portion of files
    scanned, pixels = scan(dataset, size=16, fit=fit)
    for row, image in enumerate(scanned.images):
        expected = decode((dataset.root / image).read_bytes(), size=16, fit=fit).image
        np.testing.assert_array_equal(pixels.array[row], expected)
    picked = scanned.filter(pl.col("index").is_in([3, 50, 77]))
    np.testing.assert_array_equal(load_images(picked, size=16, fit=fit), pixels.take(picked.index))


def test_a_second_scan_reads_no_image(photos):
    root = photos({"cat": 2, "dog": 2})
    first, pixels = scan(open_dataset(root), size=16, fit="pad")
    for image in first.images:
        unchanged_stat(root / image, b"no picture any more")
    counting = Counting()
    second, again = scan(open_dataset(root), size=16, fit="pad", progress=counting)
    assert counting.read == 0
    assert second.table.equals(first.table)
    np.testing.assert_array_equal(again.array, pixels.array)


def test_other_labels_and_splits_use_the_same_scan(photos):
    dataset = open_dataset(photos({"cat": 2, "dog": 2}))
    scan(dataset, size=16, fit="pad")
    counting = Counting()
    relabelled = dataset.with_columns(pl.Series("label", [1, 1, 0, 0], pl.Int32), pl.Series("split", ["train"] * 4))
    scanned, _ = scan(relabelled, size=16, fit="pad", progress=counting)
    assert counting.read == 0
    assert scanned.labels.tolist() == [1, 1, 0, 0]
    assert scanned.split_counts() == {"train": 4}


@pytest.mark.parametrize("change", ["content", "time", "new", "size", "fit"])
def test_what_changed_is_scanned_anew(photos, change):
    root = photos({"cat": 2, "dog": 2})
    options = {"size": 16, "fit": "pad"}
    before, _ = scan(open_dataset(root), **options)
    if change == "content":
        Image.new("RGB", (50, 40), "red").save(root / "cat/0.jpg")
    elif change == "time":
        os.utime(root / "cat/0.jpg", ns=(1, 1))
    elif change == "new":
        Image.new("RGB", (50, 40), "red").save(root / "cat/new.png")
    else:
        options |= {"size": 20} if change == "size" else {"fit": "crop"}
    counting = Counting()
    after, pixels = scan(open_dataset(root), **options, progress=counting)
    assert counting.read == len(after) == 4 + (change == "new")
    assert pixels.size == options["size"]
    if change == "content":
        assert after.table.row(0, named=True)["width"] == 50
        assert (pixels.array[0, 8, 8] == [254, 0, 0]).all()
        assert after.table["digest"][0] != before.table["digest"][0]


def test_unreadable_images_are_kept_as_rows_with_their_problem(photos):
    root = photos({"cat": 3, "dog": 3})
    (root / "cat/0.jpg").write_bytes(b"")
    (root / "cat/1.png").write_bytes((root / "cat/1.png").read_bytes()[:500])
    (root / "cat/2.jpg").write_text("a letter, not a picture")
    (root / "dog/broken.jpg").symlink_to(root / "nowhere.jpg")
    (root / "dog/loop.jpg").symlink_to(root / "dog/loop.jpg")
    Image.new("RGB", (9, 9), "red").save(root / "dog/really.jpg", "GIF")
    scanned, pixels = scan(open_dataset(root), size=16, fit="pad")
    problems = dict(scanned.table.select("image", "problem").iter_rows())
    assert problems == {
        "cat/0.jpg": "it is empty (0 bytes)",
        "cat/1.png": "it is cut off",
        "cat/2.jpg": "its content is not an image of a known format",
        "dog/0.jpg": None,
        "dog/1.png": None,
        "dog/2.jpg": None,
        "dog/broken.jpg": "it cannot be opened (No such file or directory)",
        "dog/loop.jpg": "it cannot be opened (Too many levels of symbolic links)",
        "dog/really.jpg": None,
    }
    unreadable = scanned.table.filter(pl.col("problem").is_not_null())
    assert unreadable["width"].null_count() == unreadable["format"].null_count() == 5
    assert not pixels.array[unreadable["index"].to_numpy()].any()
    assert scanned.table.filter(pl.col("image") == "dog/really.jpg")["format"].item() == "GIF"


def test_a_file_that_became_a_directory_or_may_not_be_read(photos, shared_tmp, unprivileged):
    shutil.copytree(photos({"cat": 2, "dog": 1}), shared_tmp / "photos")
    (shared_tmp / "photos/cat/0.jpg").chmod(0o000)
    dataset = open_dataset(shared_tmp / "photos")
    (shared_tmp / "photos/cat/1.png").unlink()
    (shared_tmp / "photos/cat/1.png").mkdir()
    (shared_tmp / "cache").mkdir()
    (shared_tmp / "cache").chmod(0o777)
    with unprivileged():
        scanned, _ = scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")
    assert scanned.table["problem"].to_list() == [
        "it cannot be opened (Permission denied)",
        "it cannot be opened (not a regular file)",
        None,
    ]


def test_an_interrupted_scan_leaves_nothing_and_the_next_one_is_whole(photos, cache):
    dataset = open_dataset(photos({"cat": 40, "dog": 40}))
    with pytest.raises(KeyboardInterrupt):
        scan(dataset, size=16, fit="pad", progress=Interrupting(after=33))
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    scanned, pixels = scan(dataset, size=16, fit="pad")
    assert scanned.table["digest"].null_count() == 0
    assert pixels.array.any(axis=(1, 2, 3)).all()


def test_pixels_are_mapped_not_loaded(photos, cache):
    dataset = open_dataset(photos({"cat": 1, "dog": 1}))
    _, pixels = scan(dataset, size=16, fit="pad")
    stored = next(cache.rglob("pixels.npy"))
    before = pixels.array[0, 0, 0, 0]
    with open(stored, "r+b") as file:  # what changes in the file is seen through the array
        file.seek(stored.stat().st_size - pixels.array.nbytes)
        file.write(bytes([255 - before]))
    assert pixels.array[0, 0, 0, 0] == 255 - before
    assert not pixels.array.flags.writeable


def test_two_scans_at_once_agree(photos, cache):
    dataset = open_dataset(photos({"cat": 2, "dog": 2}))

    class Overtaken(Counting):
        """Another process finishes the same scan while this one is at work."""

        @contextmanager
        def track(self, label, total, unit="images"):
            scan(dataset, size=16, fit="pad")
            with super().track(label, total, unit) as advance:
                yield advance

    scanned, pixels = scan(dataset, size=16, fit="pad", progress=Overtaken())
    assert scanned.table["digest"].null_count() == 0
    assert pixels.array.any()
    assert len(list((cache / "scans").iterdir())) == 1


def test_a_full_disk_is_said_and_leaves_nothing(photos, mounted):
    place = mounted("size=1m")
    with pytest.raises(StorageError, match=r"disk is full: .*could not be written; free some space"):
        scan(open_dataset(photos({"cat": 4, "dog": 4})), size=256, fit="pad", cache=place)  # 1.5 MB of pixels
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_a_disk_that_fills_with_the_facts(photos, mounted):
    dataset = open_dataset(photos({"cat": 4, "dog": 4}))
    place = mounted("size=1m")
    (place / "other").write_bytes(bytes(1024 * 1024 - 4096 * 4))  # room for the 6 KB of pixels, not for the facts too
    free = os.statvfs(place)
    if free.f_bavail * free.f_frsize > 8192:
        (place / "more").write_bytes(bytes(free.f_bavail * free.f_frsize - 8192))
    with pytest.raises(StorageError, match="disk is full"):
        scan(dataset, size=16, fit="pad", cache=place)


def test_a_read_only_cache_is_said(photos, mounted):
    with pytest.raises(StorageError, match=r"No permission to write .*choose another place"):
        scan(open_dataset(photos({"cat": 1, "dog": 1})), size=16, fit="pad", cache=mounted("size=1m,ro"))


def test_a_cache_without_permission_is_said(photos, shared_tmp, unprivileged):
    dataset = open_dataset(photos({"cat": 1, "dog": 1}))
    with unprivileged(), pytest.raises(StorageError, match=r"No permission to write"):
        scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DISCERN_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "discern"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "discern"


def test_another_decoder_does_not_trust_the_old_pixels(photos, monkeypatch):
    dataset = open_dataset(photos({"cat": 1, "dog": 1}))
    scan(dataset, size=16, fit="pad")
    monkeypatch.setattr(scan_module, "DECODER_VERSION", scan_module.DECODER_VERSION + 1)
    counting = Counting()
    scan(dataset, size=16, fit="pad", progress=counting)
    assert counting.read == 2


def test_a_file_that_could_not_be_opened_is_tried_again(photos, shared_tmp, unprivileged):
    shutil.copytree(photos({"cat": 2, "dog": 1}), shared_tmp / "photos")
    locked = shared_tmp / "photos/cat/0.jpg"
    (shared_tmp / "cache").mkdir()
    (shared_tmp / "cache").chmod(0o777)
    dataset = open_dataset(shared_tmp / "photos")
    locked.chmod(0o000)
    with unprivileged():
        first, _ = scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")
    assert first.table["problem"].null_count() == 2
    locked.chmod(0o644)  # changes neither size nor date
    with unprivileged():
        second, pixels = scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")
    assert second.table["problem"].null_count() == 3
    assert pixels.array[0].any()
