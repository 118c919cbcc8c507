import os
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from discern.data import store as store_module
from discern.data.scan import scan, store_of
from discern.data.sources import open_dataset
from discern.data.store import ROWS, Store, kept_table
from discern.errors import StorageError
from discern.progress import Silent

SIDE = 4


def columns(slots, *, unreadable=()):
    """What a scan would note for images in these slots; image `slot` is all of that level."""
    n, mask = len(slots), np.isin(slots, list(unreadable))
    facts = {name: [None] * n for name in ROWS} | {"slot": np.array(slots)}
    facts |= {"file": [f"{slot}.jpg" for slot in slots], "bytes": [9] * n, "modified": [1] * n}
    facts["digest"] = [f"{slot:032x}" for slot in slots]
    facts["problem"] = ["it is cut off" if bad else None for bad in mask]
    facts["brightness"] = np.ma.masked_array(np.array(slots, np.float32) / 255, mask)
    facts["hash"] = np.ma.masked_array(np.array(slots, np.uint64) + np.uint64(1 << 63), mask)
    signature = np.tile(np.arange(64, dtype=np.int8), (n, 1))
    facts["signature"] = np.ma.masked_array(signature, np.broadcast_to(mask[:, None], signature.shape))
    return facts


def images(slots):
    return np.broadcast_to(np.asarray(slots, np.uint8)[:, None, None, None], (len(slots), SIDE, SIDE, 3)).copy()


def add(store, count, *, portion=3, stop_after=None, watch=lambda: None):
    """Read `count` images, some at a time; the slots they got."""
    with store.adding(Silent()) as addition:
        slots = addition.reserve(count, taken=addition.known["slot"].to_numpy())
        for start in range(0, count, portion):
            if stop_after is not None and start >= stop_after:
                raise KeyboardInterrupt
            some = slots[start : start + portion]
            addition.add(columns(some), images(some))
            addition.settle()
            watch()
    return slots


def whole(store):
    """Slots of the rows, each of whose images is what was written there."""
    slots = store.rows["slot"].to_numpy()
    assert (store.images()[slots] == slots[:, None, None, None]).all()
    return sorted(slots.tolist())


def test_what_was_added_is_there(tmp_path):
    store = Store(tmp_path / "s", SIDE)
    assert store.rows.is_empty()
    assert store.images().shape == (0, SIDE, SIDE, 3)
    assert add(store, 7).tolist() == list(range(7))
    assert whole(store) == list(range(7))
    rows = store.rows
    assert rows.schema == ROWS
    assert rows["digest"].to_list() == [f"{slot:032x}" for slot in range(7)]
    assert rows["hash"].to_list() == [(1 << 63) + slot for slot in range(7)]
    assert rows["signature"].to_numpy().tolist() == [list(range(64))] * 7


def test_what_an_unreadable_image_does_not_tell_is_null(tmp_path):
    store = Store(tmp_path / "s", SIDE)
    with store.adding(Silent()) as addition:
        slots = addition.reserve(3, taken=np.zeros(0, np.int64))
        addition.add(columns(slots, unreadable=[1]), images(slots))
    rows = store.rows
    for name in ("brightness", "hash", "signature"):
        assert rows[name].is_null().to_list() == [False, True, False]
    assert rows["problem"].to_list() == [None, "it is cut off", None]


def test_a_slot_is_never_given_twice(tmp_path):
    store = Store(tmp_path / "s", SIDE)
    first = add(store, 5)
    mapped = store.images()
    second = add(store, 4)
    assert not set(first.tolist()) & set(second.tolist())
    assert (mapped[:, 0, 0, 0] == np.arange(5)).all()
    assert whole(store) == list(range(9))


def test_images_of_slots_here_and_there_go_to_their_places(tmp_path):
    store, slots = Store(tmp_path / "s", SIDE), np.array([4, 5, 1, 0, 3])
    with store.adding(Silent()) as addition:
        addition.reserve(6, taken=np.zeros(0, np.int64))
        addition.add(columns(slots), images(slots))
    assert store.rows["slot"].to_list() == slots.tolist()
    assert whole(store) == [0, 1, 3, 4, 5]


