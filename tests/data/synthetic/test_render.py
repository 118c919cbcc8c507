"""The pictures themselves: determinism, masks, domains, and that pixels alone do not give the class away."""

from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from discern.data.synthetic import CLASSES, DOMAINS, render
from discern.errors import UsageError


@cache
def drawn(label, index, domain="workshop", size=64):
    return render(label, seed=3, split="train", index=index, size=size, domain=domain)


def test_the_same_key_gives_the_same_pixels_and_any_other_key_others():
    key = {"seed": 0, "split": "train", "index": 0, "size": 64, "domain": "workshop"}
    image, mask = render("nut", **key)
    again, mask_again = render("nut", **key)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(mask, mask_again)
    for change in ({"seed": 1}, {"split": "test"}, {"index": 1}, {"domain": "outdoor"}):
        assert not np.array_equal(image, render("nut", **{**key, **change})[0]), change
    assert not np.array_equal(image, render("bolt", **key)[0])


@pytest.mark.parametrize("size", [16, 65, 100])
def test_image_and_mask_have_the_size_asked_for(size):
    image, mask = render("carton_box", seed=0, split="test", index=4, size=size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)
    assert image.dtype == mask.dtype == np.uint8


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("label", CLASSES)
def test_the_mask_covers_a_plausible_part_and_nothing_between(label, domain):
    shares = []
    for index in range(8):
        _, mask = drawn(label, index, domain)
        assert set(np.unique(mask)) == {0, 255}
        shares.append((mask > 0).mean())
    assert min(shares) > 0.003
    assert max(shares) < 0.9
    assert 0.02 < np.mean(shares) < 0.6


def test_colours_inside_the_mask_differ_from_those_around_it():
    differ = 0
    for label in CLASSES:
        for index in range(8):
            image, mask = drawn(label, index)
            inside, outside = image[mask > 0].astype(float), image[mask == 0].astype(float)
            apart = np.abs(inside.mean(0) - outside.mean(0)).max()
            differ += apart > 8 or abs(inside.std() - outside.std()) > 8
    assert differ >= 34  # of 40; a zinc nut on a steel sheet may well match in both


def test_mask_outlines_follow_edges_in_the_picture():
    on, off = [], []
    for index in range(8):
        image, mask = drawn("nut", index, size=128)
        grey = image.astype(float).mean(2)
        steep = np.hypot(*np.gradient(grey))
        outline = np.hypot(*np.gradient(mask.astype(float))) > 0
        on.append(steep[outline].mean())
        off.append(steep[~outline].mean())
    assert np.mean(on) > 2 * np.mean(off)


def test_every_size_shows_the_same_scene():
    small, large = drawn("bolt", 2, size=64)[1], drawn("bolt", 2, size=128)[1]
    reduced = large.reshape(64, 2, 64, 2).mean((1, 3)) > 127
    both, either = (reduced & (small > 0)).sum(), (reduced | (small > 0)).sum()
    assert both / either > 0.85


def test_the_second_domain_looks_different():
    means = {
        d: np.mean([drawn(c, i, d)[0].astype(float).std(axis=(0, 1)).mean() for c in CLASSES for i in range(8)])
        for d in DOMAINS
    }
    assert abs(means["workshop"] - means["outdoor"]) > 2


def test_a_linear_model_on_raw_pixels_fails():
    def table(split, count):
        images = [render(c, seed=3, split=split, index=i, size=64)[0] for c in CLASSES for i in range(count)]
        pixels = np.stack(images).reshape(-1, 32, 2, 32, 2, 3).mean((2, 4)).reshape(len(images), -1)
        return pixels / 255, np.repeat(np.arange(len(CLASSES)), count)

    (x, y), (x_test, y_test) = table("train", 60), table("test", 20)
    scale = StandardScaler().fit(x)
    model = LogisticRegression(C=1e-3, max_iter=100).fit(scale.transform(x), y)
    assert model.score(scale.transform(x_test), y_test) < 0.45  # chance is 0.20


@pytest.mark.parametrize(
    ("label", "change", "words"),
    [
        ("bolts", {}, "bolt"),
        ("bolt", {"domain": "outdoors"}, "did you mean 'outdoor'"),
        ("bolt", {"size": 4}, "size is 4"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(label, change, words):
    with pytest.raises(UsageError, match=words):
        render(label, **{"seed": 0, "split": "train", "index": 0, **change})
