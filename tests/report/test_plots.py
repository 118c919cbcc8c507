import re

import matplotlib as mpl
import pytest

from discern.report.plots import Dot, count_plot, curve_plot, distribution_plot, interval_plot, shortened, side_plot


def dots(*names):
    return [
        Dot(name=name, value=0.5, interval=(0.4, 0.6), strong=i == 0, baseline=i == 2) for i, name in enumerate(names)
    ]


def pictures(names=("a", "b")):
    """One of each kind."""
    return {
        "interval": interval_plot(dots(*names), label="l", name="interval"),
        "curve": curve_plot([3, 2, 1], [3, 2.5, 2.6], chosen=2, unit="%", label="l", name="curve"),
        "count": count_plot({"train": [30] * len(names), "test": [4] * len(names)}, names, label="l", name="count"),
        "distribution": distribution_plot(
            {"train": [1.0, 2.0, 2.5], "test": [300.0]},
            splits=("train", "test"),
            logarithmic=True,
            unit="u",
            label="l",
            name="distribution",
        ),
        "side": side_plot([10, 20, 3000], model_side=64, label="l", name="side"),
    }


@pytest.mark.parametrize("kind", pictures())
def test_a_picture_takes_its_colours_and_font_from_the_page(kind):
    svg = pictures()[kind]
    assert "var(--accent)" in svg
    assert not re.search(r"(fill|stroke): #", svg)
    assert "font-family" not in svg
    assert "<text" in svg
    assert "metadata" not in svg


@pytest.mark.parametrize("kind", pictures())
def test_a_picture_is_the_same_every_time(kind):
    assert pictures()[kind] == pictures()[kind]


def test_ids_start_with_the_name_so_that_pictures_can_share_a_page():
    for kind, svg in pictures().items():
        ids = re.findall(r' id="([^"]+)"', svg)
        assert ids
        assert len(ids) == len(set(ids))
        assert all(each.startswith(f"{kind}-") for each in ids)
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == set(ids)


@pytest.mark.parametrize("name", ["$x^2$ and \\frac", "<b>bold</b>", "猫と犬", "a & b", "$"])
def test_names_are_shown_as_they_are(name):
    shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f">{shown}</text>" in interval_plot(dots(name), label="l", name="p")
    assert f">{shown}</text>" in count_plot({"train": [1]}, [name], label="l", name="p")


def test_a_long_name_keeps_both_ends():
    name = "the-first-" + "x" * 100 + "-the-last"
    assert len(shortened(name)) <= 26
    assert shortened(name).startswith("the-first-")
    assert shortened(name).endswith("-the-last")
    assert shortened("two\nlines") == "two lines"


def test_the_description_cannot_end_the_attribute():
    svg = interval_plot(dots("a"), label='"><script>', name="p")
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in svg


def test_the_scale_is_whole_unless_every_score_is_high():
    def ticks(low):
        dot = Dot(name="a", value=low + 0.01, interval=(low, low + 0.02), strong=True, baseline=False)
        return re.findall(r">(\d+)%</text>", interval_plot([dot], label="l", name="p"))

    assert ticks(0.3)[0] == "0"
    assert ticks(0.6)[0] == "50"
    assert ticks(0.95)[0] == "80"
    assert {ticks(low)[-1] for low in (0.3, 0.6, 0.95)} == {"100"}


def test_one_epoch_makes_a_curve_too():
    svg = curve_plot([1.0], [0.9], chosen=1, unit="", label="l", name="p")
    assert re.findall(r">1</text>", svg)


def test_bars_carry_the_number_of_images():
    svg = count_plot({"train": [1200, 3], "val": [34, 0]}, ["a", "b"], label="l", name="p")
    assert ">1,234</text>" in svg
    assert ">3</text>" in svg


def test_images_of_one_size_have_a_picture():
    assert ">model sees 64</text>" in side_plot([64, 64], model_side=64, label="l", name="p")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, 3, 1000], {"1", "10", "100", "1,000"}),
        ([5, 20, 60], {"5", "10", "20", "50"}),
        ([610, 640], {"610", "640"}),
    ],
)
def test_a_logarithmic_axis_has_round_numbers_where_there_are_any(values, shown):
    svg = distribution_plot({"a": values}, logarithmic=True, unit="u", label="l", name="p")
    assert set(re.findall(r">([\d,.]+)</text>", svg)) == shown


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_distribution_of_equal_values_has_a_picture(logarithmic):
    assert ">a</text>" in distribution_plot({"a": [7, 7]}, logarithmic=logarithmic, unit="u", label="l", name="p")


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    pictures()
    assert dict(mpl.rcParams) == before
