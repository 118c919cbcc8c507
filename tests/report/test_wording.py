import pytest

from discern.report import wording


@pytest.mark.parametrize(
    ("share", "text"), [(0.3812, "+38.1"), (-0.05, "\u22125.0"), (0.0, "+0.0"), (-0.0001, "+0.0")]
)
def test_a_difference_always_has_a_sign_and_never_minus_zero(share, text):
    assert wording.points(share) == text


def test_shares_and_intervals_have_one_decimal():
    assert wording.percent(0.38095) == "38.1%"
    assert wording.percent_range((0.2941, 1.0)) == "29.4–100.0%"
    assert wording.points_range((-0.01, 0.104)) == "\u22121.0 to +10.4"


def test_a_small_p_is_not_written_as_zero():
    assert wording.p_value(0.0004) == "< 0.001"
    assert wording.p_value(0.0412) == "0.041"
    assert wording.p_statement(1e-9) == "p\u00a0<\u00a00.001"


@pytest.mark.parametrize(
    ("seconds", "text"), [(21.62, "21.6 s"), (437.2, "7 min 17 s"), (60, "1 min 00 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.071, "0.071"), (0.5016, "0.50"), (12.34, "12.3")])
def test_milliseconds_keep_two_digits(value, text):
    assert wording.milliseconds(value) == text


def test_one_image_is_not_images():
    assert wording.count(1, "image") == "1 image"
    assert wording.count(1411, "image") == "1,411 images"
    assert wording.count(2, "class", "classes") == "2 classes"


def test_long_listings_end_in_a_number():
    assert wording.listing(("a",)) == "a"
    assert wording.listing(("a", "b", "c")) == "a, b and c"
    assert wording.listing(tuple("abcdef"), 4) == "a, b, c, d and 2 more"
