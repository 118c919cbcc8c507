"""What a frozen part gives for images: computed once for the same weights, preprocessing, views and content."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from discern.data.augment import Augmentation, warp_cpu
from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.data.streaming import images_of
from discern.models import zoo
from discern.models.backbones import Backbone
from discern.models.cutting import cuts
from discern.models.layers import trained
from discern.models.preprocessing import Preprocessing
from discern.progress import Silent
from discern.training import frozen as module
from discern.training.feeds import frozen_of
from discern.training.frozen import Frozen, Tap, activations, features, has_room
from discern.training.runtime import Arithmetic

VARIED = Augmentation(flip=0.5, shift=0.1, rotate=10.0, zoom=0.1)


class Counter(Silent):
    """Keeps what each piece of work was to be: what it is called, and how many rows."""

    def __init__(self):
        self.work = []

    def track(self, label, total, unit="images"):
        self.work.append((label, total))
        return super().track(label, total, unit)

    @property
    def rows(self):
        return sum(total for _, total in self.work)


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


def below(*what, seed=0, mean=0.5, **changes):
    """What is before the trained part of a small network (unless told, its head), and before others."""
    torch.manual_seed(seed)
    network = zoo.build("test_resnet", classes=2, size=64, changes={"weights": "none", **changes})
    network.train()(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed)))
    found = cuts(network.eval(), [trained(network, each) for each in what or ("head",)])
    preprocessing = Preprocessing(size=64, fit="pad", mean=(mean, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    return frozen_of(found, "test_resnet", preprocessing)


def computed(scanned, part, **options):
    """The activations, and how many rows of them were not there before."""
    (data, pixels), counter = scanned, Counter()
    found = activations(data, pixels, part, progress=counter, **options)
    return found, counter.rows


def assert_close(found, expected):
    """Equal up to the rounding of bfloat16, which some processors compute in."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 0.03 * theirs.abs().max()
        assert (ours - theirs).abs().mean() < 0.02 * theirs.std()


@torch.no_grad()
def direct(part, images):
    return part.part(part.normalize(torch.from_numpy(images)))[0]


def each(count):
    return np.arange(count), np.zeros(count, np.int64)


def test_a_row_for_every_image_in_the_order_of_the_table(scanned):
    data, pixels = scanned()
    found = features(data, pixels, backbone())
    assert (found.shape, found.dtype) == ((40, 13), np.float16)
    images = torch.from_numpy(pixels.take(data.index)).permute(0, 3, 1, 2).float() / 255
    expected = nn.functional.adaptive_avg_pool2d((images - 0.5) / 0.5, 2).flatten(1).numpy()
    np.testing.assert_allclose(found[:, :12], expected, atol=0.02)  # bfloat16
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(features(data.with_rows(order), pixels, backbone()), found[order])


def test_the_network_is_asked_once_for_the_same_images(scanned):
    data, pixels = scanned()
    found, again = features(data, pixels, backbone()), backbone()
    np.testing.assert_array_equal(features(data, pixels, again), found)
    np.testing.assert_array_equal(features(data.with_rows(np.arange(7, 20)), pixels, again), found[7:20])
    assert again.network.asked == 0


@pytest.mark.parametrize("change", ["weights", "network", "mean", "size", "fit"])
def test_anything_else_is_computed_anew(scanned, change):
    data, pixels = scanned()
    features(data, pixels, backbone())
    other, counter = backbone(), Counter()
    if change == "weights":
        other = backbone(weights="01")
    elif change == "network":
        other = backbone(name="medians")
    elif change == "mean":
        other = backbone(mean=(0.4, 0.5, 0.5))
    else:
        data, pixels = scanned(**({"size": 104} if change == "size" else {"fit": "squash"}))
    features(data, pixels, other, progress=counter)
    assert counter.work == [(f"Features of {other.name}", 40)]


@pytest.mark.parametrize(
    ("size", "fixed", "seen"), [(112, False, 112), (32, False, 96), (32, True, 128), (112, True, 128)]
)
def test_small_images_are_enlarged_and_a_network_of_fixed_size_gets_its_own(scanned, size, fixed, seen):
    found = features(*scanned(size=size), backbone(fixed_size=fixed))
    assert set(found[:, -1].tolist()) == {seen}


