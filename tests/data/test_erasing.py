import cv2
import numpy as np
import pytest
import torch

from discern.data.erasing import boxes, erase_cpu, erase_device

KEYS = np.random.default_rng(0).integers(0, 2**63, 20_000, np.uint64)
NOISE = np.random.default_rng(1).integers(0, 256, (50, 20, 20, 3), np.uint8)


def drawn(share=1.0, *, count=20_000, size=224, seed=0, epoch=0):
    return boxes(share, seed=seed, epoch=epoch, keys=KEYS[:count], size=size)


def on_device(images, found):
    return erase_device(torch.from_numpy(images), found).numpy()


ERASE = pytest.mark.parametrize("erase", [erase_cpu, on_device], ids=["cpu", "device"])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_images_that_lose_a_box(share):
    assert abs(drawn(share).any(1).mean() - share) < 0.01


def test_areas_and_aspects_are_those_of_the_paper():
    found = drawn()
    height, width = (found[:, 1] - found[:, 0]).astype(float), (found[:, 3] - found[:, 2]).astype(float)
    area, aspect = height * width / 224**2, height / width
    assert 0.0195 < area.min() < 0.021
    assert 0.395 < area.max() < 0.405
    assert 0.29 < aspect.min() < 0.31
    assert 3.23 < aspect.max() < 3.45
    assert abs(np.mean(np.log(aspect) > 0) - 0.5) < 0.015, "lying and standing boxes are as likely"
    small = area[(aspect > 0.5) & (aspect < 2)]  # where every box fits
    assert abs(np.mean(small < 0.21) - 0.5) < 0.02, "areas are spread evenly"


@pytest.mark.parametrize("size", [4, 32, 224])
def test_boxes_lie_inside_and_everywhere(size):
    found = drawn(size=size)
    assert found.min() >= 0
    assert found.max() <= size
    assert (found[:, 1] >= found[:, 0]).all()
    assert (found[:, 3] >= found[:, 2]).all()
    for first, last in ((0, 1), (2, 3)):
        assert (found[:, first] == 0).any()
        assert (found[:, last] == size).any()
        assert abs((found[:, first] + found[:, last]).mean() / size - 1) < 0.02


def test_torchvision_draws_boxes_of_the_same_areas_and_aspects():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    theirs = v2.RandomErasing(p=1, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [theirs.make_params([torch.zeros(3, 224, 224)]) for _ in range(3000)]
    height, width = (np.array([box[side] for box in made], float) for side in "hw")
    found = drawn()
    ours = [(found[:, 1] - found[:, 0]) * 1.0, (found[:, 3] - found[:, 2]) * 1.0]
    for part in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(ours[0] * ours[1], part) == pytest.approx(np.quantile(height * width, part), rel=0.08)
        assert np.quantile(ours[0] / ours[1], part) == pytest.approx(np.quantile(height / width, part), rel=0.08)


@ERASE
def test_a_box_is_covered_with_the_mean_color_and_nothing_else_changes(erase):
    found = drawn(0.5, count=50, size=20)
    before = NOISE.copy()
    given = erase(NOISE, found)
    np.testing.assert_array_equal(NOISE, before)
    for image, ours, (top, bottom, left, right) in zip(NOISE, given, found, strict=True):
        expected = image.astype(float)
        expected[top:bottom, left:right] = np.round(cv2.mean(image)[:3])
        assert np.abs(ours - expected).max() <= 1
        outside = np.ones((20, 20), bool)
        outside[top:bottom, left:right] = False
        np.testing.assert_array_equal(ours[outside], image[outside])
    assert 10 < sum(not np.array_equal(a, b) for a, b in zip(NOISE, given, strict=True)) < 40


def test_what_is_erased_depends_on_seed_epoch_and_image_alone():
    whole = drawn(0.5)
    np.testing.assert_array_equal(boxes(0.5, seed=0, epoch=0, keys=KEYS[[9, 2]], size=224), whole[[9, 2]])
    for other in ({"seed": 1}, {"epoch": 1}):
        assert not np.array_equal(drawn(0.5, **other), whole)
