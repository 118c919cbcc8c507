import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.color import Changes, blur_cpu, blur_device, change_cpu, change_device

NOISE = np.random.default_rng(0).integers(0, 256, (4, 37, 37, 3), np.uint8)
KINDS = {
    "brightness": (0.0, 0.01, 0.4, 1.0, 1.3, 1.99),
    "contrast": (0.0, 0.01, 0.4, 1.0, 1.3, 1.99),
    "saturation": (0.0, 0.01, 0.4, 1.0, 1.3, 1.99),
    "hue": (-0.5, -0.21, 0.0, 0.07, 0.33, 0.5),
    "sharpness": (0.0, 0.01, 0.4, 1.0, 1.3, 1.99),
    "posterize": (8, 7, 6, 5, 4, 3, 2),
    "solarize": (255.0, 254.9, 128.0, 60.3, 0.0),
    "autocontrast": (0.0,),
    "equalize": (0.0,),
}


def pictures():
    """Noise, a dull picture, one color, greys, a ramp and black and white: what each change has its edge cases in."""
    dull = (60 + NOISE[0] // 8 * (1, 2, 1)).astype(np.uint8)
    grey = np.repeat(NOISE[1, :, :, :1], 3, 2)
    ramp = np.linspace(0, 255, 37).astype(np.uint8)[:, None, None] + np.zeros((37, 37, 3), np.uint8)
    two = (NOISE[2] > 250).astype(np.uint8) * np.uint8(255)
    dark = np.full((37, 37, 3), 3, np.uint8)
    dark[0, 0] = 250
    one = np.full((37, 37, 3), (200, 40, 90), np.uint8)
    return np.stack([*NOISE[:2], dull, grey, ramp, two, dark, one])


def changes(kind, strengths):
    return Changes(kinds=np.array([[kind]] * len(strengths)), strengths=np.array(strengths, float)[:, None])


def on_device(images, done):
    return change_device(torch.from_numpy(images), done).numpy()


BOTH = pytest.mark.parametrize("change", [change_cpu, on_device], ids=["cpu", "device"])


def torchvisions(image, kind, strength):
    """Its function on a Pillow image; that for hue on a tensor, as Pillow's circle has 256 hues only."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    if kind == "hue":
        tensor = functional.adjust_hue(torch.from_numpy(image).permute(2, 0, 1), strength)
        return tensor.permute(1, 2, 0).numpy()
    names = {"posterize": "posterize", "solarize": "solarize", "autocontrast": "autocontrast", "equalize": "equalize"}
    function = getattr(functional, names.get(kind, f"adjust_{kind}"))
    arguments = [] if kind in ("autocontrast", "equalize") else [strength]
    return np.asarray(function(Image.fromarray(image), *arguments))


@BOTH
@pytest.mark.parametrize(("kind", "strength"), [(kind, each) for kind, some in KINDS.items() for each in some])
def test_each_change_is_torchvisions_within_a_grey_level(change, kind, strength):
    images = pictures()
    given = change(images, changes(kind, [strength] * len(images)))
    for image, ours in zip(images, given, strict=True):
        theirs = torchvisions(image, kind, strength)
        assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_cpu_and_device_make_the_same_picture(kind):
    strengths = np.resize(KINDS[kind], 8)
    images = pictures()
    difference = change_cpu(images, changes(kind, strengths)) - on_device(images, changes(kind, strengths)).astype(int)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


@BOTH
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "sharpness", "hue", "posterize", "solarize"])
def test_the_strength_of_nothing_changes_nothing(change, kind):
    images = pictures()
    nothing = {"hue": 0.0, "posterize": 8.0, "solarize": 255.5}.get(kind, 1.0)
    np.testing.assert_array_equal(change(images, changes(kind, [nothing] * len(images))), images)


@BOTH
def test_each_image_has_its_own_changes_in_their_order(change):
    kinds = np.array([["brightness", "solarize"], ["solarize", "brightness"], ["none", "none"], ["hue", "equalize"]])
    strengths = np.array([[0.5, 100], [100, 0.5], [7, 7], [0.2, 0]])
    given = change(NOISE, Changes(kinds=kinds, strengths=strengths))
    for row in range(4):
        image = NOISE[row : row + 1]
        for kind, strength in zip(kinds[row], strengths[row], strict=True):
            if kind != "none":
                image = change(image, changes(kind, [strength]))
        np.testing.assert_array_equal(given[row], image[0])
    assert not np.array_equal(given[0], given[1])


@BOTH
def test_a_change_leaves_the_original_and_its_company_alone(change):
    images = NOISE.copy()
    done = Changes(kinds=np.array([["sharpness"], ["none"], ["contrast"], ["none"]]), strengths=np.full((4, 1), 0.3))
    given = change(images, done)
    np.testing.assert_array_equal(images, NOISE)
    np.testing.assert_array_equal(given[[1, 3]], NOISE[[1, 3]])
    assert not np.array_equal(given[0], NOISE[0])


def blurred(images, sigmas, side):
    return blur_device(torch.from_numpy(images), sigmas, side).numpy()


@pytest.mark.parametrize("blur", [blur_cpu, blurred], ids=["cpu", "device"])
@pytest.mark.parametrize("side", [1, 3, 5, 23])
def test_blur_is_torchvisions_with_a_deviation_for_each_image(blur, side):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images, sigmas = pictures(), np.linspace(0.1, 2.0, 8)
    given = blur(images, sigmas, side)
    for image, sigma, ours in zip(images, sigmas, given, strict=True):
        theirs = functional.gaussian_blur(torch.from_numpy(image).permute(2, 0, 1), [side, side], [float(sigma)] * 2)
        assert np.abs(ours.astype(int) - theirs.permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize("size", [4, 5])
def test_a_kernel_larger_than_the_image_is_no_error(size):
    images, sigmas = NOISE[:, :size, :size].copy(), np.full(4, 2.0)
    difference = blur_cpu(images, sigmas, 31).astype(int) - blurred(images, sigmas, 31)
    assert np.abs(difference).max() <= 1
