import numpy as np
import pytest

from discern.report.sheet import contact_sheet


def pictures(count, side):
    return np.random.default_rng(0).integers(0, 200, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize(("side", "shown"), [(8, 128), (32, 128), (100, 100), (128, 128), (300, 128)])
def test_small_pictures_are_enlarged_by_whole_pixels_and_large_ones_reduced(side, shown):
    (picture,) = given = pictures(1, side)
    sheet = np.asarray(contact_sheet(given, [["a"]]))
    tile = sheet[10 : 10 + shown, 10 : 10 + shown]
    if side <= shown:
        times = shown // side
        assert np.array_equal(tile, picture.repeat(times, 0).repeat(times, 1))
    assert (sheet[10 : 10 + shown, 11 + max(shown, 128) :] > 250).all()  # nothing beside it but paper


def test_pictures_stand_in_rows_of_eight_each_with_its_words():
    given = pictures(11, 16)
    wide, tall = contact_sheet(given, [["cat"]] * 11).size
    assert (wide, tall) == (10 + 8 * 138, 10 + 2 * (128 + 4 + 15 + 10))
    assert contact_sheet(given, [["cat"]] * 10 + [["cat 60%", "dog 40%"]]).height == tall + 2 * 15


def test_words_are_written_under_their_picture():
    given = pictures(2, 128)
    sheet = np.asarray(contact_sheet(given, [["cat"], [""]])).astype(int)
    below = sheet[10 + 128 : 10 + 128 + 19]
    assert (below[:, 10:148] < 100).any()
    assert not (below[:, 148:] < 100).any()


def test_long_words_stay_under_their_picture_and_keep_their_end():
    name = "a class whose name goes on for much longer than any picture is wide"
    given = pictures(1, 128)
    sheets = [np.asarray(contact_sheet(given, [[f"{name} {share}"]])).astype(int) for share in ("70%", "30%")]
    assert not (sheets[0][:, -9:] < 100).any()
    assert not np.array_equal(*sheets)


@pytest.mark.parametrize("name", ["", "\n", "größe", "猫", "a\tb"])
def test_any_name_can_be_written(name):
    contact_sheet(pictures(1, 16), [[name]])
