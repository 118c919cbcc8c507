import numpy as np
import pytest

from discern.data.pixels import Pixels, creating_pixels, read_pixels


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


def test_what_was_created_is_mapped_back(tmp_path):
    with creating_pixels(tmp_path / "p.npy", 3, 5) as array:
        assert array.shape == (3, 5, 5, 3)
        assert not array.any()
        array[1] = 7
    pixels = read_pixels(tmp_path / "p.npy")
    assert pixels.size == 5
    assert [pixels.array[row].max() for row in range(3)] == [0, 7, 0]
    with pytest.raises(ValueError, match="read-only"):
        pixels.array[0] = 1


def test_the_whole_file_is_reserved_before_the_first_pixel(tmp_path):
    with creating_pixels(tmp_path / "p.npy", 100, 32):
        assert (tmp_path / "p.npy").stat().st_blocks * 512 >= 100 * 32 * 32 * 3