def test_slots_that_an_interruption_left_empty_are_used(tmp_path):
    store = Store(tmp_path / "s", SIDE)
    with pytest.raises(KeyboardInterrupt):
        add(store, 9, stop_after=6)
    assert store.rows.is_empty()  # until the next one begins
    assert add(store, 5).tolist() == [6, 7, 8, 9, 10]
    assert whole(store) == list(range(11))


def test_every_torn_journal_gives_its_whole_portions(tmp_path):
    store, journals = Store(tmp_path / "s", SIDE), []
    add(store, 9, watch=lambda: journals.append((store.folder / "journal.arrow").read_bytes()))
    (store.folder / "facts.parquet").unlink()
    journal, ends = journals[-1], [len(each) for each in journals]
    cuts = {0, 1, 7, *np.linspace(8, len(journal), 40, dtype=int).tolist(), *ends, *(end - 1 for end in ends)}
    for cut in cuts:
        torn = Store(tmp_path / str(cut), SIDE)
        shutil.copytree(store.folder, torn.folder)
        (torn.folder / "journal.arrow").write_bytes(journal[:cut])
        with torn.adding(Silent()) as addition:
            assert len(addition.known) == 3 * sum(end <= cut for end in ends)
        assert whole(torn) == list(range(3 * sum(end <= cut for end in ends)))


def test_a_journal_of_another_start_of_the_machine_is_not_believed(tmp_path, monkeypatch):
    store = Store(tmp_path / "s", SIDE)
    add(store, 4)
    with pytest.raises(KeyboardInterrupt):
        add(store, 9, stop_after=6)
    monkeypatch.setattr(store_module, "_boot", lambda: "after a power cut")
    with store.adding(Silent()) as addition:
        assert addition.known["slot"].to_list() == [0, 1, 2, 3]
    assert whole(store) == [0, 1, 2, 3]


def test_a_journal_of_other_columns_is_not_believed(tmp_path):
    store = Store(tmp_path / "s", SIDE)
    add(store, 3)
    other = pa.table({"slot": [0, 1, 2]})
    with pa.ipc.new_stream(store.folder / "journal.arrow", other.schema) as writer:
        writer.write_table(other)
    assert add(store, 2).tolist() == [3, 4]
    assert whole(store) == [0, 1, 2, 3, 4]


def test_rows_are_not_taken_twice_when_a_kill_comes_between_table_and_journal(tmp_path, monkeypatch):
    store = Store(tmp_path / "s", SIDE)
    with pytest.raises(KeyboardInterrupt):
        add(store, 6, stop_after=3)
    journal = (store.folder / "journal.arrow").read_bytes()
    with store.adding(Silent()):
        pass
    (store.folder / "journal.arrow").write_bytes(journal)
    with store.adding(Silent()) as addition:
        assert addition.known["slot"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["empty", "zeros", "half", "text", "other columns", "directory"])
