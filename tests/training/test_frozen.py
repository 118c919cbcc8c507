"""Features of a network that does not change: what it gives, computed once for the same images and weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.models.backbones import Backbone
from discern.progress import Silent
from discern.training.frozen import features


class Means(nn.Module):
    """Mean colours of quarters, and the side of what it was given; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, images):
        self.asked += 1
        pooled = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        side = torch.full((len(images), 1), float(images.shape[-1]), device=images.device)
        return torch.cat([pooled, side], dim=1)


def backbone(**changes):
    made = Backbone(
        name="means",
        network=Means().eval(),
        width=13,
        size=128,
        fixed_size=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        weights="00",
        licence=None,
    )
    return replace(made, **changes)


@pytest.fixture
def scanned(scenes):
    root = scenes({"cat": 25, "dog": 15})
    return lambda size=112, fit="pad": scan(open_dataset(root), size=size, fit=fit)


def test_a_row_for_every_image_in_the_order_of_the_table(scanned):
    data, pixels = scanned()
    found = features(data, pixels, backbone())
    assert (found.shape, found.dtype) == ((40, 13), np.float16)
    images = torch.from_numpy(pixels.take(data.index)).permute(0, 3, 1, 2).float() / 255
    expected = nn.functional.adaptive_avg_pool2d((images - 0.5) / 0.5, 2).flatten(1).numpy()
    np.testing.assert_allclose(found[:, :12], expected, atol=0.02)  # bfloat16
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(features(data.with_rows(order), pixels, backbone()), found[order], atol=0.01)


def test_the_network_is_asked_once_for_the_same_images(scanned):
    data, pixels = scanned()
    first = backbone()
    found = features(data, pixels, first)
    assert first.network.asked == 2  # 32 and 8 images
    again = backbone()
    np.testing.assert_array_equal(features(data, pixels, again), found)
    assert again.network.asked == 0


@pytest.mark.parametrize("change", ["weights", "network", "images", "size", "fit", "order"])
def test_anything_else_is_computed_anew(scanned, change):
    data, pixels = scanned()
    features(data, pixels, backbone())
    other = backbone()
    if change == "weights":
        other = backbone(weights="01")
    elif change == "network":
        other = backbone(name="medians")
    elif change == "images":
        data = data.with_rows(np.arange(39))
    elif change == "order":
        data = data.with_rows(np.arange(40)[::-1])
    else:
        data, pixels = scanned(**({"size": 96} if change == "size" else {"fit": "squash"}))
    features(data, pixels, other)
    assert other.network.asked == 2


@pytest.mark.parametrize(
    ("size", "fixed", "seen"), [(112, False, 112), (32, False, 96), (32, True, 128), (112, True, 128)]
)
def test_small_images_are_enlarged_and_a_network_of_fixed_size_gets_its_own(scanned, size, fixed, seen):
    found = features(*scanned(size=size), backbone(fixed_size=fixed))
    assert set(found[:, -1].tolist()) == {seen}


def test_the_cache_can_lie_elsewhere_and_a_broken_start_leaves_nothing(scanned, tmp_path, cache):
    data, pixels = scanned()

    class Broken(Means):
        def forward(self, images):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(data, pixels, backbone(network=Broken()), cache=tmp_path)
    assert list(tmp_path.rglob("*.npy")) == []
    features(data, pixels, backbone(), cache=tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 1
    assert not (cache / "features").exists()


def test_progress_counts_every_image(scanned):
    done = []

    class Counter(Silent):
        def track(self, label, total, unit="images"):
            done.append((label, total))
            return super().track(label, total, unit)

    features(*scanned(), backbone(), progress=Counter())
    assert done == [("Features of means", 40)]
