import numpy as np
import pytest

from discern.data.decode import FITS, fit_square
from discern.data.pixels import Beside, Pixels


def test_statistics_are_numpys(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (600, 9, 9, 3), np.uint8)
    array[..., 1] //= 3
    index = np.random.default_rng(1).permutation(600)[:517]  # three chunks, the last not full
    mean, deviation = Pixels(array=array).statistics(index)
    chosen = array[index].reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, chosen.mean(0), rtol=1e-9)
    np.testing.assert_allclose(deviation, chosen.std(0), rtol=1e-9)


def test_one_flat_image_deviates_by_nothing():
    array = np.full((1, 4, 4, 3), 255, np.uint8)
    mean, deviation = Pixels(array=array).statistics(np.array([0]))
    np.testing.assert_allclose(mean, 1)
    np.testing.assert_allclose(deviation, 0, atol=1e-7)


def test_taking_gives_a_copy_in_the_asked_order():
    array = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    taken = Pixels(array=array).take(np.array([3, 0, 3]))
    assert taken[:, 0, 0, 0].tolist() == [3, 0, 3]
    taken[:] = 9
    assert array.max() == 3


@pytest.mark.parametrize(("width", "height"), [(80, 40), (40, 80), (50, 50), (7, 300), (1, 500), (33, 32)])
@pytest.mark.parametrize("fit", FITS)
def test_the_content_is_without_the_borders_that_fitting_added(width, height, fit):
    picture = np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)
    square = fit_square(picture, size=32, fit=fit)
    content = Pixels(array=square[None], fit=fit).content(0, width, height)
    if fit != "pad":
        np.testing.assert_array_equal(content, square)
        return
    assert content.all()  # no border is left
    assert content.sum() == square.sum()  # and nothing but borders is gone


def test_a_dark_picture_is_not_taken_for_borders():
    black = np.zeros((1, 32, 32, 3), np.uint8)
    assert Pixels(array=black, fit="squash").content(0, 80, 40).shape == (32, 32, 3)
    assert Pixels(array=black, fit="pad").content(0, 80, 40).shape == (16, 32, 3)


def test_images_come_in_the_asked_order_some_at_a_time():
    pixels = Pixels(array=np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    batches = [batch[:, 0, 0, 0].tolist() for batch in pixels.in_order(np.array([8, 0, 3, 3, 5]), 2)]
    assert batches == [[8, 0], [3, 3], [5]]


def test_two_pixels_beside_each_other_are_one():
    first = Pixels(array=np.full((3, 8, 8, 3), 1, np.uint8), fit="pad")
    second = Pixels(array=np.full((2, 8, 8, 3), 2, np.uint8), fit="pad")
    both = Beside(first=first, second=second)
    assert (both.size, both.fit) == (8, "pad")
    assert [both.content(row, 8, 8).max() for row in range(5)] == [1, 1, 1, 2, 2]
    assert both.content(4, 8, 4).shape == (4, 8, 3)