def test_a_damaged_table_costs_another_reading_and_no_more(photos, damage, tmp_path):
    dataset = open_dataset(photos({"cat": 5, "dog": 5}))
    scanned, pixels = scan(dataset, size=16, fit="pad")
    before = pixels.take(scanned.index)
    path = store_of(dataset, size=16, fit="pad").folder / "facts.parquet"
    content = path.read_bytes()
    if damage == "directory":
        path.unlink()
        path.mkdir()
    elif damage == "other columns":
        pl.DataFrame({"slot": [0]}).write_parquet(path)
    else:
        path.write_bytes(
            {"empty": b"", "zeros": bytes(len(content)), "half": content[: len(content) // 2], "text": b"PAR1"}[damage]
        )
    if damage == "directory":  # not damage but somebody's doing
        with pytest.raises(StorageError, match="another kind is in its place"):
            scan(dataset, size=16, fit="pad")
        return
    again, its_pixels = scan(dataset.with_rows(np.arange(10)[::-1]), size=16, fit="pad")
    assert again.table.drop("index").equals(scanned.table.drop("index")[::-1])
    np.testing.assert_array_equal(its_pixels.take(again.index), before[::-1])
    np.testing.assert_array_equal(pixels.take(scanned.index), before)  # who looked at the old ones still does


@pytest.mark.parametrize("left", [None, 0, 4.5])
def test_missing_pixels_are_read_again(photos, left):
    root = photos({"cat": 5, "dog": 5})
    dataset = open_dataset(root)
    scanned, pixels = scan(dataset, size=16, fit="pad")
    before = pixels.take(scanned.index)
    path = store_of(dataset, size=16, fit="pad").folder / "pixels.u8"
    rest = path.read_bytes()[: int((left or 0) * 16 * 16 * 3)]
    path.unlink()
    if left is not None:
        path.write_bytes(rest)
    again, its_pixels = scan(dataset, size=16, fit="pad")
    assert again.table.drop("index").equals(scanned.table.drop("index"))
    np.testing.assert_array_equal(its_pixels.take(again.index), before)


def test_disk_space_is_taken_before_the_first_image(tmp_path):
    store = Store(tmp_path / "s", 32)
    with store.adding(Silent()) as addition:
        addition.reserve(100, taken=np.zeros(0, np.int64))
        assert (store.folder / "pixels.u8").stat().st_blocks * 512 >= 100 * 32 * 32 * 3


def test_a_full_disk_takes_nothing_and_can_be_gone_on_from(mounted):
    store = Store(mounted("size=1m") / "s", 64)
    with pytest.raises(StorageError, match="disk is full"), store.adding(Silent()) as addition:
        addition.reserve(100, taken=np.zeros(0, np.int64))  # 1.2 MB
    assert (store.folder / "pixels.u8").stat().st_size == 0
    with store.adding(Silent()) as addition:
        slots = addition.reserve(50, taken=np.zeros(0, np.int64))
    assert len(slots) == 50


def test_an_error_of_the_images_is_not_taken_for_one_of_the_cache(tmp_path):
    with pytest.raises(FileNotFoundError, match="a photo"), Store(tmp_path / "s", SIDE).adding(Silent()):
        raise FileNotFoundError("a photo")


def test_a_lock_that_may_not_be_written_is_said(shared_tmp, unprivileged):
    store = Store(shared_tmp / "s", SIDE)
    add(store, 2)
    with unprivileged(), pytest.raises(StorageError, match="No permission to write"):
        add(store, 2)
    assert whole(store) == [0, 1]


def test_a_table_of_the_cache_is_there_or_not(tmp_path):
    path = tmp_path / "t.parquet"
    assert kept_table(path, {"a": pl.Int64}) is None
    pl.DataFrame({"a": [1]}).write_parquet(path)
    assert kept_table(path, {"a": pl.Int64})["a"].to_list() == [1]
    assert kept_table(path, {"a": pl.Int32}) is None
    content = path.read_bytes()
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        assert kept_table(path, {"a": pl.Int64}) is None


def test_two_sizes_and_two_folders_do_not_share_a_store(photos, tmp_path):
    one, other = open_dataset(photos({"cat": 1, "dog": 1})), open_dataset(photos({"cat": 1, "dog": 1}, into="other"))
    stores = [store_of(one, size=8, fit="pad"), store_of(one, size=9, fit="pad"), store_of(one, size=8, fit="crop")]
    stores.append(store_of(other, size=8, fit="pad"))
    assert len({store.folder for store in stores}) == 4


def test_a_folder_seen_from_elsewhere_is_the_same(photos, monkeypatch):
    root = photos({"cat": 1, "dog": 1})
    monkeypatch.chdir(root.parent)
    assert open_dataset(root.name).root == open_dataset(root).root == root
    assert os.path.isabs(store_of(open_dataset(root.name), size=8, fit="pad").folder)
