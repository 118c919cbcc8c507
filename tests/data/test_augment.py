import cv2
import numpy as np
import pytest
import torch

from discern.data.augment import Augmentation, warp_cpu, warp_device

KEYS = np.random.default_rng(0).integers(0, 2**63, 2000, np.uint64)
NOISE = np.random.default_rng(1).integers(0, 256, (6, 20, 20, 3), np.uint8)


def smooth(count, size):
    """Pictures without detail finer than a fifth of their side, so that interpolation itself adds little."""
    small = np.random.default_rng(2).integers(0, 256, (count, 5, 5, 3), np.uint8)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in small])


def affine(size=20, count=6, seed=0, epoch=0, **options):
    return Augmentation(**options).affine(seed=seed, epoch=epoch, keys=KEYS[:count], size=size)


def on_device(images, maps):
    return warp_device(torch.from_numpy(images), maps).numpy()


WARPS = pytest.mark.parametrize("warp", [warp_cpu, on_device], ids=["cpu", "device"])


def test_only_the_default_varies_nothing():
    assert not Augmentation()
    for name in ("flip", "vertical_flip", "shift", "rotate", "zoom"):
        assert Augmentation(**{name: 0.1})


@WARPS
@pytest.mark.parametrize("size", [19, 20])
def test_the_identity_leaves_every_pixel_alone(warp, size):
    images = NOISE[:, :size, :size].copy()
    np.testing.assert_array_equal(warp(images, affine(size)), images)


@WARPS
@pytest.mark.parametrize("size", [19, 20])
@pytest.mark.parametrize(
    ("options", "axes"),
    [({"flip": 1.0}, 2), ({"vertical_flip": 1.0}, 1), ({"flip": 1.0, "vertical_flip": 1.0}, (1, 2))],
)
def test_a_flip_is_an_exact_mirror_image(warp, size, options, axes):
    images = NOISE[:, :size, :size].copy()
    np.testing.assert_array_equal(warp(images, affine(size, **options)), np.flip(images, axes))


@WARPS
def test_edges_are_mirrored_not_black(warp):
    images = np.full((6, 20, 20, 3), 200, np.uint8)
    assert (warp(images, affine(shift=0.4, rotate=45, zoom=0.4)) == 200).all()


@WARPS
def test_a_quarter_turn_is_numpys(warp):
    quarter = np.array([[[0.0, -1, 19], [1, 0, 0]]])
    images = NOISE[:1]
    np.testing.assert_array_equal(warp(images, quarter)[0], np.rot90(images[0]))


@pytest.mark.parametrize("size", [32, 63, 96])
@pytest.mark.parametrize(
    "options",
    [{"shift": 0.2}, {"rotate": 30}, {"zoom": 0.3}, {"flip": 0.5, "shift": 0.1, "rotate": 15, "zoom": 0.15}],
    ids=["shift", "rotate", "zoom", "all"],
)
def test_both_warps_make_the_same_picture(size, options):
    images = smooth(24, size)
    maps = affine(size, count=24, **options)
    difference = np.abs(warp_cpu(images, maps).astype(int) - on_device(images, maps).astype(int))
    assert difference.mean() < 1
    assert difference.max() <= 16  # OpenCV places samples on a grid of 1/32 pixel


def test_a_shift_moves_the_picture_that_far():
    maps = affine(size=40, count=1, shift=0.25)
    column, row = -maps[0, :, 2]
    image = np.zeros((1, 40, 40, 3), np.uint8)
    image[0, 19:21, 19:21] = 255
    ys, xs = np.nonzero(warp_cpu(image, maps)[0, :, :, 0] > 60)
    assert abs(xs.mean() - 19.5 - column) < 0.6
    assert abs(ys.mean() - 19.5 - row) < 0.6


def test_parameters_cover_their_range_and_stay_in_it():
    maps = affine(100, count=2000, shift=0.1)
    for shift in maps[:, :, 2].T:
        assert -10 <= shift.min() < -9.8
        assert 9.8 < shift.max() <= 10
        assert abs(shift.mean()) < 0.5
    angle = np.rad2deg(np.arctan2(*affine(100, count=2000, rotate=20)[:, ::-1, 0].T[[0, 1]]))
    assert -20 <= angle.min() < -19.8
    assert 19.8 < angle.max() <= 20
    scale = 1 / np.sqrt(np.linalg.det(affine(100, count=2000, zoom=0.2)[:, :, :2]))
    assert 0.8 - 1e-9 <= scale.min() < 0.802
    assert 1.198 < scale.max() <= 1.2 + 1e-9
    mirrored = np.linalg.det(affine(100, count=2000, flip=0.3)[:, :, :2]) < 0
    assert abs(mirrored.mean() - 0.3) < 0.04


def test_turning_and_zooming_keep_the_centre():
    maps = affine(33, count=50, flip=0.5, vertical_flip=0.5, rotate=90, zoom=0.5)
    np.testing.assert_allclose(maps @ [16, 16, 1], np.full((50, 2), 16.0), atol=1e-9)


def test_turning_and_zooming_keep_right_angles():
    linear = affine(33, count=50, flip=0.5, vertical_flip=0.5, rotate=90, zoom=0.5)[:, :, :2]
    gram = linear @ linear.transpose(0, 2, 1)
    np.testing.assert_allclose(gram, gram[:, :1, :1] * np.eye(2), atol=1e-9)


def test_an_image_is_varied_the_same_in_any_batch():
    augmentation = Augmentation(flip=0.5, shift=0.1, rotate=10, zoom=0.1)
    whole = augmentation.affine(seed=1, epoch=2, keys=KEYS[:50], size=32)
    part = np.array([40, 3, 3, 17])
    np.testing.assert_array_equal(augmentation.affine(seed=1, epoch=2, keys=KEYS[part], size=32), whole[part])


def test_epochs_and_seeds_vary_an_image_differently():
    first = affine(count=50, rotate=10)
    for options in ({"epoch": 1}, {"seed": 1}):
        assert not np.isclose(affine(count=50, rotate=10, **options), first).all(axis=(1, 2)).any()


def test_one_kind_of_change_does_not_disturb_another():
    np.testing.assert_allclose(affine(shift=0.1, zoom=0.0)[:, :, 2], affine(shift=0.2)[:, :, 2] / 2)


def test_the_original_images_are_not_touched():
    images = NOISE.copy()
    for warp in (warp_cpu, on_device):
        warp(images, affine(rotate=30))
        np.testing.assert_array_equal(images, NOISE)