def test_the_cache_can_lie_elsewhere(scanned, tmp_path, cache):
    data, pixels = scanned()
    features(data, pixels, backbone(), cache=tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").rglob("values.f16"))) == 1
    assert not (cache / "features").exists()


@pytest.mark.parametrize("what", ["head", 2])
def test_activations_are_what_the_network_has_there(scanned, what):
    data, pixels = scanned(size=64)
    part = below(what)
    assert len(part.taps[0].shapes) == (1 if what == "head" else 2), "a residual connection passes by"
    found, rows = computed((data, pixels), part)
    assert (rows, found.views) == (40, 0)
    assert_close(found.take(*each(40)), direct(part, pixels.take(data.index)))
    some = np.array([9, 3, 3, 39])
    for ours, whole in zip(found.take(some, some * 0), found.take(*each(40)), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, whole[some])


def test_views_are_varied_as_training_would_vary_them_and_the_same_in_every_run(scanned, tmp_path):
    data, pixels = scanned(size=64)
    part, images = below(), pixels.take(data.index)
    found, rows = computed((data, pixels), part, augmentation=VARIED, views=3)
    assert (rows, found.views) == (40 * 4, 3)
    taken = [found.take(np.arange(40), np.full(40, view))[0] for view in range(4)]
    for view in (1, 2, 3):
        warped = warp_cpu(images, VARIED.affine(seed=0, epoch=view, keys=data.keys, size=64))
        assert_close([taken[view]], direct(part, warped))
        assert all((taken[view] - other).abs().amax(dim=1).min() > 0.01 for other in taken[:view])
    mixed = np.arange(40) % 4
    assert torch.equal(found.take(np.arange(40), mixed)[0], torch.stack(taken)[mixed, np.arange(40)])
    again, _ = computed((data, pixels), below(), augmentation=VARIED, views=3, cache=tmp_path / "another machine")
    assert_close([again.take(np.arange(40), mixed)[0]], [found.take(np.arange(40), mixed)[0]])


def test_only_the_images_that_are_to_be_varied_are(scanned):
    data = scanned(size=64)
    found, rows = computed(data, below(), augmentation=VARIED, views=2, varied=np.arange(40) % 4 == 0)
    assert rows == 40 + 2 * 10
    assert found.plain.at.shape == (40, 1)
    assert ((found.varied.at >= 0).all(axis=1) == (np.arange(40) % 4 == 0)).all()
    whole, more = computed(data, below(), augmentation=VARIED, views=2)
    assert more == 2 * 30, "of the others, and no row twice"
    varied, views = np.arange(0, 40, 4), np.full(10, 2)
    assert torch.equal(found.take(varied, views)[0], whole.take(varied, views)[0])


def test_a_new_image_costs_one_row(scanned, scenes, draw_scene):
    data, pixels = scanned(size=64)
    found, _ = computed((data, pixels), below(), augmentation=VARIED, views=2)
    draw_scene(999, 1, 96).save(data.root / "cat" / "new.jpg")
    shutil.copy(data.root / "cat" / "new.jpg", data.root / "dog" / "copy of new.jpg")
    data, pixels = scanned(size=64)
    assert len(data) == 42
    again, rows = computed((data, pixels), below(), augmentation=VARIED, views=2)
    assert rows == 3, "plain and in two views, and its copy not again"
    old = np.array([row for row, name in enumerate(data.images) if "new" not in name])
    assert torch.equal(again.take(old, old * 0)[0], found.take(*each(40))[0])
    new = np.array([row for row, name in enumerate(data.images) if "new" in name])
    assert_close(again.take(new, new * 0), direct(below(), pixels.take(data.index[new])))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"place": 1}, {"mean": 0.4}, {"pool": "avg"}, {"pool": "max"}, {"pool": "own"}]
)
def test_rows_of_other_weights_another_place_or_another_pool_are_others(scanned, change):
    """A pool has no weights: generalised means, which this network has unless told, once passed for averages."""
    place = [change["place"]] if "place" in change else []
    data, part = scanned(size=64), below(*place, **{key: value for key, value in change.items() if key != "place"})
    before, _ = computed(data, below())
    found, rows = computed(data, part)
    assert rows == 40
    assert_close(found.take(*each(40)), direct(part, data[1].take(data[0].index)))
    assert computed(data, below())[1] == 0
    assert torch.equal(computed(data, below())[0].take(*each(40))[0], before.take(*each(40))[0])


def test_the_same_weights_in_another_network_object_are_the_same(scanned):
    data = scanned(size=64)
    computed(data, below("head"))
    assert computed(data, below("head", dense=[8], dropout=0.5))[1] == 0, "the head is not in it"


def test_another_augmentation_has_views_of_its_own_and_shares_the_plain_rows(scanned):
    data = scanned(size=64)
    one, _ = computed(data, below(), augmentation=VARIED, views=2)
    other, rows = computed(data, below(), augmentation=replace(VARIED, rotate=30.0), views=2)
    assert rows == 40 * 2
    assert not torch.equal(one.take(np.arange(40), np.full(40, 1))[0], other.take(np.arange(40), np.full(40, 1))[0])
    assert torch.equal(one.take(*each(40))[0], other.take(*each(40))[0])
    assert computed(data, below(), augmentation=VARIED, views=1)[1] == 0


