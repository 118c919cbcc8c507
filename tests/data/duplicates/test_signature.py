import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from discern.data.duplicates.signature import (
    FLAT,
    SIDE,
    VARIANTS,
    VIEW,
    signatures,
    spectra,
    spectra_again,
    variants,
    varied,
)


def scenes(count, seed=0):
    """Grey views with structure of every size, stronger the larger, as photos have."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(each, (VIEW, VIEW), interpolation=cv2.INTER_CUBIC) * strength
        for cells, strength in ((3, 40), (6, 25), (12, 12), (24, 6), (64, 3))
        for each in rng.normal(size=(count, cells, cells)).astype(np.float32)
    ]
    pictures = 128 + np.reshape(layers, (-1, count, VIEW, VIEW)).sum(axis=0)
    return np.clip(pictures, 0, 255).astype(np.uint8)


def whitened(window):
    """Low frequencies by SciPy, as the signature wants them: without the mean, higher ones lifted, of length 1."""
    low = dctn(window.astype(float), norm="ortho")[:SIDE, :SIDE]
    low[0, 0] = 0
    order = np.arange(1, SIDE + 1)
    low *= np.outer(order, order) ** 0.75
    return (low / np.linalg.norm(low)).reshape(-1)


def test_a_spectrum_is_the_discrete_cosine_transform():
    views = scenes(5)
    for view, spectrum in zip(views, spectra(views)[:, 0, 0], strict=True):
        np.testing.assert_allclose(spectrum, whitened(view), atol=1e-5)


def test_a_window_has_the_spectrum_of_its_pixels():
    views, windows = scenes(3), ((0, 64), (0, 61), (3, 61), (10, 40))
    found = spectra(views, windows)
    assert found.shape == (3, 4, 4, 64)
    for n, view in enumerate(views):
        for down, (top, height) in enumerate(windows):
            for across, (left, width) in enumerate(windows):
                expected = whitened(view[top : top + height, left : left + width])
                np.testing.assert_allclose(found[n, down, across], expected, atol=1e-5)


def test_spectra_of_windows_follow_about_from_the_signature():
    views, windows = scenes(50), ((0, 64), (0, 61), (1, 61), (3, 61))
    exact, about = spectra(views, windows), spectra_again(signatures(views)[0], windows)
    cosine = (exact * about).sum(axis=-1)
    assert cosine[:, 0, 0].min() > 0.9995  # the whole, but for rounding
    assert cosine.min() > 0.93


def test_a_hash_is_the_signs_of_the_spectrum():
    views = scenes(20)
    _, hashes = signatures(views)
    for view, found in zip(views, hashes.tolist(), strict=True):
        assert f"{found:064b}" == "".join("1" if value > 0 else "0" for value in whitened(view))


def test_a_signature_keeps_the_direction_of_the_spectrum():
    views = scenes(20)
    signature, _ = signatures(views)
    assert signature.dtype == np.int8
    assert (np.abs(signature).max(axis=1) == 127).all()
    expected = np.stack([whitened(view) for view in views])
    cosine = (signature * expected).sum(axis=1) / np.linalg.norm(signature.astype(float), axis=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("amplitude", [0, 0.9])
def test_a_picture_that_shows_nothing_has_no_signature(amplitude):
    ramp = np.linspace(0, amplitude, VIEW) * np.ones((VIEW, 1))
    flat = np.stack([np.full((VIEW, VIEW), 77), np.rint(77 + ramp)]).astype(np.uint8)
    signature, hashes = signatures(flat)
    assert not signature.any()
    assert hashes.tolist() == [0, 0]


def test_what_is_flat_is_told_in_grey_levels_of_deviation():
    wave = (
        np.cos((np.arange(VIEW) + 0.5) * np.pi / VIEW * 3) * 2**0.5 * np.ones((VIEW, 1))
    )  # one frequency, deviation 1
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (VIEW, VIEW))  # carries levels under one through the rounding
    over, under = (np.rint(100 + wave * deviation + noise).astype(np.uint8) for deviation in (FLAT * 1.1, FLAT * 0.8))
    assert signatures(np.stack([over, under]))[1].astype(bool).tolist() == [True, False]


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_the_hashes_of_variants_are_those_of_the_changed_pictures(seed):
    views = scenes(4, seed)
    found = variants(signatures(views)[1])
    for k in range(len(VARIANTS)):
        np.testing.assert_array_equal(found[:, k], signatures(np.ascontiguousarray(varied(views, k)))[1])


def test_a_flat_picture_stays_flat_in_every_variant():
    assert not variants(np.zeros(3, np.uint64)).any()


def test_variants_are_what_their_names_say():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    turns = {
        "as it is": None,
        "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
        "upside down": Image.Transpose.FLIP_TOP_BOTTOM,
        "turned 180": Image.Transpose.ROTATE_180,
        "transposed": Image.Transpose.TRANSPOSE,
        "turned 90": Image.Transpose.ROTATE_270,  # Pillow turns to the left
        "turned 270": Image.Transpose.ROTATE_90,
        "transversed": Image.Transpose.TRANSVERSE,
    }
    assert tuple(turns) == VARIANTS
    for k, turn in enumerate(turns.values()):
        expected = Image.fromarray(picture) if turn is None else Image.fromarray(picture).transpose(turn)
        np.testing.assert_array_equal(varied(picture[None], k)[0], np.asarray(expected))


def test_no_views_have_no_signatures():
    signature, hashes = signatures(np.zeros((0, VIEW, VIEW), np.uint8))
    assert signature.shape == (0, 64)
    assert hashes.shape == (0,)
