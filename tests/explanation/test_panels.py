import numpy as np
import pytest

from discern.explanation.panels import heat_colors, overlay, panel


def photo(side=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_heat_is_black_for_none_and_grows_brighter_and_warmer():
    colors = heat_colors(np.linspace(0, 1, 64).reshape(8, 8)).reshape(-1, 3).astype(int)
    assert colors[0].max() <= 4
    assert (np.diff(colors.sum(1)) >= -3).all()
    red, _, blue = colors[40]
    assert red > blue, "the channels are RGB: orange in the middle, not blue"
    assert heat_colors(np.full((2, 2), 7.0)).tolist() == heat_colors(np.ones((2, 2))).tolist()


def test_the_overlay_leaves_the_photo_untouched_where_there_is_no_heat():
    picture, heat = photo(), np.zeros((20, 20))
    assert np.array_equal(overlay(picture, heat), picture)
    heat[:10] = 1
    over = overlay(picture, heat)
    assert over.dtype == np.uint8
    assert np.array_equal(over[10:], picture[10:])
    assert not np.array_equal(over[:10], picture[:10])


def test_the_photo_stays_visible_under_the_highest_heat():
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    heat = np.ones((4, 4))
    difference = overlay(bright, heat).astype(int) - overlay(dark, heat)
    assert difference.min() > 90


def test_neither_argument_is_changed():
    picture, heat = photo(), np.random.default_rng(1).random((20, 20))
    before = picture.copy(), heat.copy()
    panel(picture, heat)
    assert np.array_equal(before[0], picture)
    assert np.array_equal(before[1], heat)


@pytest.mark.parametrize("size", [8, 20, 112, 224, 300])
@pytest.mark.parametrize("side", [64, 224])
def test_a_panel_is_photo_heat_and_overlay_side_by_side(size, side):
    whole = panel(np.full((size, size, 3), 77, np.uint8), np.zeros((size, size)), side=side)
    assert whole.shape == (side, 3 * side + 8, 3)
    assert whole.dtype == np.uint8
    left, middle, right = whole[:, :side], whole[:, side + 4 : 2 * side + 4], whole[:, 2 * side + 8 :]
    assert (left == 77).all()
    assert middle.max() <= 4
    assert (right == 77).all()
    assert (whole[:, side : side + 4] == 255).all()


def test_a_panel_puts_the_heat_where_it_belongs():
    heat = np.zeros((224, 224))
    heat[:50, 150:] = 1  # top right
    whole = panel(photo(224), heat)
    middle = whole[:, 228:452].sum(axis=2)
    assert middle[:50, 150:].min() > 400
    assert middle[60:, :].max() < 20
    assert np.array_equal(whole[:, :224], photo(224)), "a photo of this size is shown pixel by pixel"
