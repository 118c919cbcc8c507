import copy

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from discern.explanation.cam import grad_cam
from discern.models import zoo
from discern.models.convnet import ConvNet, ConvNetConfig


def network(name="mini-cnn", size=32, classes=3, seed=0):
    """A network whose batch norms have seen something, in inference mode."""
    torch.manual_seed(seed)
    model = zoo.build(name, classes=classes, size=size)
    model.train()(torch.randn(8, 3, size, size) * 2 + 0.5)
    return model.eval()


def reference(model, image, target):
    """Grad-CAM by its definition: a full backward pass with hooks, the rest in numpy and OpenCV."""
    seen = {}

    def keep(module, inputs, output):
        output.retain_grad()
        seen["maps"] = output

    handle = model.features.register_forward_hook(keep)
    model(image[None])[0, target].backward()
    handle.remove()
    model.zero_grad()
    maps, gradients = seen["maps"][0].detach().numpy(), seen["maps"].grad[0].numpy()
    heat = np.zeros(maps.shape[1:])
    for channel in range(len(maps)):
        heat += gradients[channel].mean() * maps[channel]
    heat = cv2.resize(np.maximum(heat, 0), image.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
    return heat / heat.max() if heat.max() > 0 else heat


@pytest.mark.parametrize("name", ["mini-cnn", "parts-cnn", "simple-cnn", "cifar-cnn", "cnn-basic"])
def test_the_map_is_that_of_a_full_backward_pass(name):
    model = network(name)
    images, targets = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 1])
    heat = grad_cam(model, images, targets)
    assert heat.shape == (4, 32, 32)
    assert any(h.max() > 0 for h in heat)
    for given, image, target in zip(heat, images, targets, strict=True):
        np.testing.assert_allclose(given, reference(model, image, int(target)), atol=1e-5)


def test_the_highest_value_is_one_and_the_lowest_at_least_zero():
    heat = grad_cam(network("parts-cnn"), torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2] * 2))
    assert heat.min() >= 0
    assert set(heat.amax(dim=(1, 2)).tolist()) <= {0.0, 1.0}


def test_a_batch_gives_what_each_image_gives_alone():
    model, images, targets = network(), torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    together = grad_cam(model, images, targets)
    for row in range(5):
        alone = grad_cam(model, images[row : row + 1], targets[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


def test_a_model_in_training_gives_the_same_map_and_is_not_changed():
    model, images, targets = network("cifar-cnn"), torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    expected, before, state = (
        grad_cam(model, images, targets),
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
    )
    model.train()
    model.features[2].eval()  # a frozen batch norm in a model that is being fine-tuned
    modes = [layer.training for layer in model.modules()]
    assert torch.equal(grad_cam(model, images, targets), expected)
    assert [layer.training for layer in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_is_restored_after_an_error_too():
    model = network().train()
    with pytest.raises(RuntimeError):
        grad_cam(model, torch.randn(1, 3, 32, 32), torch.tensor([7]))
    assert model.training


def test_it_works_where_gradients_are_off():
    model, images, targets = network(), torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    with torch.no_grad():
        heat = grad_cam(model, images, targets)
    assert torch.equal(heat, grad_cam(model, images, targets))
    assert not heat.requires_grad


def test_where_nothing_speaks_for_the_class_the_map_is_zero_and_not_nan():
    model = network()
    with torch.no_grad():
        model.head[-1].weight[0] = -1.0  # maps are not negative: every one of them speaks against class 0
        model.head[-1].weight[1] = 1.0
    heat = grad_cam(model, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert (heat[0] == 0).all()
    assert heat[1].max() == 1


def shapes(count, rng):
    """Grey noise with one 9-pixel square at a random place, red or blue; the masks of the squares; the colours."""
    pictures, masks = rng.normal(0, 0.5, (count, 3, 36, 36)).astype(np.float32), np.zeros((count, 36, 36), bool)
    labels = rng.integers(0, 2, count)
    for row, (x, y) in enumerate(rng.integers(0, 28, (count, 2))):
        masks[row, y : y + 9, x : x + 9] = True
        pictures[row, 2 * labels[row], masks[row]] += 2
    return torch.from_numpy(pictures), masks, torch.from_numpy(labels)


def test_the_heat_lies_where_the_evidence_is():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = ConvNet(ConvNetConfig(stages=((12,), (24,)), input_size=36, pool="avg"), classes=2, size=36)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        images, _, labels = shapes(32, rng)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    images, masks, labels = shapes(64, rng)
    model.eval()
    assert (model(images).argmax(1) == labels).float().mean() > 0.95, "the net has not learned the task"
    heat = grad_cam(model, images, labels).numpy()
    inside = (heat * masks).sum(axis=(1, 2)) / heat.sum(axis=(1, 2))
    area = masks.mean()  # 6 %: the share of the heat inside if it lay anywhere
    assert np.median(inside) > 5 * area
    assert (inside > 2 * area).mean() > 0.95
    peaks = heat.reshape(64, -1).argmax(1)
    assert masks.reshape(64, -1)[np.arange(64), peaks].mean() > 0.9, "the hottest pixel lies on the square"
    mirrored = (heat[:, :, ::-1] * masks).sum(axis=(1, 2)) / heat.sum(axis=(1, 2))
    assert np.median(inside) > 3 * np.median(mirrored)
