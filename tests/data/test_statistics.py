import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from discern.data.decode import LONGER
from discern.data.duplicates.signature import VIEW
from discern.data.statistics import SAMPLED, sample, sharpness, shrunk, statistics, view

NUMBERS = ("brightness", "contrast", "low", "high", "entropy", "colorfulness", "border")


def scene(seed=0, width=VIEW, height=VIEW, grey=False):
    """Structure of every size, in colour."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(cells, cells, 3)).astype(np.float32), (width, height)) * strength
        for cells, strength in ((3, 30), (6, 25), (12, 15), (24, 10), (64, 6))
    ]
    picture = np.clip(110 + np.sum(layers, axis=0), 0, 255).astype(np.uint8)
    return np.repeat(picture[:, :, :1], 3, axis=2) if grey else picture


def of(*pictures):
    """Statistics of pictures by the way that the scan goes."""
    found = statistics(
        np.stack([view(shrunk(picture)) for picture in pictures]), np.stack([sample(picture) for picture in pictures])
    )
    return {name: found[name].tolist() for name in NUMBERS}


def as_grey(picture):
    return np.asarray(Image.fromarray(picture).convert("L"))


@pytest.mark.parametrize("seed", range(4))
def test_levels_are_those_of_pillow_and_numpy(seed):
    picture = scene(seed)
    grey, found = as_grey(picture), of(picture)
    assert found["brightness"][0] == pytest.approx(grey.mean() / 255, abs=1 / 255)
    assert found["contrast"][0] == pytest.approx(grey.std() / 255, abs=0.5 / 255)
    assert found["entropy"][0] == pytest.approx(Image.fromarray(grey).entropy(), abs=0.02)
    assert found["low"][0] == pytest.approx(np.quantile(grey, 0.05, method="inverted_cdf") / 255, abs=1.01 / 255)
    assert found["high"][0] == pytest.approx(np.quantile(grey, 0.95, method="inverted_cdf") / 255, abs=1.01 / 255)


@pytest.mark.parametrize(("width", "height"), [(500, 300), (90, 200), (40, 30)])
def test_levels_do_not_depend_on_the_size(width, height):
    picture = scene(1, width, height)
    grey, found = as_grey(picture), of(picture)
    assert found["brightness"][0] == pytest.approx(grey.mean() / 255, abs=0.01)
    assert found["contrast"][0] == pytest.approx(grey.std() / 255, abs=0.02)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_one_colour_has_no_contrast_and_no_information(level):
    found = of(np.full((50, 60, 3), level, np.uint8))
    assert found["brightness"][0] == found["low"][0] == found["high"][0] == pytest.approx(level / 255)
    assert found["contrast"][0] == found["entropy"][0] == found["colorfulness"][0] == 0


def test_half_black_half_white():
    picture = np.zeros((VIEW, VIEW, 3), np.uint8)
    picture[: VIEW // 2] = 255
    found = of(picture)
    assert (found["contrast"][0], found["entropy"][0], found["low"][0], found["high"][0]) == (0.5, 1, 0, 1)


def colorfulness(picture):
    """Hasler & Suesstrunk (2003), equation by equation, over 255."""
    red, green, blue = (picture[..., k].astype(float) for k in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    deviation = np.sqrt(rg.std() ** 2 + yb.std() ** 2)
    mean = np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
    return (deviation + 0.3 * mean) / 255


@pytest.mark.parametrize("seed", range(3))
def test_colorfulness_is_that_of_the_paper(seed):
    picture = scene(seed, SAMPLED, SAMPLED)
    assert of(picture)["colorfulness"][0] == pytest.approx(colorfulness(picture), rel=1e-5)
    large = scene(seed, 300, 200)
    assert of(large)["colorfulness"][0] == pytest.approx(colorfulness(large), rel=0.05)


def test_grey_has_no_colour_and_a_vivid_picture_much():
    vivid = np.zeros((60, 60, 3), np.uint8)
    vivid[:30, :, 0] = vivid[30:, :, 2] = 255
    found = of(scene(0, grey=True), scene(0), vivid)["colorfulness"]
    assert found[0] == 0
    assert found[0] < found[1] < 0.25 < 0.7 < found[2]


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"),
    [(0, 0, 0, 0), (16, 16, 0, 0), (8, 0, 0, 0), (0, 0, 12, 4), (8, 8, 8, 8), (0, 20, 30, 0)],
)
@pytest.mark.parametrize("level", [0, 255, 128])
def test_border_is_the_area_of_letterbox_and_frame(top, bottom, left, right, level):
    picture = scene(0, 4 * VIEW, 4 * VIEW)
    height, width = picture.shape[:2]
    edges = slice(4 * top, height - 4 * bottom), slice(4 * left, width - 4 * right)
    framed = np.full_like(picture, level)
    framed[edges] = picture[edges]
    inside = (VIEW - top - bottom) * (VIEW - left - right) / VIEW**2
    assert of(framed)["border"][0] == pytest.approx(1 - inside, abs=1 / VIEW)  # half a line may be the frame's


def test_a_border_may_be_a_little_noisy():
    picture = scene(0)
    picture[:16] = np.random.default_rng(0).integers(10, 15, (16, VIEW, 3))
    assert of(picture)["border"][0] == pytest.approx(0.25)


def test_one_colour_is_all_border():
    assert of(np.full((50, 60, 3), 9, np.uint8))["border"] == [1]


def sharp(picture):
    return sharpness(shrunk(np.asarray(picture)))


def detailed(width, height):
    """A picture with large objects that have edges, as a photo has."""
    cells = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST))


def test_sharpness_falls_with_every_blur():
    picture = detailed(400, 300)
    values = [sharp(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.3
    assert values[-1] < 0.1


def test_sharpness_does_not_depend_on_contrast_or_size():
    picture = detailed(1024, 768)
    value = sharp(picture)
    assert sharp(picture.point(lambda level: level // 3 + 40)) == pytest.approx(value, rel=0.05)
    for width, height in ((512, 384), (256, 192), (160, 120)):
        assert sharp(picture.resize((width, height), Image.Resampling.BOX)) == pytest.approx(value, rel=0.15)


def test_sharpness_is_the_laplacians_deviation():
    grey = as_grey(scene(0, LONGER, 90))
    padded = np.pad(grey.astype(int), 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * padded[1:-1, 1:-1]
    assert sharpness(grey) == pytest.approx(laplacian.std() / grey.std(), rel=1e-6)


@pytest.mark.parametrize("level", [0, 200])
def test_nothing_is_not_sharp(level):
    assert sharp(np.full((80, 90, 3), level, np.uint8)) == 0


def test_each_picture_counts_for_itself():
    pictures = [scene(0), scene(1, 200, 90), np.full((5, 9, 3), 40, np.uint8), scene(2, 30, 300)]
    together = of(*pictures)
    for k, picture in enumerate(pictures):
        alone = of(picture)
        assert {name: together[name][k] for name in NUMBERS} == {name: alone[name][0] for name in NUMBERS}


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (2, 3), (3000, 20)])
def test_any_shape_has_its_numbers(width, height):
    picture = np.full((height, width, 3), 100, np.uint8)
    picture[: height // 2] = 50
    found = of(picture)
    assert 0.15 < found["brightness"][0] < 0.45
    assert all(np.isfinite(values).all() for values in found.values())
    assert sharp(picture) >= 0


def test_statistics_and_signatures_belong_to_the_same_picture():
    views, samples = (
        np.stack([view(shrunk(scene(k))) for k in range(3)]),
        np.stack([sample(scene(k)) for k in range(3)]),
    )
    found = statistics(views, samples)
    for k in range(3):
        alone = statistics(views[k : k + 1], samples[k : k + 1])
        assert found["hash"][k] == alone["hash"][0]
        np.testing.assert_array_equal(found["signature"][k], alone["signature"][0])
