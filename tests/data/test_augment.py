from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from discern.data.augment import Augmentation, varied_on_cpu, varied_on_device, warp_cpu, warp_device
from discern.errors import UsageError

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
    for field in fields(Augmentation):
        if not field.name.startswith("policy_"):
            assert Augmentation(**{field.name: {"blur": 3, "policy": "rand"}.get(field.name, 0.1)}), field.name
    assert not Augmentation(policy_ops=3, policy_strength=30), "without a policy they say nothing"


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
    still, near, far = (affine(shift=shift, zoom=0.2)[:, :, 2] for shift in (0, 0.1, 0.2))
    np.testing.assert_allclose(far - still, 2 * (near - still), atol=1e-12)


@WARPS
@pytest.mark.parametrize("options", [{"shift": 0.2}, {"flip": 0.5, "shift": 0.2}, {"alternate": True, "shift": 0.2}])
def test_a_shift_alone_is_by_whole_pixels_and_blurs_nothing(warp, options):
    images, maps = NOISE[:, :, :20].copy(), affine(**options)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for image, (linear_x, linear_y), whole in zip(warp(images, maps), maps, padded, strict=True):
        right, down = round(linear_x[2] - (19 if linear_x[0] < 0 else 0)), round(linear_y[2])
        crop = whole[4 + down : 24 + down, 4 + right : 24 + right]
        np.testing.assert_array_equal(image, crop[:, :: int(linear_x[0])])


def test_whole_pixels_are_as_likely_from_end_to_end():
    counts = np.unique(affine(32, count=2000, shift=0.125)[:, 0, 2], return_counts=True)
    assert counts[0].tolist() == list(range(-4, 5)), "as a crop of 32 after padding by 4"
    assert counts[1].min() > 2000 / 9 * 0.75
    hundred = affine(100, count=2000, shift=0.29)[:, 0, 2]
    assert (hundred.min(), hundred.max()) == (-29, 29)


def test_every_image_is_mirrored_in_every_second_epoch():
    mirrored = np.stack(
        [np.linalg.det(affine(count=2000, alternate=True, flip=0.9, epoch=e)[:, :, :2]) < 0 for e in range(4)]
    )
    assert (mirrored[0] != mirrored[1]).all()
    np.testing.assert_array_equal(mirrored[:2], mirrored[2:])
    assert abs(mirrored[0].mean() - 0.5) < 0.04
    other = np.linalg.det(affine(count=2000, alternate=True, seed=1)[:, :, :2]) < 0
    assert 0.4 < (other == mirrored[0]).mean() < 0.6


def test_shear_is_torchvisions():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    maps = affine(count=2000, size=21, shear=20)
    slopes = maps[:, 0, 1]
    degrees = np.rad2deg(np.arctan(slopes))
    assert -20 <= degrees.min() < -19.8
    assert 19.8 < degrees.max() <= 20
    image = smooth(1, 21)
    ours = warp_cpu(image, maps[:1])[0].astype(int)
    theirs = functional.affine(
        torch.from_numpy(image[0]).permute(2, 0, 1),
        angle=0.0,
        translate=[0, 0],
        scale=1.0,
        shear=[float(degrees[0]), 0.0],
        interpolation=functional.InterpolationMode.BILINEAR,
    )
    difference = np.abs(ours - theirs.permute(1, 2, 0).numpy())[:, 5:-5]
    assert difference.mean() < 1
    assert difference.max() <= 8  # OpenCV places samples on a grid of 1/32 pixel


def test_the_original_images_are_not_touched():
    images = NOISE.copy()
    for warp in (warp_cpu, on_device):
        warp(images, affine(rotate=30))
        np.testing.assert_array_equal(images, NOISE)


EVERYTHING = {
    "flip": 0.5,
    "vertical_flip": 0.5,
    "shift": 0.2,
    "rotate": 40,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.5,
    "blur": 3,
    "erase": 0.5,
    "policy": "rand",
}
CPU = torch.device("cpu")


def applied(images, keys=KEYS, seed=0, epoch=0, **options):
    keys = keys[: len(images)]
    return Augmentation(**options).apply(images, seed=seed, epoch=epoch, keys=keys, device=CPU).numpy()


def test_nothing_varied_is_the_same_array():
    images = NOISE.copy()
    assert np.shares_memory(applied(images), images)


@pytest.mark.parametrize("name", [*EVERYTHING, "all"])
def test_applying_leaves_the_original_alone_and_is_the_same_again(name):
    options = EVERYTHING if name == "all" else {name: EVERYTHING[name]}
    images = NOISE.copy()
    first = applied(images, **options)
    np.testing.assert_array_equal(images, NOISE)
    assert not np.array_equal(first, NOISE)
    np.testing.assert_array_equal(applied(images, **options), first)
    for other in ({"seed": 1}, {"epoch": 1}):
        assert not np.array_equal(applied(images, **options, **other), first)


