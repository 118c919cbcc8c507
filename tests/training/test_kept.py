"""Kept rows: each is there whole and under its name, or not at all, whoever writes and whenever it is killed."""

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from discern.errors import StorageError
from discern.training.kept import Kept, name_of

WIDTH = 5


@pytest.fixture
def kept(tmp_path):
    return Kept(folder=tmp_path / "features" / "place", width=WIDTH)


def named(*numbers, view=0):
    return [name_of(f"{number:032x}", view) for number in numbers]


def rows_of(names):
    """Numbers that tell whose row they are."""
    numbers = np.array([int(name[:32], 16) + int(name[33:]) / 4 for name in names]).reshape(-1, 1)
    return numbers + np.arange(WIDTH) / 16


def add(kept, names):
    with kept.adding() as adding:
        adding.add(names, rows_of(names))


def assert_holds(kept, names):
    """Under each name its own row."""
    places = kept.places(names)
    assert (places >= 0).all()
    np.testing.assert_array_equal(kept.values()[places], rows_of(names).astype(np.float16))


def test_nothing_is_kept_at_first(kept):
    assert kept.places(named(1, 2)).tolist() == [-1, -1]
    assert kept.values().shape == (0, WIDTH)
    assert not kept.folder.exists(), "looking writes nothing"


def test_rows_are_found_by_their_names_in_any_order(kept):
    add(kept, named(1, 2, 3))
    add(kept, named(4, view=12))
    assert_holds(kept, [*named(3), *named(4, view=12), *named(1, 2, 1)])
    assert kept.places([*named(2), *named(4), *named(4, view=12), *named(9)]).tolist() == [1, -1, 3, -1]
    assert kept.values().shape == (4, WIDTH)
    assert kept.values().dtype == np.float16
    assert_holds(Kept(folder=kept.folder, width=WIDTH), named(1, 2, 3))


def test_many_rows_added_in_portions_under_one_lock(kept):
    with kept.adding() as adding:
        for start in range(0, 40, 8):
            names = named(*range(start, start + 8), view=3)
            adding.add(names, rows_of(names))
    assert_holds(kept, named(*range(40), view=3))


def test_a_row_that_is_added_again_counts_as_it_was_written_last(kept):
    add(kept, named(1, 2))
    with kept.adding() as adding:
        adding.add(named(1), np.full((1, WIDTH), 7.0))
    assert kept.values()[kept.places(named(1))].tolist() == [[7.0] * WIDTH]
    assert_holds(kept, named(2))


@pytest.mark.parametrize(
    ("file", "lost", "left"),
    [
        ("values.f16", 1, 2),  # a row is cut off
        ("values.f16", 2 * WIDTH, 2),
        ("values.f16", 2 * WIDTH + 1, 1),
        ("names", 1, 2),  # a row has no whole name
        ("names", 36, 2),
        ("names", 37, 2),
        ("names", 3 * 37, 0),
    ],
)
def test_what_was_half_written_is_dropped_and_can_be_added_again(kept, file, lost, left):
    add(kept, named(1, 2, 3))
    place = kept.folder / file
    os.truncate(place, place.stat().st_size - lost)
    assert (kept.places(named(1, 2, 3)) >= 0).tolist() == [True] * left + [False] * (3 - left)
    assert kept.values().shape == (left, WIDTH)
    assert_holds(kept, named(1, 2, 3)[:left])
    add(kept, named(4, 3, 2))
    assert_holds(kept, [*named(1, 2, 3)[:left], *named(2, 3, 4)])


@pytest.mark.parametrize("file", ["values.f16", "names"])
def test_a_file_that_is_gone_leaves_nothing_and_is_written_anew(kept, file):
    add(kept, named(1, 2))
    (kept.folder / file).unlink()
    assert kept.places(named(1, 2)).tolist() == [-1, -1]
    add(kept, named(2))
    assert kept.places(named(1, 2)).tolist() == [-1, 0]
    assert_holds(kept, named(2))


def test_an_error_while_rows_are_made_keeps_those_before(kept):
    def broken():
        with kept.adding() as adding:
            adding.add(named(1), rows_of(named(1)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert_holds(kept, named(1))
    add(kept, named(2))
    assert_holds(kept, named(1, 2))


def test_what_was_read_stays_while_others_add(kept):
    add(kept, named(1, 2))
    before = kept.values()
    add(kept, named(3))
    np.testing.assert_array_equal(before, rows_of(named(1, 2)).astype(np.float16))


def test_who_adds_is_alone(kept):
    with ThreadPoolExecutor(1) as pool:
        with kept.adding() as adding:
            other = pool.submit(add, kept, named(2))
            with pytest.raises(TimeoutError):
                other.result(timeout=0.2)
            adding.add(named(1), rows_of(named(1)))
        other.result(timeout=30)
    assert kept.places(named(1, 2)).tolist() == [0, 1]
    assert_holds(kept, named(1, 2))


def _add_some(folder, start):
    """What is missing of a hundred rows, from a place on and around, a few under each lock."""
    kept = Kept(folder=folder, width=WIDTH)
    for first in [*range(start, 100, 10), *range(0, start, 10)]:
        names = named(*range(first, first + 10))
        with kept.adding() as adding:
            missing = [name for name, place in zip(names, kept.places(names), strict=True) if place < 0]
            adding.add(missing, rows_of(missing))


@pytest.mark.parametrize("together", ["threads", "processes"])
def test_two_who_add_at_once_lose_and_repeat_nothing(kept, together):
    if together == "threads":
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda start: _add_some(kept.folder, start), (0, 50)))
    else:
        both = [multiprocessing.get_context("spawn").Process(target=_add_some, args=(kept.folder, s)) for s in (0, 50)]
        for each in both:
            each.start()
        for each in both:
            each.join(60)
        assert [each.exitcode for each in both] == [0, 0]
    assert kept.values().shape == (100, WIDTH)
    assert_holds(kept, named(*range(100)))


def _die_while_adding(folder):
    kept = Kept(folder=folder, width=WIDTH)
    with kept.adding() as adding:
        adding.add(named(1, 2), rows_of(named(1, 2)))
        with open(folder / "values.f16", "ab") as values:
            values.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_its_whole_rows_and_no_lock(kept):
    child = multiprocessing.get_context("spawn").Process(target=_die_while_adding, args=(kept.folder,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert_holds(kept, named(1, 2))
    add(kept, named(3))
    assert_holds(kept, named(1, 2, 3))


def test_a_full_disk_is_told_in_a_sentence(mounted):
    kept = Kept(folder=mounted("size=64k") / "features", width=20_000)

    def fill():
        with kept.adding() as adding:
            for number in range(10):
                adding.add(named(number), np.zeros((1, 20_000)))

    with pytest.raises(StorageError, match=r"The disk is full: .*features could not be written"):
        fill()
    assert (kept.places(named(*range(10))) >= 0).tolist() == [True] + [False] * 9
