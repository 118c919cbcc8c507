import pytest
import torch
from torch import nn

from discern.errors import UsageError
from discern.models import zoo
from discern.models.fastnet import FastNet, FastNetConfig


def fast(size=32, classes=10, **options):
    torch.manual_seed(0)
    return FastNet(FastNetConfig(**options), classes=classes, size=size)


def photos(count=40, size=20, seed=0):
    """Images as photos are: neighbours and channels are alike, the mean is not zero."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, 3, size, size, generator=generator)
    rough += 2 * torch.randn(count, 1, size, size, generator=generator)
    return nn.functional.avg_pool2d(rough, 3, stride=1, padding=1) * torch.tensor([1.0, 0.6, 1.4])[:, None, None] + 0.4


def whitened(model, images):
    """What the first convolution makes of every patch, without its negatives, in rows."""
    return model.features[0](images)[:, :12].transpose(0, 1).flatten(1).double()


def test_after_seeing_images_the_first_convolution_whitens_patches_like_theirs():
    model, seen, others = fast(), photos(seed=1), photos(seed=2)
    model.fit_inputs(seen)
    for images, tolerance in ((seen, 0.06), (others, 0.1)):  # the floor takes 5 % from the least of directions
        rows = whitened(model, images)
        torch.testing.assert_close(torch.cov(rows), torch.eye(12).double(), atol=tolerance, rtol=0)
        torch.testing.assert_close(rows.mean(1), torch.zeros(12).double(), atol=tolerance, rtol=0)
    everything = model.features[0](seen)
    torch.testing.assert_close(everything[:, 12:], -everything[:, :12])


def test_the_filters_do_not_depend_on_the_portion_the_scale_or_the_memory_order(monkeypatch):
    images = photos()
    model = fast()
    model.fit_inputs(images)
    again = fast().to(memory_format=torch.channels_last)
    monkeypatch.setattr("discern.models.fastnet._PORTION", 1500)
    again.fit_inputs(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(again.features[0].weight, model.features[0].weight, atol=1e-5, rtol=1e-4)
    assert again.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    again.fit_inputs(images * 100 - 7)
    torch.testing.assert_close(whitened(again, images * 100 - 7), whitened(model, images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("images", [torch.zeros(5, 3, 9, 9), torch.randn(50, 1, 9, 9).repeat(1, 3, 1, 1)])
def test_images_without_colour_or_anything_at_all_do_no_harm(images):
    model = fast()
    model.fit_inputs(images)
    rows = whitened(model, images)
    assert torch.isfinite(rows).all()
    assert rows.abs().max() < 10


def test_training_leaves_the_whitening_filters_and_the_norms_scales_alone():
    model = fast(widths=(8, 8)).train()
    model.fit_inputs(photos())
    fixed = {key: p.clone() for key, p in model.named_parameters() if not p.requires_grad}
    assert set(fixed) == {
        "features.0.weight",
        *(f"features.{n}.weight" for n, layer in enumerate(model.features) if isinstance(layer, nn.BatchNorm2d)),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(photos(8, 32)).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(fixed[key], p) for key, p in model.named_parameters() if key in fixed)


def test_every_filter_begins_as_the_identity():
    maps = torch.randn(2, 24, 8, 8)
    model = fast()
    first = next(layer for layer in list(model.features)[2:] if isinstance(layer, nn.Conv2d))
    assert torch.equal(first(maps)[:, :24], maps)
    assert first(maps)[:, 24:].std() > 0.1


def test_logits_are_small_at_first_by_the_scale():
    small, full = fast(scale=0.1).eval(), fast(scale=1).eval()
    images = photos(4, 32)
    torch.testing.assert_close(small(images), full(images) * 0.1)


@pytest.mark.parametrize(("widths", "parameters"), [((64, 128, 256), 1_161_272), ((64, 256, 256), 1_972_792)])
def test_the_widths_of_a_cpu_and_of_a_gpu(widths, parameters):
    assert zoo.describe("fast-cnn", classes=10, changes={"widths": widths})["parameters"] == parameters


@pytest.mark.parametrize(("widths", "least"), [((4,), 3), ((4, 4, 4), 9), ((4, 4, 4, 4), 17)])
def test_too_small_a_size_is_refused_with_a_sentence(widths, least):
    assert fast(least, widths=widths).eval()(torch.randn(1, 3, least, least)).shape == (1, 10)
    with pytest.raises(UsageError, match=f"Images of {least - 1} pixels are too small .* larger size"):
        fast(least - 1, widths=widths)


def test_it_learns_a_simple_task_in_twenty_steps():
    generator = torch.Generator().manual_seed(0)

    def batch(count):
        labels = torch.randint(3, (count,), generator=generator)
        images = torch.randn(count, 3, 16, 16, generator=generator)
        images[torch.arange(count), labels, 4:10, 4:10] += 1.5
        return images, labels

    model = fast(16, 3, widths=(16, 16)).train()
    model.fit_inputs(batch(200)[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(20):
        images, labels = batch(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = batch(300)
    assert (model.eval()(images).argmax(1) == labels).float().mean() > 0.9