@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
@pytest.mark.parametrize("where", ["cpu", "device"])
def test_an_image_comes_out_the_same_in_any_company(policy, where):
    images = smooth(40, 24)
    augmentation = Augmentation(**EVERYTHING | {"policy": policy})

    def varied(rows):
        drawn = augmentation.drawn(seed=3, epoch=1, keys=KEYS[rows], size=24)
        if where == "cpu":
            return varied_on_cpu(images[rows], drawn)
        return varied_on_device(torch.from_numpy(images[rows]), drawn).numpy()

    whole = varied(np.arange(40))
    for rows in ([0], [39, 5, 5], list(range(20, 40))):
        np.testing.assert_array_equal(varied(np.array(rows)), whole[rows])


@pytest.mark.parametrize("options", [EVERYTHING, {"policy": "trivial"}, {"shear": 20, "alternate": True}])
def test_both_ways_vary_alike(options):
    images = smooth(60, 64)
    drawn = Augmentation(**options).drawn(seed=0, epoch=0, keys=KEYS[:60], size=64)
    device = varied_on_device(torch.from_numpy(images), drawn).numpy()
    difference = np.abs(varied_on_cpu(images, drawn).astype(int) - device)
    kinds = drawn.changes.kinds
    # These turn a grey level of difference into many: a level becomes another, or lies beyond a threshold.
    calm = ~np.isin(kinds, ("solarize", "posterize", "equalize", "autocontrast", "sharpness")).any(1)
    assert calm.sum() > 15
    assert difference[calm].mean() < 1
    assert difference.mean() < 3


def test_jitter_draws_torchvisions_ranges_in_every_order():
    options = {"brightness": 0.5, "contrast": 0.4, "saturation": 1.0, "hue": 0.3}
    changes = Augmentation(**options).drawn(seed=0, epoch=0, keys=KEYS, size=8).changes
    assert changes.kinds.shape == (2000, 4)
    assert len({tuple(row) for row in changes.kinds.tolist()}) == 24
    for name, most in options.items():
        values = changes.strengths[changes.kinds == name]
        low, high = (-most, most) if name == "hue" else (1 - most, 1 + most)
        assert len(values) == 2000
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.04


def test_only_the_colors_that_are_to_be_changed_are():
    changes = Augmentation(hue=0.1).drawn(seed=0, epoch=0, keys=KEYS, size=8).changes
    assert set(changes.kinds.ravel().tolist()) == {"hue", "none"}
    assert not Augmentation(flip=1.0).drawn(seed=0, epoch=0, keys=KEYS, size=8).changes


def test_deviations_of_the_blur_are_torchvisions():
    sigmas = Augmentation(blur=3).drawn(seed=0, epoch=0, keys=KEYS, size=8).sigmas
    assert 0.1 <= sigmas.min() < 0.11
    assert 1.99 < sigmas.max() <= 2.0
    assert abs(sigmas.mean() - 1.05) < 0.05


def test_what_is_drawn_for_one_thing_says_nothing_about_another():
    drawn = Augmentation(**EVERYTHING | {"zoom": 0.3, "erase": 1.0}).drawn(seed=0, epoch=0, keys=KEYS, size=224)
    plain = affine(224, count=2000, rotate=40, flip=0.5, zoom=0.3)
    jitter = {name: drawn.changes.strengths[drawn.changes.kinds == name] for name in ("hue",)}
    areas = (drawn.boxes[:, 1] - drawn.boxes[:, 0]) * (drawn.boxes[:, 3] - drawn.boxes[:, 2])
    policy = (drawn.changes.kinds[:, 0] == "none").astype(float)
    numbers = [drawn.sigmas, jitter["hue"], areas, policy, plain[:, 0, 0], plain[:, 1, 0], drawn.boxes[:, 0]]
    together = np.corrcoef([each.astype(float) for each in numbers])
    np.fill_diagonal(together, 0)
    assert np.abs(np.delete(np.delete(together, 6, 0), 6, 1)).max() < 0.1


def test_a_kernel_of_an_even_side_is_refused():
    with pytest.raises(UsageError, match=r"augment\.blur = 4 is not possible.* such as 5"):
        Augmentation(blur=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [EVERYTHING, {"policy": "trivial"}])
def test_a_gpu_varies_as_its_code_does_on_a_cpu(options):
    images, augmentation = smooth(60, 64), Augmentation(**options)
    drawn = augmentation.drawn(seed=0, epoch=0, keys=KEYS[:60], size=64)
    gpu = augmentation.apply(images, seed=0, epoch=0, keys=KEYS[:60], device=torch.device("cuda")).cpu().numpy()
    assert np.abs(gpu.astype(int) - varied_on_device(torch.from_numpy(images), drawn).numpy()).mean() < 0.5
