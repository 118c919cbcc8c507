import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from PIL import Image

from discern.data import scan as scan_module
from discern.data.decode import FITS, decode
from discern.data.scan import cache_folder, load_images, scan, store_of
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
    facts = scanned.table.select("image", "width", "height", "format", "mode", "orientation", "problem").rows()
    assert facts == [
        ("cat/0.jpg", 32, 24, "JPEG", "RGB", 1, None),
        ("cat/1.png", 32, 24, "PNG", "RGB", 1, None),
        ("dog/0.jpg", 10, 30, "JPEG", "L", 6, None),
        ("dog/copy.png", 32, 24, "PNG", "RGB", 1, None),
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
    assert counting.read == (4 if change in ("size", "fit") else 1)
    assert len(after) == 4 + (change == "new")
    assert pixels.size == options["size"]
    for image, index in after.table.select("image", "index").iter_rows():
        expected = decode((root / image).read_bytes(), **options).image
        np.testing.assert_array_equal(pixels.array[index], expected)
    if change == "content":
        assert after.table.row(0, named=True)["width"] == 50
        assert after.table["digest"][0] != before.table["digest"][0]


def test_pixels_in_use_are_not_touched_when_a_file_changes(photos):
    root = photos({"cat": 2, "dog": 2})
    scanned, pixels = scan(open_dataset(root), size=16, fit="pad")
    before = pixels.take(scanned.index)
    for colour in ("red", "green"):
        Image.new("RGB", (50, 40), colour).save(root / "cat/0.jpg")
        scan(open_dataset(root), size=16, fit="pad")
    np.testing.assert_array_equal(pixels.take(scanned.index), before)


def test_one_file_named_twice_is_read_once(photos):
    dataset = open_dataset(photos({"cat": 2, "dog": 2}))
    twice = dataset.with_rows([0, 1, 2, 3, 0, 1])
    counting = Counting()
    scanned, pixels = scan(twice, size=16, fit="pad", progress=counting)
    assert counting.read == 4
    assert scanned.index[4:].tolist() == scanned.index[:2].tolist()
    assert pixels.array[scanned.index].any(axis=(1, 2, 3)).all()


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


def test_an_interrupted_scan_keeps_what_it_has_read(photos, tmp_path):
    dataset = open_dataset(photos({"cat": 100, "dog": 100}))
    with pytest.raises(KeyboardInterrupt):
        scan(dataset, size=16, fit="pad", progress=Interrupting(after=33))
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", progress=counting)
    assert 0 < counting.read <= 200 - 33
    assert_as_scanned_at_once(scanned, pixels, dataset, tmp_path / "another cache")


def assert_as_scanned_at_once(scanned, pixels, dataset, cache):
    """The scan has given what one that nothing happened to gives."""
    expected, its_pixels = scan(dataset, size=pixels.size, fit=pixels.fit, cache=cache)
    assert scanned.table.drop("index").equals(expected.table.drop("index"))
    np.testing.assert_array_equal(pixels.take(scanned.index), its_pixels.take(expected.index))


SCANNER = """
import os, signal, sys
from contextlib import contextmanager

from discern.data.scan import scan
from discern.data.sources import open_dataset

root, fatal, how = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
read = 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests in the background ignores it


class Watch:
    @contextmanager
    def track(self, label, total, unit="images"):
        def advance(done, note):
            global read, fatal
            read += done
            print(read, flush=True)
            if read >= fatal:
                fatal = float("inf")  # once
                os.kill(os.getpid(), how)

        yield advance

    def say(self, message):
        print(message, flush=True)


scan(open_dataset(root), size=16, fit="pad", progress=Watch())
"""


def scanning(root, fatal="inf", how=signal.SIGKILL):
    """A process that scans, says how many images it has read, and gets a signal when they are so many."""
    command = [sys.executable, "-c", SCANNER, root, str(fatal), str(int(how))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def said(process):
    """How many images it has read, and everything it said."""
    lines = process.communicate(timeout=120)[0].split("\n")
    return max((int(line) for line in lines if line.isdecimal()), default=0), lines


def test_an_interruption_does_not_wait_for_a_large_row_group(photos, tmp_path):
    folder = open_dataset(photos({"cat": 4, "dog": 4}))
    images = [{"bytes": (folder.root / image).read_bytes(), "path": image} for image in folder.images]
    table = pl.DataFrame({"image": images * 1000, "label": folder.labels.tolist() * 1000})
    table.write_parquet(tmp_path / "all.parquet", row_group_size=8000)
    dataset = open_dataset(tmp_path / "all.parquet")
    read, _ = said(scanning(tmp_path / "all.parquet", fatal=1, how=signal.SIGINT))
    assert 0 < read < 8000
    counting = Counting()
    scan(dataset, size=16, fit="pad", progress=counting)
    assert counting.read == 8000 - read


def test_a_killed_scan_is_gone_on_with(photos, tmp_path):
    dataset = open_dataset(photos({"cat": 150, "dog": 150}))
    process = scanning(dataset.root, fatal=100)
    read, _ = said(process)
    assert process.returncode == -signal.SIGKILL
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", progress=counting)
    assert read >= 100
    assert counting.read == 300 - read  # what was counted was kept: nothing is read twice but what was in flight
    assert_as_scanned_at_once(scanned, pixels, dataset, tmp_path / "another cache")


def test_a_scan_killed_again_and_again_gets_done(photos, tmp_path):
    dataset = open_dataset(photos({"cat": 250, "dog": 250}))
    read = [said(scanning(dataset.root, fatal=64))[0] for _ in range(4)]
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", progress=counting)
    assert sum(read) + counting.read <= 500, "nothing that was counted is read again"
    assert min(read) >= 64
    assert_as_scanned_at_once(scanned, pixels, dataset, tmp_path / "another cache")


def test_after_a_power_cut_unfinished_work_is_not_believed(photos, cache, tmp_path):
    """Its pixels may never have reached the disk, even where the journal did."""
    dataset = open_dataset(photos({"cat": 100, "dog": 100}))
    scan(dataset.filter(pl.col("index") < 50), size=16, fit="pad")
    said(scanning(dataset.root, fatal=60))
    (store,) = (cache / "scans").iterdir()
    (store / "boot").write_text("another start of the machine")
    with open(store / "pixels.u8", "r+b") as file:
        file.seek(50 * 16 * 16 * 3)
        file.write(bytes(150 * 16 * 16 * 3))
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", progress=counting)
    assert counting.read == 150  # what a scan had finished before is not read again
    assert_as_scanned_at_once(scanned, pixels, dataset, tmp_path / "another cache")


def test_two_processes_share_the_work(photos, tmp_path):
    dataset = open_dataset(photos({"cat": 200, "dog": 200}))
    processes = [scanning(dataset.root), scanning(dataset.root)]
    read = [said(process)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(read) == 400
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", progress=counting)
    assert counting.read == 0
    assert_as_scanned_at_once(scanned, pixels, dataset, tmp_path / "another cache")


def test_who_waits_for_another_scan_is_told(photos):
    dataset = open_dataset(photos({"cat": 2, "dog": 2}))
    store, waited = store_of(dataset, size=16, fit="pad"), threading.Event()

    class Told(Counting):
        def say(self, message):
            assert message.startswith("Another process is reading images of this folder")
            waited.set()

    counting = Told()
    with ThreadPoolExecutor() as pool:
        with store.adding(Counting()):
            scanned = pool.submit(scan, dataset, size=16, fit="pad", progress=counting)
            assert waited.wait(timeout=60)
        assert len(scanned.result()[0]) == counting.read == 4


def test_pixels_are_mapped_not_loaded(photos, cache):
    dataset = open_dataset(photos({"cat": 1, "dog": 1}))
    _, pixels = scan(dataset, size=16, fit="pad")
    stored = next(cache.rglob("pixels.u8"))
    before = pixels.array[0, 0, 0, 0]
    with open(stored, "r+b") as file:  # what changes in the file is seen through the array
        file.write(bytes([255 - before]))
    assert pixels.array[0, 0, 0, 0] == 255 - before
    assert not pixels.array.flags.writeable


def test_pixels_know_how_they_were_fitted(photos):
    dataset = open_dataset(photos({"cat": 1, "dog": 1}))  # 32 x 24
    shapes = {}
    for fit in FITS:
        scanned, pixels = scan(dataset, size=16, fit=fit)
        shapes[fit] = pixels.content(scanned.index[0], 32, 24).shape[:2]
    assert shapes == {"pad": (12, 16), "squash": (16, 16), "crop": (16, 16)}


def test_a_full_disk_is_said_before_an_image_is_read(photos, mounted):
    place, counting = mounted("size=1m"), Counting()
    dataset = open_dataset(photos({"cat": 4, "dog": 4}))
    with pytest.raises(StorageError, match=r"disk is full: .*could not be written; free some space"):
        scan(dataset, size=256, fit="pad", cache=place, progress=counting)  # 1.5 MB of pixels
    assert counting.read == 0
    assert next(place.rglob("pixels.u8")).stat().st_size == 0  # it does not take the space that is left
    scan(dataset, size=64, fit="pad", cache=place)


def test_a_disk_that_fills_with_the_facts(photos, mounted):
    dataset = open_dataset(photos({"cat": 100, "dog": 100}))
    place = mounted("size=1m")
    room = 200 * 16 * 16 * 3 + 9 * 4096  # for the pixels, not for all facts too
    (place / "other").write_bytes(bytes(1024 * 1024 - 4096 * 20 - room))
    free = os.statvfs(place)
    (place / "more").write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    with pytest.raises(StorageError, match="disk is full"):
        scan(dataset, size=16, fit="pad", cache=place)
    (place / "other").unlink()
    counting = Counting()
    scanned, pixels = scan(dataset, size=16, fit="pad", cache=place, progress=counting)
    assert counting.read < 200  # what could be noted is not read again
    assert scanned.table["digest"].null_count() == 0
    assert pixels.array[scanned.index].any(axis=(1, 2, 3)).all()
    del pixels
    gc.collect()  # of the refused scan's frames, so that no map of a file keeps the disk busy


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


def test_files_that_cannot_be_opened_do_not_fill_the_cache(photos, cache):
    root = photos({"cat": 2, "dog": 2})
    (root / "cat/broken.jpg").symlink_to(root / "nowhere.jpg")
    sizes = []
    for _ in range(4):
        counting = Counting()
        scanned, _ = scan(open_dataset(root), size=16, fit="pad", progress=counting)
        assert scanned.table["problem"].null_count() == 4
        sizes.append([path.stat().st_size for path in sorted(cache.rglob("pixels.u8"))])
    assert counting.read == 1
    assert sizes[1:] == sizes[:-1]


def test_a_complete_cache_need_not_be_writable(photos, shared_tmp, unprivileged):
    shutil.copytree(photos({"cat": 2, "dog": 1}), shared_tmp / "photos")
    dataset = open_dataset(shared_tmp / "photos")
    scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")
    with unprivileged():
        scanned, pixels = scan(dataset, size=16, fit="pad", cache=shared_tmp / "cache")
    assert pixels.array[scanned.index].any(axis=(1, 2, 3)).all()