def test_streamed_images_share_the_rows_of_decoded_ones(scanned):
    data, pixels = scanned(size=64)
    found, _ = computed((data, pixels), below())
    streamed, stream, _ = images_of(open_dataset(data.root), size=64, fit="pad", kept="stream", progress=Silent())
    again, rows = computed((streamed, stream), below(), augmentation=VARIED, views=1)
    assert rows == 40
    assert torch.equal(again.take(*each(40))[0], found.take(*each(40))[0])
    warped = warp_cpu(pixels.take(data.index), VARIED.affine(seed=0, epoch=1, keys=data.keys, size=64))
    assert_close(again.take(np.arange(40), np.full(40, 1)), direct(below(), warped))


def test_an_interrupted_work_keeps_the_rows_it_has(scanned, monkeypatch):
    monkeypatch.setattr(module, "_IMAGES", 8)
    data, threads = scanned(size=64), torch.get_num_threads()

    class Stopped(Counter):
        def track(self, label, total, unit="images"):
            self.work.append((label, total))
            return self

        def __enter__(self):
            self.left = 3
            return self.advance

        def __exit__(self, *error):
            return None

        def advance(self, done, note):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        activations(*data, below(), progress=Stopped())
    assert torch.get_num_threads() == threads
    found, rows = computed(data, below())
    assert rows == 40 - 3 * 8
    assert_close(found.take(*each(40)), direct(below(), data[1].take(data[0].index)))


def test_values_that_float16_cannot_hold_stay_finite(scanned):
    class Huge(nn.Module):
        def forward(self, images):
            return ((torch.full((len(images), 2), 1e9) * torch.tensor([1.0, -1.0]),),)

    taps = (Tap(key="huge", shapes=((2,),)),)
    frozen = Frozen(part=Huge(), taps=taps, name="huge", normalize=below().normalize, preprocessing="")
    found, _ = computed(scanned(size=64), frozen)
    assert set(found.take(*each(40))[0].unique().tolist()) == {-65504.0, 65504.0}


def test_there_is_room_as_long_as_half_of_what_is_free_stays_so(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=4_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage)
    assert has_room(20, 49, cache=tmp_path / "not" / "made yet")
    assert not has_room(20, 50, cache=tmp_path)


def test_several_taps_are_kept_in_one_pass_and_give_what_each_gives_alone(scanned, tmp_path):
    data = scanned(size=64)
    both, options = below("head", 0.5), {"augmentation": VARIED, "views": 2}
    assert len(both.taps) == 2
    found, rows = computed(data, both, **options)
    assert rows == 40 * 3
    inner, again = computed(data, below(0.5), **options)
    assert again == 0, "kept along with the features"
    alone, _ = computed(data, below(), **options, cache=tmp_path / "alone")
    deeper, _ = computed(data, below(0.5), **options, cache=tmp_path / "alone")
    for view in range(3):
        of = np.arange(40), np.full(40, view)
        assert_close(found.take(*of), alone.take(*of))
        assert_close(inner.take(*of), deeper.take(*of))


def test_a_second_tap_that_is_kept_in_part_is_not_kept_twice(scanned):
    (data, pixels), both = scanned(size=64), below("head", 0.5)
    some = data.with_rows(np.arange(10))
    computed((some, pixels), below(0.5))
    before, _ = computed((some, pixels), below(0.5))
    computed((data, pixels), both)
    inner, rows = computed((data, pixels), below(0.5))
    assert rows == 0
    assert len(inner.plain.values) == 40
    assert all(map(torch.equal, inner.take(*each(10)), before.take(*each(10))))


def test_more_views_cost_only_what_is_new(scanned):
    data = scanned(size=64)
    two, _ = computed(data, below(), augmentation=VARIED, views=2)
    three, rows = computed(data, below(), augmentation=VARIED, views=3)
    assert rows == 40
    for view in range(3):
        of = np.arange(40), np.full(40, view)
        assert torch.equal(two.take(*of)[0], three.take(*of)[0])


def test_rows_of_one_part_have_one_arithmetic_however_quick_another_becomes(scanned, monkeypatch):
    data, both, asked = scanned(size=64), below("head", 0.5), []
    for precision in ("float32", "bfloat16"):
        answer = Arithmetic(precision=precision, channels_last=True)
        monkeypatch.setattr(module, "forward_arithmetic", lambda *a, answer=answer: asked.append(answer) or answer)
        first, _ = computed(data, both, augmentation=VARIED, views=1)
        assert computed(data, below(0.5), augmentation=VARIED, views=1)[1] == 0, "kept in the same pass"
        assert_close(first.take(*each(40)), direct(below(), data[1].take(data[0].index)))
    assert [each.precision for each in asked] == ["float32"], "measured once"
